# SPDX-License-Identifier: Apache-2.0
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, guidance, last_states
from jaxttc.inference import thinker as thinker_lib
from jaxttc.models import transformer
from jaxttc.tasks import digit_sums

_GREEDY = controllers.Sampler(temperature=0)


def _free(budgets):
  del budgets
  return controllers.identity()


@pytest.fixture(scope="module")
def policy():
  return bundle_lib.load("thinking_lm")


@pytest.fixture(scope="module")
def prompts(policy):
  rng = random.Random(3)
  words = policy.tokenizer
  return [
    words.encode_prompt("")
    + words.encode(
      digit_sums.prompt(digit_sums.generate(rng, steps)), specials=True
    )
    for steps in (2, 3, 4)
  ]


def _whole(found, prompts):
  return [
    [*prompt, *row[:n].tolist()]
    for prompt, row, n in zip(prompts, found.tokens, found.length, strict=True)
  ]


def test_greedy_thoughts_are_the_models_own_choices(policy, prompts):
  thinker = thinker_lib.Thinker(policy, _free, limit=56, sampler=_GREEDY)
  found = thinker(prompts, np.full(3, 99), jax.random.key(0))
  for prompt, text in zip(prompts, _whole(found, prompts), strict=True):
    ids = jnp.array([text])
    logits = transformer.forward(
      policy.model,
      policy.params,
      ids,
      jnp.ones_like(ids),
      jnp.arange(ids.size)[None],
    )
    chosen = np.argmax(logits[0, len(prompt) - 1 : -1], axis=-1)
    np.testing.assert_array_equal(chosen, text[len(prompt) :])
  ends = policy.tokenizer.end_think_id
  for row, spent in zip(found.tokens, found.spent, strict=True):
    assert row[spent - 1] == ends and found.closed.all()


def test_the_loop_shows_the_hidden_states_of_all_layers(policy, prompts):
  seen = []

  def chance(hidden, candidates, remaining):
    jax.debug.callback(lambda h: seen.append(np.array(h)), hidden)
    return jnp.zeros((hidden.shape[0], policy.config.vocab_size))

  make = lambda b: guidance.guidance(  # noqa: E731
    chance, budget=b, end=4, lines=[9], every_token=True
  )
  thinker = thinker_lib.Thinker(policy, make, limit=6, sampler=_GREEDY)
  found = thinker(prompts, np.full(3, 50), jax.random.key(0))
  jax.effects_barrier()
  texts = _whole(found, prompts)
  for step, shown in enumerate(seen):
    cut = [
      text[: len(prompt) + step]
      for text, prompt in zip(texts, prompts, strict=True)
    ]
    logits, hidden = last_states.next_token(policy, cut)
    np.testing.assert_allclose(shown, hidden, rtol=1e-3, atol=1e-4)
    assert logits.shape == (3, policy.config.vocab_size)
  assert len(seen) == 6


def test_a_rows_budget_is_its_own_and_nothing_recompiles(policy, prompts):
  thinker = thinker_lib.Thinker(
    policy, lambda b: guidance.cap(b, end=4), limit=56
  )
  key = jax.random.key(5)
  first = thinker(prompts, np.array([3, 9, 20]), key)
  assert (first.spent <= [3, 9, 20]).all() and first.closed.all()
  second = thinker(prompts, np.array([3, 40, 20]), key)
  np.testing.assert_array_equal(first.tokens[0], second.tokens[0])
  np.testing.assert_array_equal(first.tokens[2], second.tokens[2])
  assert second.spent[1] >= first.spent[1]
  assert thinker.compilations == 1
  assert first.texts(policy)[0].count("</think>") == 1


@pytest.mark.parametrize(
  ("budgets", "message"),
  [
    (np.array([0, 5, 5]), "expected integers >= 1"),
    (np.array([1.5, 5, 5]), "expected integers >= 1"),
    (np.array([5, 5]), "budgets of shape \\(2,\\) for 3 prompts"),
  ],
)
def test_budgets_that_cannot_be(policy, prompts, budgets, message):
  thinker = thinker_lib.Thinker(policy, _free, limit=8)
  with pytest.raises(ValueError, match=message):
    thinker(prompts, budgets, jax.random.key(0))
  assert thinker.compilations == 0


def test_prompts_that_cannot_be(policy):
  thinker = thinker_lib.Thinker(policy, _free, limit=8)
  with pytest.raises(ValueError, match="an empty prompt"):
    thinker([[1], []], np.array([3, 3]), jax.random.key(0))
  with pytest.raises(ValueError, match="exceed the model's 256"):
    thinker([[1] * 250], np.array([3]), jax.random.key(0))
  with pytest.raises(ValueError, match="limit is 0"):
    thinker_lib.Thinker(policy, _free, limit=0)
