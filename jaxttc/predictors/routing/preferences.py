# SPDX-License-Identifier: Apache-2.0
"""Will a model do as well as the best one? Hybrid LLM's three labels.

With the gap g = score of a model - score of the reference (the model of best
mean score), a label is: *hard*, 1[g >= 0]; *soft*, sigmoid(g / tau);
*transformed*, 1[g >= -t], with t chosen so that labels are balanced. A ridge
regression predicts them; the reference has the label of a gap of 0.

Reference: Ding et al. (2024), Hybrid LLM, arXiv:2404.14618.
"""

from typing import Literal

from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import scipy.special

from jaxttc.predictors.routing import linear

Kind = Literal["hard", "soft", "transformed"]
_GRID = 50


@struct.dataclass
class Suffices:
  """Expected labels; the reference's is known.

  Attributes:
    head: regression of the labels.
    reference: i32[], the column of the reference.
    level: f32[], the label of a gap of 0.
  """

  head: linear.Linear
  reference: Array
  level: Float[Array, ""]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    labels = self.head(x)
    mine = jnp.arange(labels.shape[1]) == self.reference
    return jnp.where(mine[None], self.level, labels)


def fit_hybrid(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  kind: Kind = "soft",
  temperature: float = 0.1,
) -> Suffices:
  """Regresses labels of gaps to the reference.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown, which leaves gaps out.
    kind: which labels.
    temperature: tau of soft labels.

  Raises:
    ValueError: if the kind is not known, the temperature not positive, or the
      reference has no question in common with some model.
  """
  if kind not in ("hard", "soft", "transformed") or temperature <= 0:
    raise ValueError(
      "hybrid: expected kind hard, soft or transformed and a positive "
      f"temperature, got {kind!r} and {temperature}"
    )
  reference = int(np.nanmean(scores, 0).argmax())
  gaps = scores - scores[:, [reference]]
  apart = np.isnan(gaps).all(0)
  if apart.any():
    raise ValueError(
      f"hybrid: column {int(apart.argmax())} shares no question with the "
      f"reference, column {reference}"
    )
  if kind == "soft":
    labels, level = scipy.special.expit(gaps / temperature), 0.5
  else:
    slack = np.zeros(gaps.shape[1])
    if kind == "transformed":
      slack = np.array([balancing_slack(g[~np.isnan(g)]) for g in gaps.T])
    labels = np.where(np.isnan(gaps), np.nan, gaps >= -slack)
    level = 1.0
  return Suffices(
    linear.fit_ridge(x, labels),
    jnp.asarray(reference),
    jnp.asarray(level, jnp.float32),
  )


def balancing_slack(gaps: Float[np.ndarray, " N"]) -> float:
  """The t >= 0 for which 1[g >= -t] is most balanced, 2 p (1 - p), on a grid.

  Args:
    gaps: f64[N].
  """
  grid = np.linspace(0, max(-gaps.min(), 0.0), _GRID)
  share = (gaps[:, None] >= -grid).mean(0)
  return float(grid[np.argmax(2 * share * (1 - share))])
