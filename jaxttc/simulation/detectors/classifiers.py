# SPDX-License-Identifier: Apache-2.0
"""What a stage tells relevant events from others by: distributions of scores.

A classifier scores events and keeps those above a threshold. All that the
pipeline needs of it is `survival`: the shares of irrelevant and of relevant
events above a threshold. Four kinds:

* `Pass` keeps everything: merging, buffering and storing stages.
* `Gaussian`: scores are N(0, 1) without and N(skill, variance) with relevance.
  Its area under the ROC is Phi(skill / sqrt(1 + variance)).
* `Empirical`, from two cumulative distributions or a published ROC.
* `Empirical`, from the scores and labels of a trained model (`measured`).

A `skill_boost` moves the relevant events' scores up, in units of the score.
"""

from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
from jax.scipy import special
from jaxtyping import Array, Float
import numpy as np

Scalar = Float[Array, ""] | float
Numbers = Sequence[float | int] | np.ndarray

# Normal deviates beyond this have no share that a double can hold.
_FAR = 38.0


@flax.struct.dataclass
class Pass:
  """Keeps every event."""


@flax.struct.dataclass
class Gaussian:
  """Scores are N(0, 1) without and N(skill + boost, variance) with relevance.

  Attributes:
    skill: distance of the means, d' where the variance is 1.
    variance: variance (not standard deviation) of relevant events' scores.
    skill_boost: added to the skill.
  """

  skill: Scalar
  variance: Scalar = 1.0
  skill_boost: Scalar = 0.0

  def survival(self, threshold: Scalar) -> Float[Array, "2"]:
    """Shares of irrelevant and of relevant events above a threshold."""
    mean, deviation = self._relevant()
    return jnp.stack(
      [
        special.ndtr(-jnp.asarray(threshold)),
        special.ndtr((mean - threshold) / deviation),
      ]
    )

  def ends(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Thresholds that every event exceeds, and that none does."""
    mean, deviation = self._relevant()
    return (
      jnp.minimum(-_FAR, mean - _FAR * deviation),
      jnp.maximum(_FAR, mean + _FAR * deviation),
    )

  def _relevant(self) -> tuple[jax.Array, jax.Array]:
    mean = jnp.asarray(self.skill) + self.skill_boost
    return mean, jnp.sqrt(jnp.asarray(self.variance))


@flax.struct.dataclass
class Empirical:
  """Scores follow two distributions, linear between K knots.

  Attributes:
    scores: f[K], increasing.
    irrelevant: f[K], share of irrelevant events at or below each, 0 to 1.
    relevant: f[K], share of relevant events at or below each, 0 to 1.
    skill_boost: added to relevant events' scores.
  """

  scores: Float[Array, " K"]
  irrelevant: Float[Array, " K"]
  relevant: Float[Array, " K"]
  skill_boost: Scalar = 0.0

  def survival(self, threshold: Scalar) -> Float[Array, "2"]:
    """Shares of irrelevant and of relevant events above a threshold."""
    threshold = jnp.asarray(threshold)
    moved = threshold - self.skill_boost
    return 1.0 - jnp.stack(
      [
        jnp.interp(threshold, self.scores, self.irrelevant),
        jnp.interp(moved, self.scores, self.relevant),
      ]
    )

  def ends(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Thresholds that every event exceeds, and that none does."""
    scores, boost = jnp.asarray(self.scores), jnp.asarray(self.skill_boost)
    return (
      scores[0] + jnp.minimum(0.0, boost),
      scores[-1] + jnp.maximum(0.0, boost),
    )


Classifier = Pass | Gaussian | Empirical


def empirical(
  scores: Numbers,
  irrelevant: Numbers,
  relevant: Numbers,
  skill_boost: float = 0.0,
) -> Empirical:
  """A classifier from two cumulative distributions, as a table gives them.

  Args:
    scores: f[K], increasing, K >= 2.
    irrelevant: f[K], share of irrelevant events at or below each score,
      nondecreasing from 0 to 1.
    relevant: f[K], the same of relevant events.
    skill_boost: added to relevant events' scores.

  Raises:
    ValueError: if lengths differ, scores do not increase, or a distribution
      is not monotone from 0 to 1; the row is named.
  """
  columns = [_column(scores, "scores")]
  for values, name in ((irrelevant, "irrelevant"), (relevant, "relevant")):
    column = _column(values, name)
    if len(column) != len(columns[0]):
      raise ValueError(
        f"{name}: expected {len(columns[0])} shares, one a score, got "
        f"{len(column)}"
      )
    _check_order(column, name, strict=False)
    if column[0] != 0 or column[-1] != 1:
      raise ValueError(
        f"{name}: a cumulative distribution runs from 0 to 1, got "
        f"{column[0]:g} to {column[-1]:g}"
      )
    columns.append(column)
  _check_order(columns[0], "scores", strict=True)
  return Empirical(*columns, skill_boost=float(skill_boost))


def from_roc(
  false_positives: Numbers,
  true_positives: Numbers,
) -> Empirical:
  """A classifier from its ROC, linear between the points.

  The score is minus the sum of both rates: any score that falls along the
  curve has the same shares. A boost of it would have no meaning.

  Args:
    false_positives: f[K], shares of irrelevant events kept, from 0 to 1.
    true_positives: f[K], shares of relevant events kept, from 0 to 1.

  Raises:
    ValueError: if the curve is not monotone from (0, 0) to (1, 1); the row is
      named.
  """
  rates = _column(false_positives, "false_positives")
  hits = _column(true_positives, "true_positives")
  if len(rates) != len(hits):
    raise ValueError(
      f"ROC: {len(rates)} false positives, but {len(hits)} true positives"
    )
  for column, name in ((rates, "false_positives"), (hits, "true_positives")):
    _check_order(column, f"ROC is not monotone: {name}", strict=False)
    if column[0] != 0 or column[-1] != 1:
      raise ValueError(
        f"ROC: {name} must run from 0 to 1, got {column[0]:g} to {column[-1]:g}"
      )
  moves = np.concatenate([[True], np.diff(rates + hits) > 0])
  rates, hits = rates[moves][::-1], hits[moves][::-1]
  return Empirical(-(rates + hits), 1.0 - rates, 1.0 - hits, 0.0)


def measured(
  scores: Numbers,
  labels: Numbers,
  *,
  knots: int = 4096,
  skill_boost: float = 0.0,
) -> Empirical:
  """A classifier from a trained model's scores on labelled events.

  Between the knots the distributions are linear, where counts are steps. With
  more scores than knots, up to half of the knots are of relevant events, so
  that few of those are not lost among many others.

  Args:
    scores: f[N], the higher the more relevant.
    labels: bool[N], whether each event is relevant.
    knots: the most scores that are kept, at least 4.
    skill_boost: added to relevant events' scores.

  Raises:
    ValueError: if a score is not finite, lengths differ, a class has no
      event, all scores are equal, or there are fewer than four knots.
  """
  if knots < 4:
    raise ValueError(f"knots must be at least 4, got {knots}")
  scores, labels = _column(scores, "scores"), np.asarray(labels)
  if labels.shape != scores.shape:
    raise ValueError(
      f"expected one label a score, got {labels.shape} for {scores.shape}"
    )
  labels = labels.astype(bool)
  classes = [np.sort(scores[~labels]), np.sort(scores[labels])]
  for values, name in zip(classes, ("irrelevant", "relevant"), strict=True):
    if not len(values):
      raise ValueError(f"measured scores hold no {name} event")
  places = np.unique(scores)
  if len(places) < 2:
    raise ValueError(f"all measured scores are {places[0]:g}: nothing to tell")
  if len(places) > knots:
    distinct = [np.unique(values) for values in classes]
    few = min(len(distinct[1]), knots // 2)
    chosen = [_spread(distinct[0], knots - few), _spread(distinct[1], few)]
    places = np.unique(np.concatenate(chosen))
  # One knot below the least score: there, nothing is at or below.
  places = np.concatenate([[places[0] - (places[1] - places[0])], places])
  shares = [
    np.searchsorted(values, places, side="right") / len(values)
    for values in classes
  ]
  return Empirical(places, *shares, skill_boost=float(skill_boost))


def _spread(ordered: np.ndarray, count: int) -> np.ndarray:
  """About `count` of the ordered values, evenly by rank."""
  ranks = np.linspace(0, len(ordered) - 1, min(count, len(ordered)))
  return ordered[ranks.astype(int)]


def _column(values: Numbers, name: str) -> np.ndarray:
  column = np.asarray(values, np.float64)
  if column.ndim != 1 or len(column) < 2:
    raise ValueError(
      f"{name}: expected at least two numbers in one row, got shape "
      f"{column.shape}"
    )
  if not np.isfinite(column).all():
    row = int(np.flatnonzero(~np.isfinite(column))[0])
    raise ValueError(f"{name}, row {row}: {column[row]} is not finite")
  return column


def _check_order(column: np.ndarray, name: str, *, strict: bool) -> None:
  steps = np.diff(column)
  wrong = np.flatnonzero(steps <= 0 if strict else steps < 0)
  if len(wrong):
    row = int(wrong[0]) + 1
    raise ValueError(
      f"{name}, row {row}: {column[row]:g} follows {column[row - 1]:g}"
    )
