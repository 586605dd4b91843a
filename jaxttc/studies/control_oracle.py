# SPDX-License-Identifier: Apache-2.0
"""The best control that any plans reach: an oracle that knows test scores.

A planner answers one preference at a time. What bounds its rank correlation are
the widths that a budget buys, and how little value it may give up; how close a
rule comes to that bound is asked here, with everything known.
"""

import numpy as np
import scipy.stats

from jaxttc.evaluation import control

_SWEEPS = 8


def best_plans(
  preferences: control.Values,
  scores: control.Values,
  values: control.Values,
  at_least: float,
  start: np.ndarray | None = None,
) -> np.ndarray:
  """Plans, one a preference, whose least rank correlation is high.

  Changes one plan after the other to the one that raises the worst task's
  correlation most (of those that raise it as much, the mean of all tasks),
  until none does. So what is found can be reached; more may be.

  Args:
    preferences: f64[N, K].
    scores: f64[C, K] of the configurations that the budget buys.
    values: f64[N, C] of each configuration to each preference.
    at_least: share of the best value that a plan must have.
    start: i64[N], plans to begin with; those of the best value if None.

  Returns:
    i64[N], configurations.

  Raises:
    ValueError: for shapes that disagree, or a share above one.
  """
  weight, score = (np.asarray(x, np.float64) for x in (preferences, scores))
  value = np.asarray(values, np.float64)
  if value.shape != (len(weight), len(score)):
    raise ValueError(
      f"best_plans: expected values[{len(weight)}, {len(score)}], got "
      f"{value.shape}"
    )
  if not at_least <= 1:
    raise ValueError(f"best_plans: at_least must be at most 1, got {at_least}")
  allowed = value >= at_least * value.max(1, keepdims=True)
  plans = (value.argmax(1) if start is None else np.asarray(start)).copy()
  rank = scipy.stats.rankdata(weight, axis=0)
  for _ in range(_SWEEPS):
    before = plans.copy()
    for row in range(len(plans)):
      plans[row] = _best_of(row, plans, rank, score, allowed[row])
    if (plans == before).all():
      break
  return plans


def _best_of(row, plans, rank, score, allowed):
  """The configuration of a row that serves best, all other rows kept."""
  # Configurations that score alike are one.
  candidates = np.append(np.flatnonzero(allowed), plans[row])
  distinct, first = np.unique(score[candidates], axis=0, return_index=True)
  found = np.repeat(score[plans][None], len(distinct), 0)
  found[:, row] = distinct
  rho = np.stack(
    [
      _correlations(found[..., task], rank[:, task])
      for task in range(rank.shape[1])
    ],
    1,
  ).round(12)
  own = np.flatnonzero((distinct == score[plans[row]]).all(1))[0]
  order = np.lexsort((np.arange(len(rho)) == own, rho.mean(1), rho.min(1)))
  return candidates[first[order[-1]]]


def _correlations(scores, rank):
  """Spearman's of scores f64[C, N] and ranks f64[N]; 0 for equal scores."""
  ranks = scipy.stats.rankdata(scores, axis=1)
  ranks -= ranks.mean(1, keepdims=True)
  other = (rank - rank.mean())[None]
  scale = np.sqrt(np.square(ranks).sum(1) * np.square(other).sum())
  return (ranks * other).sum(1) / np.where(scale > 0, scale, 1.0)
