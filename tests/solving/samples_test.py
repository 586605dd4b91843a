# SPDX-License-Identifier: Apache-2.0
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.decoders import tree as tree_lib
from jaxttc.runtime import search
from jaxttc.solving import samples as samples_lib
from jaxttc.tasks import arithmetic


def by_pairs(rewards, labels):
  pairs = [
    (a > b) + 0.5 * (a == b)
    for a, right in zip(rewards, labels, strict=True)
    for b, other in zip(rewards, labels, strict=True)
    if right and not other
  ]
  return np.mean(pairs)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2))
def test_auc_is_the_share_of_pairs_in_order(rows):
  rewards, labels = zip(*rows, strict=True)
  if all(labels) or not any(labels):
    with pytest.raises(ValueError, match="right and wrong"):
      samples_lib.step_auc(np.array(rewards), np.array(labels))
  else:
    found = samples_lib.step_auc(np.array(rewards), np.array(labels))
    assert found == pytest.approx(by_pairs(rewards, labels))


@pytest.mark.parametrize(
  ("rewards", "labels", "message"),
  [
    ([0.1, np.nan], [True, False], "NaN"),
    ([0.1, 0.2, 0.3], [True, False], "expected rewards"),
    ([], [], "one kind"),
  ],
)
def test_auc_refuses(rewards, labels, message):
  with pytest.raises(ValueError, match=message):
    samples_lib.step_auc(np.array(rewards), np.array(labels))


def pool(**changes):
  """Two problems, four samples each; one sample has not finished."""
  values = {
    "drawn": 4,
    "problem": np.array([0, 0, 0, 0, 1, 1, 1], np.int32),
    "answer": np.array([0, 1, 1, -1, 0, 0, 1], np.int32),
    "correct": np.array([1, 0, 0, 0, 1, 1, 0], bool),
    "reward": np.array([0.9, 0.2, 0.3, 0.1, 0.3, 0.4, 0.8], np.float32),
    "step_problem": np.array([0, 0, 1, 1], np.int32),
    "step_reward": np.array([0.9, 0.2, 0.6, 0.7], np.float32),
    "step_right": np.array([1, 0, 1, 0], bool),
    "count": 2,
  }
  return samples_lib.Samples(**{**values, **changes})


def enumerated(samples, k):
  """Mean over all subsets of k samples, for each estimator."""
  totals = {"pass": [], "majority": [], "best_of_n": []}
  for problem in range(samples.count):
    own = np.flatnonzero(samples.problem == problem).tolist()
    own += [None] * (samples.drawn - len(own))
    for subset in itertools.combinations(own, k):
      found = [i for i in subset if i is not None]
      right = [bool(samples.correct[i]) for i in found]
      totals["pass"].append(any(right))
      votes = [samples.answer[i] for i in found if samples.answer[i] >= 0]
      most = max(map(votes.count, votes), default=0)
      winners = {v for v in votes if votes.count(v) == most}
      won = [
        samples.correct[(samples.problem == problem) & (samples.answer == w)][0]
        for w in winners
      ]
      totals["majority"].append(np.mean(won) if won else 0.0)
      best = max(found, key=lambda i: samples.reward[i], default=None)
      totals["best_of_n"].append(
        best is not None and bool(samples.correct[best])
      )
  return {name: np.mean(values) for name, values in totals.items()}


def test_curves_are_the_mean_over_all_subsets():
  rows = samples_lib.curves(pool())
  assert sorted({row["k"] for row in rows}) == [1, 2, 4]
  for row in rows:
    want = enumerated(pool(), row["k"])[row["estimator"]]
    assert row["value"] == pytest.approx(want), row
    assert row["low"] <= row["value"] <= row["high"]


def test_auc_interval_resamples_problems():
  found = samples_lib.auc_interval(pool())
  assert found.value == samples_lib.step_auc(
    pool().step_reward, pool().step_right
  )
  assert found.low <= found.value <= found.high
  everything = pool(step_right=np.ones(4, bool))
  assert samples_lib.auc_interval(everything) is None


def test_collect_grades_steps_and_solutions():
  problem = arithmetic.problem(0, family="modular", steps=2, split="test")
  first, second, answer = arithmetic.solution(problem, "terse").splitlines(True)
  wrong = "#### 1000\n"
  status = tree_lib.Status
  record = search.TreeRecord(
    parent=np.array([-1, 0, 0, 1, 3]),
    reward=np.array([1, 0.8, 0.1, 0.7, 0.6], np.float32),
    status=np.array(
      [
        status.CLOSED,
        status.CLOSED,
        status.FINISHED,
        status.CLOSED,
        status.FINISHED,
      ]
    ),
    answer=np.array([-1, -1, 5, -1, 6]),
    expanded_at=np.zeros(5),
    weight=np.zeros(5),
    text=["", first, wrong, second, answer],
    chosen=4,
  )
  result = search.SearchResult(
    problem=0, completion="", cost=None, stop="done", rounds=3, tree=record
  )
  found = samples_lib.collect([problem], [result], 3)
  assert found.correct.tolist() == [False, True]
  assert found.answer.tolist() == [0, 1]
  assert found.step_right.tolist() == [True, False, True, True]
  np.testing.assert_allclose(found.step_reward, [0.8, 0.1, 0.7, 0.6])
  assert (found.drawn, found.count) == (3, 1)
