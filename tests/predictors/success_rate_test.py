# SPDX-License-Identifier: Apache-2.0
"""Success rates from rewards, against lists kept by hand."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import checkpoints
from jaxttc.predictors import success_rate

_TASKS, _ROWS, _WINDOW = 4, 12, 5
_VISITS = st.lists(
  st.lists(st.lists(st.integers(0, 1), max_size=6), min_size=2, max_size=2),
  min_size=1,
  max_size=5,
)


def _batch(groups):
  """Rows of two tasks, padded; their task and rank."""
  task = [i for i, group in enumerate(groups) for _ in group]
  rank = [k for group in groups for k in range(len(group))]
  rewards = [float(r) for group in groups for r in group]
  pad = _ROWS - len(task)
  return (
    jnp.array(task + [2] * pad, jnp.int32),
    jnp.array(rank + list(range(pad)), jnp.int32),
    jnp.array(rewards + [1.0] * pad, jnp.float32),
  )


def _tracker(estimator):
  made = success_rate.tracker(
    estimator, window=_WINDOW, min_count=3, decay=0.5, prior=(1.0, 2.0)
  )
  return made, jax.jit(made.update)


_TRACKERS = {name: _tracker(name) for name in success_rate.ESTIMATORS}


def _by_hand(estimator, visits):
  """Estimate of one task from its lists of rewards, one a visit."""
  visits = [visit for visit in visits if visit]
  every = [r for visit in visits for r in visit]
  won = lost = 0.0
  for visit in visits:
    won = 0.5 * won + sum(visit)
    lost = 0.5 * lost + len(visit) - sum(visit)
  if estimator == "beta_posterior":
    return (won + 1) / (won + lost + 3)
  if not every:
    return 0.0
  if estimator == "ema":
    return won / (won + lost)
  if estimator == "latest_visit" and len(visits[-1]) >= _WINDOW:
    return np.mean(visits[-1])
  return np.mean(every[-_WINDOW:])


@pytest.mark.parametrize("estimator", success_rate.ESTIMATORS)
@hypothesis.given(_VISITS)
@hypothesis.settings(max_examples=15)
def test_estimates_are_those_of_lists_kept_by_hand(estimator, visits):
  tracker, update = _TRACKERS[estimator]
  state = tracker.init(_TASKS)
  ids = jnp.array([3, 1], jnp.int32)
  for groups in visits:
    state = update(state, ids, *_batch(groups))
  found = tracker.estimate(state, ids)
  for i in range(2):
    lists = [groups[i] for groups in visits]
    count = sum(map(len, lists))
    assert int(found.count[i]) == count
    assert bool(found.valid[i]) == (count >= 3)
    expected = _by_hand(estimator, lists)
    assert float(found.p[i]) == pytest.approx(expected, abs=1e-6)
  assert tracker.estimate(state, jnp.array([0, 2])).count.tolist() == [0, 0]


def test_state_survives_a_checkpoint_bit_by_bit(tmp_path):
  tracker, update = _TRACKERS["latest_visit"]
  ids = jnp.array([0, 2], jnp.int32)
  first = update(tracker.init(_TASKS), ids, *_batch([[1, 0, 1], [0]]))
  checkpoints.save(tmp_path, 1, first)
  restored = checkpoints.restore_latest(tmp_path, jax.eval_shape(lambda: first))
  assert restored is not None
  rest = _batch([[1] * 6, [0, 1]])
  going_on = update(first, ids, *rest)
  again = update(restored.state, ids, *rest)
  for a, b in zip(
    jax.tree.leaves(going_on), jax.tree.leaves(again), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_posterior_narrows_and_forgets():
  tracker, update = _TRACKERS["beta_posterior"]
  ids = jnp.array([0, 1], jnp.int32)
  state = update(tracker.init(_TASKS), ids, *_batch([[0] * 6, [1] * 6]))
  alpha, beta = tracker.evidence(state, ids)
  assert alpha.tolist() == [1, 7] and beta.tolist() == [8, 2]
  state = update(state, ids, *_batch([[1], []]))
  alpha, beta = tracker.evidence(state, ids)
  assert alpha.tolist() == [2, 7] and beta.tolist() == [5, 2]


def test_rewards_become_binary():
  assert success_rate.binary_rewards([1, -1, 0]).tolist() == [1, 0, 0]
  assert success_rate.binary_rewards([0.2, 0.7], 0.5).tolist() == [0, 1]
  with pytest.raises(ValueError, match="row 1 is 0.5"):
    success_rate.binary_rewards([1, 0.5])
  with pytest.raises(ValueError, match="row 0 is nan"):
    success_rate.binary_rewards([float("nan")], 0.5)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"estimator": "windows"}, "did you mean 'window'"),
    ({"window": 0}, "window and min_count"),
    ({"decay": 1.5}, "decay is 1.5"),
    ({"prior": (0.0, 1.0)}, "prior is"),
  ],
)
def test_bad_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    success_rate.tracker(**options)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"ids": [2, 2]}, "id 2 comes twice"),
    ({"ids": [2, 4]}, "id 4 of row 1; expected 0 to 3"),
    ({"ids": [-1, 2]}, "id -1 of row 0"),
    ({"task": [0, 3, 1]}, "task 3 of row 1; expected 0 to 2"),
    ({"task": [0, -1, 1]}, "task -1 of row 1"),
    ({"rewards": [1.0, 0.3, 0.0]}, "reward of row 1 is 0.3"),
    ({"rewards": [1.0, 0.0, np.nan]}, "reward of row 2 is nan"),
    ({"rewards": [1.0, 0.0]}, r"rewards \(2,\); expected .M., and .B."),
    ({"ids": [[0, 1]]}, r"ids have shape \(1, 2\)"),
  ],
)
def test_updates_that_would_be_counted_wrong(changes, message):
  made = success_rate.tracker()
  given = {"ids": [0, 1], "task": [0, 0, 1], "rewards": [1.0, 0.0, 1.0]}
  given |= changes
  with pytest.raises(ValueError, match=message):
    made.update(
      made.init(_TASKS),
      jnp.array(given["ids"], jnp.int32),
      jnp.array(given["task"], jnp.int32),
      jnp.array([0, 1, 0], jnp.int32),
      jnp.array(given["rewards"]),
    )


def test_rewards_of_padding_are_not_read():
  made = success_rate.tracker()
  found = made.update(
    made.init(_TASKS),
    jnp.array([0, 1], jnp.int32),
    jnp.array([0, 2, 1], jnp.int32),
    jnp.array([0, 0, 0], jnp.int32),
    jnp.array([1.0, np.nan, 0.0]),
  )
  assert found.seen.tolist() == [1, 1, 0, 0]
