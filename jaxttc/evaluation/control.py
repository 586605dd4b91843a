# SPDX-License-Identifier: Apache-2.0
"""How well preferences and budgets steer a multi-task network.

A preference r is a point of the simplex, one weight a task; a network that can
be steered answers each preference with scores s, higher-better. Questions asked
of N preferences and their scores:

  rank_control       does a task's score rise with its weight? (Spearman)
  score_range        by how much can preferences move a task?
  marginal_curves    what does a task get for a weight, whatever the others?
  non_uniformity     are losses as the preference wants them? (0: exactly)
  budget_error       is the budget met?

and of the encoder, whose output other widths should leave alone:

  configuration_variance

References:
  Navon et al. (2021), Learning the Pareto front with hypernetworks (rays).
  Mahapatra and Rajan (2020), Multi-task learning with user preferences:
    gradient descent with controlled ascent in Pareto optimization
    (non-uniformity).
  Aich et al. (2023), Efficient controllable multi-task architectures.
"""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np
import scipy.stats

from jaxttc.evaluation import statistics as statistics_lib

Values = statistics_lib.Values | int | float


class Curve(NamedTuple):
  """What a task got for its weight, by bins of the weight.

  Attributes:
    weight: f64[P], mean weight in each bin that is not empty.
    score: f64[P], mean score there.
    count: i64[P], preferences there.
  """

  weight: np.ndarray
  score: np.ndarray
  count: np.ndarray


def rays(tasks: int, step: float) -> Float[np.ndarray, "R K"]:
  """All preferences whose weights are multiples of a step.

  Args:
    tasks: K, at least 1.
    step: one over a whole number n, such as 1/6.

  Returns:
    f64[R, K], rows that sum to 1, R = (n + K - 1)! / (n! (K - 1)!), from all
    weight on the first task to all on the last.

  Raises:
    ValueError: if there are no tasks, or the step is not 1 / n.
  """
  if tasks < 1:
    raise ValueError(f"rays: tasks must be at least 1, got {tasks}")
  parts = round(1 / step) if 0 < step <= 1 else 0
  if not parts or abs(parts * step - 1) > 1e-6:
    raise ValueError(f"rays: step must be 1 / n for a whole n, got {step}")
  # n stars and K - 1 bars: a weight is the stars between two bars.
  spaces = parts + tasks - 1
  bars = list(itertools.combinations(range(spaces), tasks - 1))
  ends = np.asarray(bars, np.int64).reshape(len(bars), tasks - 1)
  edges = np.pad(ends, ((0, 0), (1, 1)))
  edges[:, 0], edges[:, -1] = -1, spaces
  return (np.diff(edges, axis=1) - 1)[::-1] / parts


def rank_control(
  preferences: Values, scores: Values
) -> Float[np.ndarray, " K"]:
  """Spearman's correlation of each task's weight and its score.

  Equal values share their mean rank. A task whose scores, or weights, are all
  equal is not steered: 0.

  Args:
    preferences: f64[N, K], N at least 2.
    scores: f64[N, K], higher-better.

  Returns:
    f64[K] in [-1, 1].

  Raises:
    ValueError: for shapes that disagree, too few rows, or numbers that are not
      finite.
  """
  weight, score = _pairs("rank_control", preferences, scores)
  if len(weight) < 2:
    raise ValueError("rank_control: expected at least 2 preferences")
  a, b = (scipy.stats.rankdata(x, axis=0) for x in (weight, score))
  a, b = a - a.mean(axis=0), b - b.mean(axis=0)
  scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
  rho = (a * b).sum(axis=0) / np.where(scale > 0, scale, 1.0)
  return np.clip(rho, -1.0, 1.0)


def score_range(scores: Values) -> Float[np.ndarray, " K"]:
  """Largest less smallest score of each task over preferences f64[N, K].

  Raises:
    ValueError: if there are no scores, or one is not finite.
  """
  score = _table("score_range", scores)
  return score.max(axis=0) - score.min(axis=0)


def marginal_curves(
  preferences: Values, scores: Values, bins: int = 10
) -> tuple[Curve, ...]:
  """Mean score of each task over the preferences that weigh it alike.

  Args:
    preferences: f64[N, K], weights in [0, 1].
    scores: f64[N, K], higher-better.
    bins: equal bins that [0, 1] is cut into; the last one holds 1.

  Returns:
    One curve a task, weights rising. Empty bins are left out.

  Raises:
    ValueError: for shapes that disagree, numbers that are not finite, weights
      outside [0, 1], or no bins.
  """
  weight, score = _pairs("marginal_curves", preferences, scores)
  if bins < 1:
    raise ValueError(f"marginal_curves: bins must be at least 1, got {bins}")
  if weight.min() < 0 or weight.max() > 1:
    raise ValueError("marginal_curves: weights must lie in [0, 1]")
  # Weights such as 1 - 0.9 lie a rounding error below the edge they stand for.
  places = np.floor(weight * bins + 1e-9).astype(np.int64)
  places = np.minimum(places, bins - 1)
  return tuple(
    _curve(places[:, t], weight[:, t], score[:, t], bins)
    for t in range(weight.shape[1])
  )


