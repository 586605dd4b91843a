# SPDX-License-Identifier: Apache-2.0
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import guidance, suppression, thinking_policies
from jaxttc.tasks import digit_sums

_END = 4
_BUDGETS = np.array([1, 4, 10, 18, 25, 50])


@pytest.fixture(scope="module")
def policy():
  return bundle_lib.load("thinking_lm")


def _think(policy, made, budgets=_BUDGETS):
  rng = random.Random(1)
  words = policy.tokenizer
  mode = "think" if made.thinks else "at_once"
  prompts = [
    [
      words.bos_id,
      *words.encode(
        digit_sums.prompt(digit_sums.generate(rng, 3), made.style, mode),
        specials=True,
      ),
    ]
    for _ in budgets
  ]
  thinker = made.thinker(policy, limit=64)
  return thinker(prompts, budgets, jax.random.key(0))


def _lines(policy):
  return guidance.line_tokens(policy.tokenizer)


def _words(policy):
  return suppression.reflection_tokens(policy.tokenizer)


def _exit(policy, sure, threshold=0.5):
  return thinking_policies.early_exit(
    lambda hidden: jnp.full(hidden.shape[0], sure),
    threshold=threshold,
    end=_END,
    lines=_lines(policy),
    vocab_size=policy.config.vocab_size,
  )


def test_capped_policies_never_overspend(policy):
  wait = [policy.tokenizer.id_of("Wait")]
  chance = lambda hidden, ids, left: jnp.zeros(  # noqa: E731
    (hidden.shape[0], policy.config.vocab_size)
  )
  for made in (
    thinking_policies.hard_cap(end=_END),
    thinking_policies.forced(end=_END, wait=wait, least_share=1.0, ignores=2),
    thinking_policies.hinted(end=_END),
    thinking_policies.guided(chance, end=_END, lines=_lines(policy)),
    thinking_policies.no_wait(end=_END, words=_words(policy)),
    thinking_policies.soft_close(end=_END, lines=_lines(policy)),
  ):
    found = _think(policy, made)
    assert (found.spent <= _BUDGETS).all(), made.name
    assert found.closed.all(), made.name


def test_an_early_end_is_ignored_once(policy):
  wait = policy.tokenizer.id_of("Wait")
  forced = thinking_policies.forced(
    end=_END, wait=[wait], least_share=1.0, ignores=1
  )
  found = _think(policy, forced, np.full(3, 60))
  assert ((found.tokens == wait).sum(axis=1) == 1).all()
  full = _think(policy, thinking_policies.full(), np.full(3, 60))
  assert not (full.tokens == wait).any()


def test_an_empty_span_is_answered_at_once(policy):
  found = _think(policy, thinking_policies.no_thinking(), np.full(3, 60))
  assert (found.spent == 0).all() and set(found.finish) == {"disabled"}
  marker = policy.tokenizer.answer_marker_id
  assert (found.tokens[:, 0] == marker).all()


def test_confidence_closes_the_span(policy):
  sure = _think(policy, _exit(policy, 1.0))
  np.testing.assert_array_equal(sure.spent, 1)
  unsure = _think(policy, _exit(policy, 0.0))
  capped = _think(policy, thinking_policies.hard_cap(end=_END))
  np.testing.assert_array_equal(unsure.tokens, capped.tokens)


def test_a_probe_is_logistic():
  probe = thinking_policies.linear_confidence(jnp.array([1.0, -2.0]), 0.5)
  hidden = jnp.array([[[9.0, 9.0], [1.0, 1.0]], [[0.0, 0.0], [3.0, 0.0]]])
  np.testing.assert_allclose(
    probe(hidden), 1 / (1 + np.exp([0.5, -3.5])), rtol=1e-6
  )


def test_shares_that_cannot_be():
  with pytest.raises(ValueError, match="least_share is 1.5"):
    thinking_policies.forced(end=_END, wait=[7], least_share=1.5, ignores=1)


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_thresholds_that_cannot_be(policy, threshold):
  with pytest.raises(ValueError, match="expected more than 0, up to 1"):
    _exit(policy, 1.0, threshold)


def test_no_wait_checks_nothing_and_is_shorter(policy):
  budgets = np.full(16, 60)
  full = _think(policy, thinking_policies.full(), budgets)
  kept = _think(
    policy,
    thinking_policies.no_wait(end=_END, words=_words(policy)),
    budgets,
  )
  check = policy.tokenizer.id_of(" check")
  assert (full.tokens == check).any() and not (kept.tokens == check).any()
  assert kept.closed.all() and set(kept.finish) == {"natural"}
  assert kept.spent.mean() < full.spent.mean()


def test_a_soft_close_comes_before_the_cap(policy):
  budgets = np.full(16, 12)
  soft = thinking_policies.soft_close(
    end=_END, lines=_lines(policy), soft_ratio=0.5, slope=4.0
  )
  found = _think(policy, soft, budgets)
  assert (found.spent <= 12).all() and "soft" in found.finish
  graceful = thinking_policies.soft_close(
    end=_END, lines=_lines(policy), slope=0.0, grace=6
  )
  found = _think(policy, graceful, budgets)
  assert (found.spent <= 18).all() and (found.spent > 12).any()
  newline = policy.tokenizer.newline_id
  for row, spent, how in zip(
    found.tokens, found.spent, found.finish, strict=True
  ):
    if how == "forced" and spent < 18:
      assert row[spent - 2] == newline
  with pytest.raises(ValueError, match="grace is -1"):
    thinking_policies.soft_close(end=_END, lines=_lines(policy), grace=-1)


def test_how_spans_end(policy):
  found = _think(policy, thinking_policies.hard_cap(end=_END))
  for how, spent, budget in zip(
    found.finish, found.spent, _BUDGETS, strict=True
  ):
    assert how == ("forced" if spent == budget else "natural")
  assert {"forced", "natural"} == set(found.finish)
