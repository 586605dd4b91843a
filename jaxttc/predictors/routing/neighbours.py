# SPDX-License-Identifier: Apache-2.0
"""Quality as the mean score of similar questions: kNN and clusters.

Similar is a large cosine between vectors.

Reference: Hu et al. (2024), RouterBench (kNN routers), arXiv:2403.12031.
"""

import warnings

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np
import scipy.cluster.vq


def unit_rows(x: Float[Array, "n D"]) -> Float[Array, "n D"]:
  """Rows scaled to length one; rows of zeros stay."""
  length = jnp.linalg.norm(x, axis=1, keepdims=True)
  return x / jnp.maximum(length, 1e-12)


@struct.dataclass
class Neighbours:
  """Mean of the known scores of the k nearest questions.

  Attributes:
    unit: f32[N, D], the questions, of length one.
    scores: f32[N, K], 0 where unknown.
    known: bool[N, K].
    means: f32[K], for models that no neighbour has a score of.
    k: neighbours.
  """

  unit: Float[Array, "N D"]
  scores: Float[Array, "N K"]
  known: Bool[Array, "N K"]
  means: Float[Array, " K"]
  k: int = struct.field(pytree_node=False)

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    near = jax.lax.top_k(unit_rows(x) @ self.unit.T, self.k)[1]
    count = self.known[near].sum(1)
    total = self.scores[near].sum(1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), self.means[None])


def fit_knn(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  k: int = 40,
  clamp: bool = False,
) -> Neighbours:
  """Keeps the training questions.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown.
    k: neighbours, at most N.
    clamp: whether a k above N becomes N, with a warning.

  Raises:
    ValueError: if k is below 1, or above N and not to be clamped.
  """
  if k > len(x) and clamp:
    warnings.warn(f"kNN: k={k} cut to {len(x)} questions", stacklevel=2)
    k = len(x)
  if not 1 <= k <= len(x):
    raise ValueError(f"kNN: expected k in [1, {len(x)}] (questions), got {k}")
  known = ~np.isnan(scores)
  return Neighbours(
    unit=unit_rows(jnp.asarray(x, jnp.float32)),
    scores=jnp.asarray(np.where(known, scores, 0), jnp.float32),
    known=jnp.asarray(known),
    means=jnp.asarray(np.nanmean(scores, 0), jnp.float32),
    k=k,
  )


@struct.dataclass
class Clusters:
  """Mean score of each model on the nearest cluster.

  Attributes:
    centres: f32[C, D], of length one.
    scores: f32[C, K].
  """

  centres: Float[Array, "C D"]
  scores: Float[Array, "C K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    return self.scores[jnp.argmax(unit_rows(x) @ self.centres.T, axis=1)]


def fit_kmeans(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  clusters: int = 32,
  prior: float = 5.0,
  seed: int = 0,
) -> Clusters:
  """Groups the training questions by k-means on unit vectors.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown.
    clusters: C, at most N.
    prior: so many questions of mean score are added to each cluster.
    seed: of the first centres (k-means++).

  Raises:
    ValueError: if there are more clusters than questions, or none.
  """
  if not 1 <= clusters <= len(x):
    raise ValueError(
      f"k-means: expected 1 to {len(x)} clusters, got {clusters}"
    )
  unit = np.asarray(unit_rows(jnp.asarray(x, jnp.float32)), np.float64)
  with warnings.catch_warnings():
    warnings.simplefilter(
      "ignore", UserWarning
    )  # an empty cluster does no harm
    centres, _ = scipy.cluster.vq.kmeans2(
      unit, clusters, minit="++", rng=np.random.default_rng(seed)
    )
  centres = np.asarray(unit_rows(jnp.asarray(centres, jnp.float32)))
  member = np.eye(clusters)[(unit @ centres.T).argmax(1)]
  known = ~np.isnan(scores)
  means = np.nanmean(scores, 0)
  total = member.T @ np.where(known, scores, 0) + prior * means
  count = member.T @ known + prior
  with np.errstate(invalid="ignore"):
    found = np.where(count > 0, total / count, means)
  return Clusters(jnp.asarray(centres), jnp.asarray(found, jnp.float32))
