# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import routing_pairs
from jaxttc.predictors.routing import (
  contrastive,
  descent,
  graph,
  networks,
  registry,
)


def _world(rows=400, seed=0):
  """Two models; which one is right depends on the first column."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(rows, 4)).astype(np.float32)
  first = rng.random(rows) < 1 / (1 + np.exp(-3 * x[:, 0]))
  second = rng.random(rows) < 1 / (1 + np.exp(3 * x[:, 0]))
  return x, np.stack([first, second], 1).astype(np.float64)


_TEXTS = (
  "mlp(hidden=(16,), epochs=20, rate=1e-2)",
  "factors(dimension=8, epochs=20, rate=1e-2)",
  "contrastive(dimension=8, clusters=4, epochs=20, rate=1e-2)",
  "graph(dimension=16, epochs=20, rate=1e-2)",
)


@pytest.mark.parametrize("text", _TEXTS)
def test_networks_learn_which_model_is_right(text):
  x, scores = _world()
  scores[::9, 1] = np.nan
  head = registry.head(text)(x, scores, jax.random.key(0))
  asked, truth = _world(seed=1)
  quality = jax.jit(lambda h, v: h(v))(head, jnp.asarray(asked))
  gain = np.asarray(quality[:, 0] - quality[:, 1])
  right = np.corrcoef(gain, truth[:, 0] - truth[:, 1])[0, 1]
  assert right > 0.5, text


def test_leaving_ties_out_predicts_wins_and_not_gains():
  # Where x is high nearly all is tied, but what is decided, the strong wins.
  rng = np.random.default_rng(0)
  high = rng.random(4000) < 0.5
  decided = rng.random(4000) < np.where(high, 0.05, 0.6)
  strong_wins = rng.random(4000) < np.where(high, 0.95, 0.75)
  strong = np.where(decided, strong_wins, 1.0).astype(float)
  weak = np.where(decided, ~strong_wins, 1.0).astype(float)
  x = np.stack([high, ~high, np.ones(4000)], 1).astype(np.float32)
  scores = np.stack([weak, strong], 1)
  apgr = {}
  for keep in (True, False):
    head = networks.fit_factors(
      x,
      scores,
      jax.random.key(0),
      dimension=8,
      keep_ties=keep,
      epochs=10,
      rate=1e-2,
    )
    quality = np.asarray(head(jnp.asarray(x)))
    gain = quality[:, 1] - quality[:, 0]
    apgr[keep] = routing_pairs.recovered(gain, weak, strong).apgr
  assert apgr[True] > 0.6 and apgr[False] < 0.5


def test_a_fit_is_a_function_of_its_key():
  x, scores = _world(rows=50)
  heads = [
    networks.fit_mlp(x, scores, jax.random.key(k), hidden=(4,), epochs=2)
    for k in (0, 0, 1)
  ]
  quality = [np.asarray(head(jnp.asarray(x))) for head in heads]
  np.testing.assert_array_equal(quality[0], quality[1])
  assert (quality[0] != quality[2]).any()


def test_rows_that_pad_are_never_drawn():
  rows = np.full((3, 1), 2.0)
  start = jnp.zeros(1)
  found = descent.minimise(
    _distance, start, (rows,), jax.random.key(0), epochs=400, rate=0.05
  )
  np.testing.assert_allclose(found, [2.0], atol=0.05)


def _distance(params, batch, key, settings):
  del key, settings
  return jnp.square(params[None] - batch[0]).mean()


def test_bad_settings_are_refused():
  x, scores = _world(rows=20)
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="epochs, batch and rate above 0"):
    networks.fit_mlp(x, scores, key, epochs=0)
  with pytest.raises(ValueError, match=r"hidden_edges in \(0, 1\)"):
    graph.fit_graph(x, scores, key, hidden_edges=1.0)
  with pytest.raises(ValueError, match="diverged"):
    networks.fit_mlp(x, np.full_like(scores, np.inf), key, epochs=1)
  with pytest.raises(ValueError, match="1 to 20 clusters"):
    contrastive.fit_contrastive(x, scores, key, clusters=0)