def non_uniformity(losses: Values, preference: Values) -> np.ndarray:
  """How far losses are from inversely proportional to the weights.

  mu = sum_t q_t log(K q_t) with q_t = r_t l_t / sum_j r_j l_j, the divergence
  of q from uniform: 0 if all r_t l_t are equal, log K if one is all.

  Args:
    losses: f64[..., K], >= 0.
    preference: f64[..., K] or f64[K], weights >= 0.

  Returns:
    f64[...], in [0, log K].

  Raises:
    ValueError: if numbers are negative or not finite, the last axes differ, or
      all products are 0.
  """
  loss = np.asarray(losses, np.float64)
  weight = np.asarray(preference, np.float64)
  if not loss.ndim or weight.shape not in (loss.shape, loss.shape[-1:]):
    raise ValueError(
      "non_uniformity: expected losses[..., K] and preference[K] or [..., K], "
      f"got {loss.shape} and {weight.shape}"
    )
  product = loss * weight
  if not np.isfinite(product).all() or min(loss.min(), weight.min()) < 0:
    raise ValueError("non_uniformity: losses and weights must be >= 0")
  total = product.sum(axis=-1, keepdims=True)
  if not (total > 0).all():
    raise ValueError("non_uniformity: every weighted loss is 0")
  share = product / total
  inside = np.where(share > 0, share, 1.0) * loss.shape[-1]
  divergence = (share * np.log(inside)).sum(axis=-1)
  return np.asarray(np.maximum(divergence, 0.0))


def budget_error(macs: Values, budget: Values) -> np.ndarray:
  """|MACs - B| / B, f64[...].

  Raises:
    ValueError: if a budget is not positive, or a number is not finite.
  """
  cost = np.asarray(macs, np.float64)
  limit = np.asarray(budget, np.float64)
  if not (np.isfinite(cost).all() and np.isfinite(limit).all()):
    raise ValueError("budget_error: costs and budgets must be finite")
  if not (limit > 0).all():
    raise ValueError("budget_error: budgets must be positive")
  return np.asarray(np.abs(cost - limit) / limit)


def relative_gain(hypervolume: int | float, prior: int | float) -> float:
  """(HV - HV_prior) / HV_prior: by how much controllability grew.

  Raises:
    ValueError: if the prior hypervolume is not positive.
  """
  if not prior > 0:
    raise ValueError(f"relative_gain: prior must be positive, got {prior}")
  return (hypervolume - prior) / prior


def similarity(features: Any) -> Float[np.ndarray, "N N"]:
  """Cosines between the rows of features f[N, C]; 0 for a row of zeros."""
  rows = np.asarray(features, np.float64)
  length = np.linalg.norm(rows, axis=1, keepdims=True)
  unit = rows / np.where(length > 0, length, 1.0)
  return unit @ unit.T


def configuration_variance(features: Sequence[Any], teacher: Any) -> float:
  """How much an encoder's similarities vary with its configuration.

  With G_c[i, j] the cosine of rows i and j of configuration c's features, over
  M configurations and N rows:

    (1 / N^2) sum_ij Var_c(G_c[i, j]) / Var_ij(G_teacher[i, j]),

  variances being means of squared deviations (divided by M, and by N^2). 0 if
  every configuration sees the same similarities; 1 if a similarity varies over
  configurations as much as the teacher's do over pairs. Cosines compare
  configurations of different widths, which features would not.

  Args:
    features: M arrays f[N, C_c], the encoder's output of each configuration on
      the same N rows: images (pooled or flattened), vectors, or positions. The
      teacher's own are among them if they are to count.
    teacher: f[N, C], of the full network.

  Raises:
    ValueError: without features, for shapes that disagree, numbers that are not
      finite, or a teacher whose similarities are all equal.
  """
  if not len(features):
    raise ValueError("configuration_variance: there are no configurations")
  for what, rows in [("teacher", teacher), *enumerate(features)]:
    _check_features(what, rows, len(teacher))
  reference = similarity(teacher)
  spread = reference.var()
  if not spread > 1e-12:
    raise ValueError(
      "configuration_variance: the teacher's similarities are all equal"
    )
  # Deviations from the teacher, not raw cosines, so that the difference of the
  # two moments keeps its digits.
  first, second = np.zeros_like(reference), np.zeros_like(reference)
  for rows in features:
    gap = similarity(rows) - reference
    first += gap
    second += gap * gap
  first, second = first / len(features), second / len(features)
  return float(np.maximum(second - first * first, 0.0).mean() / spread)


def _check_features(what: str | int, rows: Any, count: int) -> None:
  values = np.asarray(rows)
  name = what if isinstance(what, str) else f"features[{what}]"
  if values.ndim != 2 or len(values) != count:
    raise ValueError(
      f"configuration_variance: {name} has shape {values.shape}, expected "
      f"[{count}, C]"
    )
  if not np.isfinite(values.astype(np.float64)).all():
    raise ValueError(f"configuration_variance: {name} is not finite")


def _curve(
  places: np.ndarray, weight: np.ndarray, score: np.ndarray, bins: int
) -> Curve:
  count = np.bincount(places, minlength=bins)
  there = count > 0
  sums = (np.bincount(places, x, minlength=bins) for x in (weight, score))
  means = [total[there] / count[there] for total in sums]
  return Curve(means[0], means[1], count[there])


def _table(where: str, values: Values) -> np.ndarray:
  table = np.asarray(values, np.float64)
  if table.ndim != 2 or not table.size:
    raise ValueError(f"{where}: expected values[N, K], got {table.shape}")
  if not np.isfinite(table).all():
    raise ValueError(f"{where}: values must be finite")
  return table


def _pairs(where: str, a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
  left, right = _table(where, a), _table(where, b)
  if left.shape != right.shape:
    raise ValueError(
      f"{where}: expected as many scores as weights, got {right.shape} and "
      f"{left.shape}"
    )
  return left, right
