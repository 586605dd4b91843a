# SPDX-License-Identifier: Apache-2.0
"""Questions and models in one space, by two contrastive losses (RouterDC).

A question is mapped onto the sphere, where each model has a place; its quality
is the cosine. Each of the few best models of a question is pulled near it,
against the few worst (those that score above one half do not count as bad).
Questions of one cluster are pulled together.

Reference: Chen et al. (2024), RouterDC, arXiv:2409.19886.
"""

from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from jaxttc.predictors.routing import descent, neighbours

_GOOD, _BAD = 0.01, 0.51  # just above 0 and 1/2: ties are broken upwards


class _Settings(NamedTuple):
  """Of the losses, as arguments of `fit_contrastive`."""

  best: int
  worst: int
  temperature: float
  together: float


@struct.dataclass
class Sphere:
  """Cosines of questions and models.

  Attributes:
    mean: f32[D], taken off the vectors.
    spread: f32[D], what they are divided by.
    project: f32[D, F].
    offset: f32[F], where a mean question lies; models good on most are near.
    models: f32[K, F].
  """

  mean: Float[Array, " D"]
  spread: Float[Array, " D"]
  project: Float[Array, "D F"]
  offset: Float[Array, " F"]
  models: Float[Array, "K F"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], cosines."""
    questions = (x - self.mean[None]) / self.spread[None] @ self.project
    questions = questions + self.offset[None]
    unit = neighbours.unit_rows
    return unit(questions) @ unit(self.models).T


def fit_contrastive(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  key: jax.Array,
  *,
  best: int = 3,
  worst: int = 3,
  temperature: float = 0.2,
  together: float = 0.2,
  dimension: int = 32,
  clusters: int = 16,
  epochs: int = 20,
  rate: float = 1e-3,
  decay: float = 0.1,
) -> Sphere:
  """Trains both losses.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown: neither good nor bad.
    key: of the first places and the batches.
    best: so many best models are pulled near, cut to K - 1.
    worst: so many worst are pushed away, cut to K - 1.
    temperature: cosines are divided by it.
    together: weight of the loss between questions.
    dimension: F.
    clusters: clusters of questions, cut to N.
    epochs: passes over the questions.
    rate: learning rate.
    decay: weight decay.

  Raises:
    ValueError: as `descent.minimise`.
  """
  others = scores.shape[1] - 1
  settings = _Settings(
    min(best, others), min(worst, others), temperature, together
  )
  mean, spread = descent.standardise(x)
  groups = neighbours.fit_kmeans(x, scores, clusters=min(clusters, len(x)))
  unit = neighbours.unit_rows(jnp.asarray(x))
  cluster = np.asarray(jnp.argmax(unit @ groups.centres.T, 1), np.float64)
  init, train = jax.random.split(key)
  first, second = jax.random.split(init)
  start = {
    "project": jax.random.normal(first, (x.shape[1], dimension))
    / x.shape[1] ** 0.5,
    "offset": jnp.zeros(dimension),
    "models": jax.random.normal(second, (scores.shape[1], dimension)),
  }
  found = descent.minimise(
    _loss,
    start,
    ((x - mean) / spread, *descent.masked(scores), cluster),
    train,
    settings=settings,
    epochs=epochs,
    rate=rate,
    decay=decay,
  )
  return Sphere(jnp.asarray(mean), jnp.asarray(spread), **found)


def _loss(params, batch, key, settings):
  x, scores, known, cluster = batch
  # Many scores are equal: which of the equals count as best is drawn anew.
  scores = scores + 1e-3 * jax.random.uniform(key, scores.shape) * known
  questions = neighbours.unit_rows(
    x @ params["project"] + params["offset"][None]
  )
  near = questions @ neighbours.unit_rows(params["models"]).T
  models = _models_loss(near / settings.temperature, scores, known, settings)
  between = questions @ questions.T / settings.temperature
  return models + settings.together * _questions_loss(between, cluster)


def _models_loss(near, scores, known, settings):
  """-log of a good model's share against the bad ones, a mean over the good."""
  high = jnp.where(known > 0, scores, -1.0)
  low = jnp.where(known > 0, scores, 2.0)
  good, best = jax.lax.top_k(high, settings.best)
  bad, worst = jax.lax.top_k(-low, settings.worst)
  pull = jnp.take_along_axis(near, best, 1)
  push = jnp.take_along_axis(near, worst, 1)
  push = jnp.where(-bad <= _BAD, push, -1e9)
  # Each good model against all bad ones, [b, best].
  against = jax.nn.logsumexp(push, axis=1, keepdims=True)
  total = jnp.logaddexp(pull, against)
  counts = good > _GOOD
  return ((total - pull) * counts).sum() / jnp.maximum(counts.sum(), 1)


def _questions_loss(between, cluster):
  """Questions of one cluster against all others of the batch."""
  itself = jnp.eye(len(between), dtype=bool)
  same = (cluster[:, None] == cluster[None, :]) & ~itself
  total = jax.nn.logsumexp(jnp.where(itself, -1e9, between), 1, keepdims=True)
  share = jnp.where(same, total - between, 0.0).sum(1)
  count = same.sum(1)
  return (share / jnp.maximum(count, 1)).mean()
