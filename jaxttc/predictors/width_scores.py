# SPDX-License-Identifier: Apache-2.0
"""Scores of all widths of a network, told from those of a few.

An encoder with many width groups has too many configurations to measure. But
scores change smoothly with widths, so a few hundred measured ones tell the
rest: a ridge regression a task, in closed form, on the ratios of the encoder's
groups and of the task's own decoder (decoders do not see each other), on their
logarithms, and on the products of two logarithms. How strong the ridge is,
leave-one-out errors decide, which follow from the same decomposition.
"""

import dataclasses

import numpy as np
import scipy.stats

from jaxttc.models.slimmable import widths

_RIDGES = 10.0 ** np.arange(-4, 4)  # times the number of examples
_HELD_OUT = 5  # one in so many checks the fit


@dataclasses.dataclass(frozen=True)
class WidthScorePredictor:
  """Predicted scores of every configuration; a function for `allocators.plan`.

  Attributes:
    menu: the ratios that indices choose from.
    weights: f64[K, F], of the features of each task.
    rank_correlation: f64[K], Spearman's correlation of predicted and measured
      scores on configurations that a first fit did not see.
    measured: configurations that the fit saw.
  """

  menu: tuple[float, ...]
  weights: np.ndarray
  rank_correlation: np.ndarray
  measured: int

  def __call__(self, indices: np.ndarray) -> np.ndarray:
    """Scores f64[N, K], in [0, 1], at menu indices i32[N, groups]."""
    tasks = len(self.weights)
    scores = [
      _features(self.menu, indices, task, tasks) @ self.weights[task]
      for task in range(tasks)
    ]
    return np.clip(np.stack(scores, 1), 0.0, 1.0)


def draw(space: widths.WidthSpace, count: int, seed: int = 0) -> np.ndarray:
  """Configurations to measure, i32[count, groups].

  Every menu width everywhere comes first, the narrowest and the widest among
  them; all others are random.

  Raises:
    ValueError: if the count is below that of menu widths.
  """
  entries, groups = len(space.menu), len(space.groups)
  if count < entries:
    raise ValueError(
      f"count must be at least {entries}, one a menu width; got {count}"
    )
  rng = np.random.default_rng(seed)
  indices = rng.integers(0, entries, (count, groups), np.int32)
  indices[:entries] = np.arange(entries)[:, None]
  return indices


def fit(
  space: widths.WidthSpace, indices: np.ndarray, scores: np.ndarray
) -> WidthScorePredictor:
  """Fits a predictor to measured scores.

  Args:
    space: the widths.
    indices: i32[N, groups], menu indices of what was measured.
    scores: f64[N, K], in [0, 1].

  Raises:
    ValueError: for shapes that disagree, scores that are not finite, or fewer
      than ten configurations.
  """
  indices = np.asarray(indices)
  scores = np.asarray(scores, np.float64)
  rows, tasks = len(indices), len(space.tasks)
  expected = ((rows, len(space.groups)), (rows, tasks))
  if (indices.shape, scores.shape) != expected:
    raise ValueError(
      f"expected indices {list(expected[0])} and scores {list(expected[1])}, "
      f"got {list(indices.shape)} and {list(scores.shape)}"
    )
  if rows < 2 * _HELD_OUT or not np.isfinite(scores).all():
    raise ValueError(
      f"expected finite scores of at least {2 * _HELD_OUT} configurations, got "
      f"{rows}"
    )
  held_out = np.arange(rows) % _HELD_OUT == _HELD_OUT - 1
  found, correlations = [], []
  for task in range(tasks):
    x, y = _features(space.menu, indices, task, tasks), scores[:, task]
    seen = _ridge(x[~held_out], y[~held_out])
    correlations.append(_rank_correlation(x[held_out] @ seen, y[held_out]))
    found.append(_ridge(x, y))
  return WidthScorePredictor(
    space.menu, np.stack(found), np.array(correlations), rows
  )


def _features(menu, indices, task, tasks):
  """f64[N, F], the first of them 1."""
  stages = indices.shape[1] - tasks
  own = np.concatenate(
    [indices[:, :stages], indices[:, stages + task, None]], 1
  )
  ratios = np.asarray(menu)[own]
  logs = np.log(ratios)
  first, second = np.triu_indices(stages + 1)
  products = logs[:, first] * logs[:, second]
  one = np.ones((len(indices), 1))
  return np.concatenate([one, ratios, logs, products], 1)


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """Weights f64[F] of least leave-one-out error; the first is not shrunk.

  With the centred, scaled features U S V', a ridge c leaves of each of the
  targets' components the share s^2 / (s^2 + c); the same shares give the hat
  matrix, whose diagonal turns residuals into leave-one-out errors.
  """
  mean, spread = x[:, 1:].mean(0), x[:, 1:].std(0)
  spread[spread == 0] = 1.0
  u, s, v = np.linalg.svd((x[:, 1:] - mean) / spread, full_matrices=False)
  away = y - y.mean()
  best, least = 0.0, np.inf
  for ridge in _RIDGES * len(x):
    share = s**2 / (s**2 + ridge)
    residual = away - u @ (share * (u.T @ away))
    hat = 1 / len(x) + np.square(u) @ share
    error = np.square(residual / np.maximum(1 - hat, 1e-9)).sum()
    if error < least:
      best, least = ridge, error
  slopes = v.T @ (s / (s**2 + best) * (u.T @ away)) / spread
  return np.concatenate([[y.mean() - mean @ slopes], slopes])


def _rank_correlation(predicted: np.ndarray, measured: np.ndarray) -> float:
  """Spearman's; 0 if either side is all equal."""
  if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
    return 0.0
  return float(scipy.stats.spearmanr(predicted, measured).statistic)
