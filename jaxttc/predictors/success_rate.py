# SPDX-License-Identifier: Apache-2.0
"""How often each task succeeds, from the rewards that training saw anyway.

A tracker is a pair of pure functions over a state of arrays, a row a task:

    tracker = success_rate.tracker("latest_visit")
    state = tracker.init(tasks=17_000)
    state = tracker.update(state, ids, task, rank, rewards)
    known = tracker.estimate(state, ids)   # valid, p, count

The state is a pytree: it is saved with the checkpoint and restored to the same
bits. Rewards come as a flat batch with the task and rank of each row, as
`allocators.ragged_groups` lays them out; rows of padding change nothing.

Estimators:

*  latest_visit: the mean of the last visit if it had at least `window`
   rewards, else of the last `window` rewards over visits (Li et al. 2025,
   arXiv:2509.25849),
*  window: always the last `window` rewards,
*  ema: a moving average of visits, an old visit's weight falling by `decay`,
*  beta_posterior: mean of a Beta posterior whose evidence fades by `decay` a
   visit; `evidence` gives its two parameters.
"""

from collections.abc import Callable, Sequence
import difflib
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8
import numpy as np

ESTIMATORS = ("latest_visit", "window", "ema", "beta_posterior")


@flax.struct.dataclass
class TrackerState:
  """What was seen of T tasks.

  Attributes:
    recent: i8[T, W], a ring of the last W rewards, 0 or 1.
    seen: i32[T], rewards so far.
    visit: f32[T, 2], successes and rewards of the last visit.
    faded: f32[T, 2], successes and failures of all visits, faded.
  """

  recent: Int8[Array, "t w"]
  seen: Int[Array, " t"]
  visit: Float[Array, "t 2"]
  faded: Float[Array, "t 2"]


class SuccessEstimate(NamedTuple):
  """What is known of some tasks.

  Attributes:
    valid: bool[M], whether enough rewards were seen.
    p: f32[M], estimated success rates.
    count: i32[M], rewards seen so far.
  """

  valid: Bool[Array, " m"]
  p: Float[Array, " m"]
  count: Int[Array, " m"]


class SuccessTracker(NamedTuple):
  """Pure functions over a `TrackerState`; see the module's docstring.

  Attributes:
    init: (tasks) -> state.
    update: (state, ids i32[M], task i32[B], rank i32[B], rewards f[B])
      -> state. `ids` are the rows of the state that the step's M tasks have,
      without repetition; `task` in [0, M), or M for padding; rewards 0 or 1
      (`binary_rewards`). It raises ValueError for shapes that do not fit and,
      outside of `jit`, where there are values to look at, for an id that comes
      twice or has no row, a task out of range, or a reward that is no success
      or failure.
    estimate: (state, ids i32[M]) -> SuccessEstimate.
    evidence: (state, ids i32[M]) -> (alpha f32[M], beta f32[M]), of the Beta
      posterior, prior included.
  """

  init: Callable[[int], TrackerState]
  update: Callable[[TrackerState, Array, Array, Array, Array], TrackerState]
  estimate: Callable[[TrackerState, Array], SuccessEstimate]
  evidence: Callable[[TrackerState, Array], tuple[Array, Array]]


def tracker(
  estimator: str = "latest_visit",
  *,
  window: int = 16,
  min_count: int = 8,
  decay: float = 0.7,
  prior: tuple[float, float] = (0.5, 0.5),
) -> SuccessTracker:
  """A tracker.

  Args:
    estimator: one of `ESTIMATORS`.
    window: rewards that are remembered one by one.
    min_count: rewards from which an estimate is valid.
    decay: what a visit leaves of the weight of those before it, in [0, 1].
    prior: Beta parameters before anything was seen, positive.

  Raises:
    ValueError: for an unknown estimator (the nearest is named), a window or
      count below 1, a decay outside [0, 1], or a prior that is not positive.
  """
  if estimator not in ESTIMATORS:
    near = difflib.get_close_matches(estimator, ESTIMATORS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
      f"estimator {estimator!r} is not one of {', '.join(ESTIMATORS)}{hint}"
    )
  if min(window, min_count) < 1:
    raise ValueError(
      f"window and min_count are {window} and {min_count}; expected >= 1"
    )
  if not 0 <= decay <= 1:
    raise ValueError(f"decay is {decay}; expected 0 to 1")
  if not min(prior) > 0:
    raise ValueError(f"prior is {prior}; expected two positive numbers")

  def init(tasks: int) -> TrackerState:
    return TrackerState(
      recent=jnp.zeros((tasks, window), jnp.int8),
      seen=jnp.zeros(tasks, jnp.int32),
      visit=jnp.zeros((tasks, 2)),
      faded=jnp.zeros((tasks, 2)),
    )

  def update(state, ids, task, rank, rewards):
    _check_update(state, ids, task, rank, rewards)
    return _update(state, ids, task, rank, rewards, decay)

  def evidence(state, ids):
    return tuple(state.faded[ids, i] + prior[i] for i in range(2))

  def estimate(state, ids):
    count = state.seen[ids]
    if estimator == "beta_posterior":
      alpha, beta = evidence(state, ids)
      p = alpha / (alpha + beta)
    elif estimator == "ema":
      won, lost = state.faded[ids, 0], state.faded[ids, 1]
      p = won / jnp.maximum(won + lost, 1e-9)
    else:
      p = _window_mean(state, ids)
      won, drawn = state.visit[ids, 0], state.visit[ids, 1]
      if estimator == "latest_visit":
        p = jnp.where(drawn >= window, won / jnp.maximum(drawn, 1.0), p)
    return SuccessEstimate(count >= min_count, p, count)

  return SuccessTracker(init, update, estimate, evidence)


