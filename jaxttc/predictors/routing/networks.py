# SPDX-License-Identifier: Apache-2.0
"""Quality by small networks: a perceptron, and matrix factorisation.

The perceptron regresses the score of each model. Matrix factorisation learns
from preferences alone: delta(M, q) = w . (v_M / |v_M| * A e_q), and
P(M beats M') = sigmoid(delta(M, q) - delta(M', q)). A tie is half a win. To
leave ties out, as is often done, is to predict who wins *if* somebody does,
which is not the gain: how often the two differ is lost.

Reference: Ong et al. (2024), RouteLLM, arXiv:2406.18665.
"""

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import optax

from jaxttc.predictors.routing import descent, ratings


@struct.dataclass
class Perceptron:
  """One hidden layer or more; the output is a probability.

  Attributes:
    mean: f32[D], taken off the vectors.
    spread: f32[D], what they are divided by.
    layers: (weights, bias) of each layer.
  """

  mean: Float[Array, " D"]
  spread: Float[Array, " D"]
  layers: tuple[tuple[Array, Array], ...]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], expected scores."""
    return jax.nn.sigmoid(
      _logits(self.layers, (x - self.mean[None]) / self.spread[None])
    )


def fit_mlp(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  key: jax.Array,
  *,
  hidden: tuple[int, ...] = (100,),
  epochs: int = 20,
  rate: float = 1e-3,
  decay: float = 0.1,
) -> Perceptron:
  """Trains a perceptron on cross-entropy with scores in [0, 1] as labels.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown.
    key: of the first weights and the batches.
    hidden: units of each hidden layer.
    epochs: passes over the questions.
    rate: learning rate.
    decay: weight decay.

  Raises:
    ValueError: as `descent.minimise`.
  """
  mean, spread = descent.standardise(x)
  init, train = jax.random.split(key)
  sizes = (x.shape[1], *hidden, scores.shape[1])
  layers = descent.minimise(
    _cross_entropy,
    _layers(init, sizes),
    ((x - mean) / spread, *descent.masked(scores)),
    train,
    epochs=epochs,
    rate=rate,
    decay=decay,
  )
  return Perceptron(jnp.asarray(mean), jnp.asarray(spread), layers)


def _layers(key, sizes):
  keys = jax.random.split(key, len(sizes) - 1)
  return tuple(
    (jax.random.normal(k, (rows, columns)) / rows**0.5, jnp.zeros(columns))
    for k, rows, columns in zip(keys, sizes[:-1], sizes[1:], strict=True)
  )


def _logits(layers, x):
  for weights, bias in layers[:-1]:
    x = jax.nn.relu(x @ weights + bias[None])
  weights, bias = layers[-1]
  return x @ weights + bias[None]


def _cross_entropy(layers, batch, key, settings):
  del key, settings
  x, scores, known = batch
  loss = optax.sigmoid_binary_cross_entropy(_logits(layers, x), scores)
  return (loss * known).sum() / jnp.maximum(known.sum(), 1)


@struct.dataclass
class Factors:
  """Matrix factorisation of preferences.

  Attributes:
    models: f32[K, F], a vector a model; only its direction counts.
    project: f32[D, F], A.
    weights: f32[F], w.
  """

  models: Float[Array, "K F"]
  project: Float[Array, "D F"]
  weights: Float[Array, " F"]

  def deltas(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """delta(M, q) in logits."""
    length = jnp.linalg.norm(self.models, axis=1, keepdims=True)
    unit = self.models / jnp.maximum(length, 1e-6)
    return (x @ self.project * self.weights[None]) @ unit.T

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], mean chances to beat another model."""
    return ratings.win_chance(self.deltas(x))


def fit_factors(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  key: jax.Array,
  *,
  dimension: int = 128,
  keep_ties: bool = True,
  noise: float = 0.1,
  epochs: int = 100,
  rate: float = 3e-4,
  decay: float = 1e-5,
) -> Factors:
  """Trains on all pairs of models that both have a score of a question.

  Args:
    x: f32[N, D]. A last column of ones should be among them, since there are
      no biases; one is added here if no column is constant.
    scores: f64[N, K]; NaN where unknown.
    key: of the first factors, the batches and the noise.
    dimension: F.
    keep_ties: whether ties count as half a win; else they are left out.
    noise: of the vectors while training, in their mean length per component.
    epochs: passes over the questions.
    rate: learning rate.
    decay: weight decay.

  Raises:
    ValueError: as `descent.minimise`.
  """
  init, train = jax.random.split(key)
  first, second, third = jax.random.split(init, 3)
  features, models = x.shape[1], scores.shape[1]
  start = Factors(
    models=jax.random.normal(first, (models, dimension)),
    project=jax.random.normal(second, (features, dimension)) / features**0.5,
    weights=jax.random.normal(third, (dimension,)) / dimension**0.5,
  )
  won = ratings.battles(scores)
  met = won + won.swapaxes(1, 2)
  if not keep_ties:
    met = np.where(won == 0.5, 0.0, met)
  scale = noise * float(np.sqrt(np.mean(np.square(x))))
  return descent.minimise(
    _preference,
    start,
    (x, won, met),
    train,
    settings=round(scale, 6),
    epochs=epochs,
    rate=rate,
    decay=decay,
  )


def _preference(factors, batch, key, noise):
  x, won, met = batch
  delta = factors.deltas(x + noise * jax.random.normal(key, x.shape))
  logits = delta[:, :, None] - delta[:, None, :]
  loss = optax.sigmoid_binary_cross_entropy(logits, won)
  return (loss * met).sum() / jnp.maximum(met.sum(), 1)
