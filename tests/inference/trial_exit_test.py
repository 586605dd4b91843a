# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  thinking_policies,
  thinking_span,
  thoughts,
  trial_exit,
)
from jaxttc.inference import thinker as thinker_lib
from jaxttc.tasks import digit_sums

_GREEDY = controllers.Sampler(temperature=0)
_DIGITS = ([3, 4], [2, 5, 9], [6, 1, 8, 7])


@pytest.fixture(scope="module")
def policy():
  return bundle_lib.load("thinking_lm")


def _prompts(policy, digits=_DIGITS):
  texts = [
    digit_sums.prompt(digit_sums.problem(d)).removesuffix("<think>")
    for d in digits
  ]
  return [thinking_span.prompt(policy.tokenizer, text) for text in texts]


def _exit(policy, threshold, **fields):
  fields = {"limit": 60, "sampler": _GREEDY} | fields
  return trial_exit.TrialExit(policy, threshold=threshold, **fields)


def test_without_a_sure_trial_it_is_the_cap(policy):
  budgets = np.array([50, 6, 50])
  found = _exit(policy, 1.0)(_prompts(policy), budgets, jax.random.key(0))
  capped = thinking_policies.hard_cap(end=policy.tokenizer.end_think_id)
  whole = capped.thinker(policy, limit=60, sampler=_GREEDY)(
    _prompts(policy), budgets, jax.random.key(0)
  )
  assert "early_exit" not in found.finish
  assert found.finish == whole.finish
  np.testing.assert_array_equal(found.tokens, whole.tokens)
  np.testing.assert_array_equal(found.spent, whole.spent)
  # A trial is a digit and a line end; one is made after each line in time.
  np.testing.assert_array_equal(found.overhead, [2 * 2, 0, 4 * 2])
  np.testing.assert_array_equal(found.runs, [5, 1, 9])
  assert (found.read > whole.read).tolist() == [True, False, True]


def test_a_sure_trial_closes_and_is_forgotten(policy):
  prompts = _prompts(policy)
  found = _exit(policy, 0.9)(prompts, np.full(3, 50), jax.random.key(0))
  end = policy.tokenizer.end_think_id
  for row, prompt in enumerate(prompts):
    if found.finish[row] != "early_exit":
      continue
    tokens = found.tokens[row, : found.length[row]].tolist()
    assert tokens.count(end) == 1
    assert tokens.index(end) + 1 == found.spent[row]
    # The answer is what the model says of the shortened thought alone.
    cut = [*prompt, *tokens[: found.spent[row]]]
    free = thinker_lib.Thinker(
      policy, lambda b: controllers.identity(), limit=20, sampler=_GREEDY
    )
    alone = free([cut], np.array([20]), jax.random.key(0))
    answer = alone.tokens[0, : alone.length[0]].tolist()
    assert tokens[found.spent[row] :] == answer
  full = _exit(policy, 1.0)(prompts, np.full(3, 50), jax.random.key(0))
  assert "early_exit" in found.finish
  assert (found.spent <= full.spent).all() and found.finished.all()


def test_a_low_threshold_exits_at_the_first_line_end(policy):
  found = _exit(policy, 1e-6)(
    _prompts(policy), np.full(3, 50), jax.random.key(0)
  )
  assert set(found.finish) == {"early_exit"}
  newline = policy.tokenizer.newline_id
  for row, spent in zip(found.tokens, found.spent, strict=True):
    assert (row[:spent] == newline).sum() == 1 and row[spent - 2] == newline


def test_rows_do_not_depend_on_their_mates(policy):
  prompts, key = _prompts(policy), jax.random.key(3)
  keys = thoughts.row_keys(key, 3)
  made = _exit(policy, 0.95, sampler=controllers.Sampler())
  found = made(prompts, np.full(3, 30), key)
  alone = made([prompts[1]], np.full(1, 30), keys[1:2])
  np.testing.assert_array_equal(alone.tokens[0], found.tokens[1])
  assert alone.finish[0] == found.finish[1]
  assert alone.overhead[0] == found.overhead[1]


def test_what_cannot_be(policy):
  with pytest.raises(ValueError, match="threshold is 0"):
    _exit(policy, 0.0)
  with pytest.raises(ValueError, match="trials of 22 tokens exceed the"):
    _exit(policy, 0.5, limit=240)(
      _prompts(policy), np.full(3, 9), jax.random.key(0)
    )
  with pytest.raises(ValueError, match="budgets of shape"):
    _exit(policy, 0.5)(_prompts(policy), np.full(2, 9), jax.random.key(0))