def binary_rewards(
  rewards: Sequence[Any] | np.ndarray, threshold: float | None = None
) -> Float[np.ndarray, " b"]:
  """Rewards as 0 and 1, for `update`.

  Args:
    rewards: 0 or 1, or -1, which counts as 0; any number with a threshold.
    threshold: a reward counts as a success if it is at least that.

  Raises:
    ValueError: if a reward is no number, or not binary without a threshold;
      its row is named.
  """
  found = np.asarray(rewards, np.float64)
  fine = np.isfinite(found)
  if threshold is None:
    fine = fine & np.isin(found, (-1.0, 0.0, 1.0))
  if not fine.all():
    row = int(np.argmin(fine))
    raise ValueError(
      f"reward of row {row} is {found[row]}; expected 0, 1 or -1, or a "
      "threshold"
    )
  won = found >= (1.0 if threshold is None else threshold)
  return won.astype(np.float32)


def _check_update(state, ids, task, rank, rewards) -> None:
  """Refuses an update that would be counted wrong; see `SuccessTracker`."""
  shapes = {"task": task.shape, "rank": rank.shape, "rewards": rewards.shape}
  if ids.ndim != 1 or rewards.ndim != 1 or len(set(shapes.values())) > 1:
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ValueError(
      f"ids have shape {ids.shape}, {told}; expected [M], and [B] three times"
    )
  if any(isinstance(x, jax.core.Tracer) for x in (ids, task, rewards)):
    return
  ids, task = np.asarray(ids), np.asarray(task)
  rows = state.seen.shape[0]
  found, count = np.unique(ids, return_counts=True)
  if (count > 1).any():
    raise ValueError(f"id {found[np.argmax(count)]} comes twice in one update")
  for name, values, bound in (
    ("id", ids, rows - 1),
    ("task", task, ids.size),
  ):
    bad = (values < 0) | (values > bound)
    if bad.any():
      raise ValueError(
        f"{name} {values[np.argmax(bad)]} of row {np.argmax(bad)}; expected 0 "
        f"to {bound}"
      )
  binary_rewards(np.where(task < ids.size, rewards, 0.0))


def _update(state, ids, task, rank, rewards, decay):
  window = state.recent.shape[1]
  real = task < ids.shape[0]
  won = (rewards > 0) & real
  sums = jnp.stack([won, real], axis=1).astype(jnp.float32)
  sums = jax.ops.segment_sum(sums, task, num_segments=ids.shape[0])
  drawn = sums[:, 1].astype(jnp.int32)
  visited = drawn > 0
  # Only the last `window` rewards of a visit stay in the ring; each has a
  # cell of its own, so the order of writing does not matter.
  own = jnp.minimum(task, ids.shape[0] - 1)
  kept = real & (rank >= drawn[own] - window)
  row = jnp.where(kept, ids[own], state.seen.shape[0])
  cell = (state.seen[ids[own]] + rank) % window
  faded = jnp.stack([sums[:, 0], sums[:, 1] - sums[:, 0]], axis=1)
  where = lambda new, old: jnp.where(visited[:, None], new, old)  # noqa: E731
  return TrackerState(
    recent=state.recent.at[row, cell].set(won.astype(jnp.int8), mode="drop"),
    seen=state.seen.at[ids].add(drawn),
    visit=state.visit.at[ids].set(where(sums, state.visit[ids])),
    faded=state.faded.at[ids].set(
      where(decay * state.faded[ids] + faded, state.faded[ids])
    ),
  )


def _window_mean(state, ids):
  window = state.recent.shape[1]
  held = jnp.minimum(state.seen[ids], window)
  filled = jnp.arange(window)[None, :] < held[:, None]
  won = (state.recent[ids] * filled).sum(1)
  return won / jnp.maximum(held, 1)
