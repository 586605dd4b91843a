# SPDX-License-Identifier: Apache-2.0
"""A head for questions like those of its fit; for others, what is usual.

A head says something about any vector, also about one far from all that it has
seen, and what it says there is noise. A question whose nearest question of the
fit is farther away than is usual among these is a *stranger*, and gets the mean
scores of all: no better than not looking at it, and no worse.

Reference: Ramaswamy et al. (2000), Efficient algorithms for mining outliers
from large data sets (distance to a near neighbour as the outlier score).
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from jaxttc.predictors.routing import base


@struct.dataclass
class Familiar:
  """A head, and mean scores for strangers.

  Attributes:
    head: the head.
    questions: f32[N, D], those of the fit.
    reach: f32[], farthest that a familiar question is from the nearest.
    means: f32[K], for strangers.
  """

  head: Any
  questions: Float[Array, "N D"]
  reach: Float[Array, ""]
  means: Float[Array, " K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    strange = self.strange(x)[:, None]
    return jnp.where(strange, self.means[None], self.head(x))

  def strange(self, x: Float[Array, "n D"]) -> Bool[Array, " n"]:
    """Which questions are strangers, bool[n]."""
    return jnp.sqrt(_squares(x, self.questions).min(1)) > self.reach


def fit_familiar(
  fit_head: base.FitHead,
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  key: jax.Array,
  *,
  strange: float = 0.01,
) -> Familiar:
  """Fits a head, and how far its questions are from one another.

  Args:
    fit_head: fits the head.
    x: f32[N, D], at least two.
    scores: f64[N, K]; NaN where unknown.
    key: of the fit.
    strange: share of the questions of the fit that would be strangers to the
      others, in [0, 1).

  Raises:
    ValueError: for fewer than two questions or a share out of range, or as
      `fit_head`.
  """
  if len(x) < 2 or not 0 <= strange < 1:
    raise ValueError(
      "familiar: expected at least 2 questions and a share in [0, 1), got "
      f"{len(x)} and {strange}"
    )
  apart = np.array(_squares(jnp.asarray(x), jnp.asarray(x)))
  np.fill_diagonal(apart, np.inf)
  reach = np.quantile(np.sqrt(apart.min(1)), 1 - strange)
  return Familiar(
    head=fit_head(x, scores, key),
    questions=jnp.asarray(x, jnp.float32),
    reach=jnp.asarray(reach, jnp.float32),
    means=jnp.asarray(np.nanmean(scores, 0), jnp.float32),
  )


def _squares(a, b):
  """Squared distances f32[n, N]."""
  found = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
  return jnp.maximum(found, 0)
