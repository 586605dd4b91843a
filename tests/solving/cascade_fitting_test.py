# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.solving import (
  arm_tables,
  budget_policies,
  cascade_fitting,
  policy_replay,
)

_ARMS = tuple(
  budget_policies.Arm(text, cap)
  for text, cap in (("best_of_n(n=1)", 20), ("astar(children=2)", 80))
)


def _table(seed=0, rows=80, telling=True):
  """A cheap arm and a dear one; the reward tells right from wrong, or not."""
  rng = np.random.default_rng(seed)
  chance = np.stack([np.full(rows, 0.4), np.full(rows, 0.7)], 1)
  right = (rng.random((3, rows, 2)) < chance).astype(float)
  reward = 0.05 + 0.9 * right if telling else rng.random(right.shape)
  one = np.ones(right.shape)
  tokens = np.broadcast_to([18.0, 70.0], right.shape)
  return arm_tables.ArmTable(
    _ARMS,
    tuple(f"question {row}" for row in range(rows)),
    right,
    tokens,
    (0, 1, 2),
    np.stack([tokens / 10, tokens, tokens * 1e6], -1),
    np.stack([reward, one, one, one], -1),
  )


def _guess(rows=80):
  return budget_policies.Predicted(
    np.tile([0.4, 0.7], (rows, 1)), np.tile([18.0, 70.0], (rows, 1))
  )


def _options(**changes):
  values = {"budgets": (60.0,), "discounts": (1.0, 0.3), "wave": 16}
  return cascade_fitting.CascadeOptions(**{**values, **changes})


def test_a_cascade_is_chosen_where_answers_tell_how_good_they_are():
  found = cascade_fitting.choose(_table(), _guess(), np.arange(2), _options())
  assert found.cascade is not None and found.cascade.tries == 3
  assert found.scores["router"] == min(found.scores.values())
  assert len(found.scores) == 3
  blind = cascade_fitting.choose(
    _table(telling=False), _guess(), np.arange(2), _options(enough=0.02)
  )
  assert blind.cascade is None


def test_further_tries_are_replayed_with_the_next_seed():
  table, guess = _table(), _guess()
  cascade = cascade_fitting.choose(
    table, guess, np.arange(2), _options(choose="always")
  ).cascade
  rows = len(table.questions)
  replayed = policy_replay.replay(
    guess, table, [60.0], 16, cascades=[cascade] * rows
  )
  assert replayed.overspent <= 1 and replayed.tries.max() == 3
  alone = policy_replay.replay(guess, table, [60.0], 16)
  assert replayed.right.mean() > alone.right.mean() + 0.03
  assert alone.tries.max() == 1
  twice = np.argwhere(replayed.tries[0] == 2)
  assert len(twice)
  for seed, row in twice[:20]:
    arm, after = replayed.arms[0, seed, row], (seed + 1) % 3
    spent = replayed.spent[0, seed, row] - table.tokens[after, row, arm]
    # The first try was of the cheap arm or of the dear one.
    assert spent in (18.0, 70.0)
    if replayed.right[0, seed, row]:
      firsts = table.right[seed, row, [0, 1]]
      assert table.right[after, row, arm] or firsts.any()


def test_other_fields_are_kept_to():
  table = _table()
  laws = policy_replay.cost_laws.fit(
    arm_tables.FIELDS,
    table.tokens.reshape(-1, 2) + np.arange(240)[:, None] % 3,
    table.costs.reshape(-1, 2, 3),
  )
  limits = {"verifier_calls": 4, "flops": 3e7}
  replayed = policy_replay.replay(_guess(), table, [limits], 16, laws=laws)
  assert 0.9 < replayed.overspent <= 1
  # What exceeds its arm's limit counts as lost, and costs all of it.
  tight = laws._replace(limits=laws.limits * 0.5)
  cut = policy_replay.replay(_guess(), table, [limits], 16, laws=tight)
  assert cut.right.sum() == 0 and cut.overspent <= 1


def test_a_cascade_knows_its_arms_in_a_wider_table():
  found = cascade_fitting.choose(
    _table(), _guess(), np.arange(2), _options(choose="always")
  )
  wide = cascade_fitting.widened(found.cascade, np.array([1, 3]), 5)
  np.testing.assert_array_equal(wide.looked, [False, True, False, True, False])
  assert cascade_fitting.widened(None, np.array([1]), 5) is None


def test_without_looks_there_is_no_cascade():
  table = _table()._replace(seen=None)
  assert not table.looked.any()
  found = cascade_fitting.choose(table, _guess(), np.arange(2), _options())
  assert found.cascade is None and found.scores == {}
  with pytest.raises(ValueError, match="expected searches that say what"):
    cascade_fitting.choose(
      table, _guess(), np.arange(2), _options(choose="always")
    )


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(choose="maybe"), "cascade.choose='maybe' is not one of best"),
    (dict(tries=1), "cascade.tries >= 2"),
    (dict(discounts=(0.0,)), "cascade.discounts=.* must lie in"),
    (dict(budgets=()), "cascade.budgets"),
  ],
)
def test_options_that_cannot_be_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(_options(), **change).check()
