# SPDX-License-Identifier: Apache-2.0
"""Questions and models as two sides of a graph, scores as edges (GraphRouter).

Two rounds of messages: models gather the questions that they answered well or
badly, then questions gather the models. An edge's score is
sigmoid(mean(x_q * h_M)). While training, a part of the edges is hidden, and
the hidden ones are what is predicted. A new question has no edges yet: it
reads the models that the training graph made.

Reference: Feng et al. (2024), GraphRouter, arXiv:2410.03834.
"""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import optax

from jaxttc.predictors.routing import descent


@struct.dataclass
class Graph:
  """What questions are compared with.

  Attributes:
    mean: f32[D], taken off the vectors.
    spread: f32[D], what they are divided by.
    params: the layers.
    models: f32[K, F], models after the messages of the training graph.
  """

  mean: Float[Array, " D"]
  spread: Float[Array, " D"]
  params: Any
  models: Float[Array, "K F"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K], expected scores."""
    x = (x - self.mean[None]) / self.spread[None]
    return jax.nn.sigmoid(_edges(self.params, x, self.models))


def fit_graph(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  key: jax.Array,
  *,
  dimension: int = 64,
  hidden_edges: float = 0.3,
  epochs: int = 30,
  batch: int = 256,
  rate: float = 1e-3,
  decay: float = 0.1,
) -> Graph:
  """Trains the layers; a batch of questions is a graph.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where there is no edge.
    key: of the first weights, the batches and the hidden edges.
    dimension: F.
    hidden_edges: share of the edges hidden in a step, in (0, 1).
    epochs: passes over the questions.
    batch: questions of a step's graph.
    rate: learning rate.
    decay: weight decay.

  Raises:
    ValueError: if the share is out of range, or as `descent.minimise`.
  """
  if not 0 < hidden_edges < 1:
    raise ValueError(f"expected hidden_edges in (0, 1), got {hidden_edges}")
  mean, spread = descent.standardise(x)
  scaled = (x - mean) / spread
  values, known = descent.masked(scores)
  init, train = jax.random.split(key)
  params = descent.minimise(
    _loss,
    _start(init, x.shape[1], scores.shape[1], dimension),
    (scaled, values, known),
    train,
    settings=hidden_edges,
    epochs=epochs,
    batch=batch,
    rate=rate,
    decay=decay,
  )
  models = _gather(params, *map(jnp.asarray, (scaled, values, known)))
  return Graph(jnp.asarray(mean), jnp.asarray(spread), params, models)


def _start(key, features: int, models: int, dimension: int):
  keys = jax.random.split(key, 5)

  def dense(key, rows):
    return jax.random.normal(key, (rows, dimension)) / rows**0.5

  return {
    "question": dense(keys[0], features),
    "model": jax.random.normal(keys[1], (models, dimension)),
    "good": dense(keys[2], dimension),
    "bad": dense(keys[3], dimension),
    "back": dense(keys[4], dimension),
    "bias": jnp.zeros(models),
  }


def _gather(params, x, values, seen):
  """Models after the messages of questions, f32[K, F]."""
  questions = jax.nn.relu(x @ params["question"])
  count = jnp.maximum(seen.sum(0), 1)[:, None]
  good = (seen * values).T @ questions / count
  bad = (seen * (1 - values)).T @ questions / count
  return params["model"] + good @ params["good"] + bad @ params["bad"]


def _edges(params, x, models):
  """Logits of edges, from questions that read the models, f32[n, K]."""
  questions = jax.nn.relu(x @ params["question"])
  bias = params["bias"][None]
  near = jax.nn.softmax(questions @ models.T / models.shape[1] ** 0.5)
  questions = questions + near @ models @ params["back"]
  return questions @ models.T / models.shape[1] ** 0.5 + bias


def _loss(params, batch, key, hidden_edges):
  x, values, known = batch
  hidden = known * jax.random.bernoulli(key, hidden_edges, known.shape)
  models = _gather(params, x, values, known - hidden)
  logits = _edges(params, x, models)
  loss = optax.sigmoid_binary_cross_entropy(logits, values)
  return (loss * hidden).sum() / jnp.maximum(hidden.sum(), 1)
