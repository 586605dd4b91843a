# SPDX-License-Identifier: Apache-2.0
"""Rivals that start from a network trained without any preference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import branching
from jaxttc.studies import slimming_cells, slimming_rivals
from jaxttc.training import loop, multitask_recipes

_START = slimming_cells.RivalTraining(start=0.5, variation=0.0)


@pytest.fixture(scope="module")
def network():
  recipe = multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (16, 16)},
    hidden=16,
    menu=(1.0,),
    norm="none",
    train=loop.TrainConfig(),
  )
  return recipe.spec(recipe.load_data()).build()


def _losses(predictions, batch):
  del batch
  return jnp.stack([jnp.square(x).mean() for x in predictions.values()])


@pytest.mark.parametrize("kind", ["ray", "norms", "branching"])
def test_without_variation_a_rival_starts_as_the_trained_target(network, kind):
  """For any preference, and any branching, it predicts what the target does."""
  inputs = jax.random.normal(jax.random.key(0), (4, 24))
  if kind == "branching":
    cell = slimming_cells.Branching("it", 1.0, 1e-2, _START)
    anchor = slimming_rivals.anchor_of(network)
    rival = slimming_rivals.branching_network(cell, anchor, inputs[:1], _losses)
    told = (jnp.float32(0.7),)
  else:
    cell = slimming_cells.Hypernetwork("it", kind, 1.0, 1e-2, training=_START)
    rival = slimming_rivals.hypernetwork(cell, network, _losses)
    told = ()

  @jax.jit
  def both(key):
    trained = rival.initial(key)
    model = rival.build(lambda _: rival.spread(trained), 1)
    found = model.predict(
      model.init(jax.random.key(2)), jnp.array([0.7, 0.1, 0.2]), *told, inputs
    )
    return found, rival.forward(trained, inputs)

  found, expected = both(jax.random.key(1))
  assert set(found) == {"task_0", "task_1", "task_2"}
  for task, values in expected.items():
    np.testing.assert_allclose(found[task], values, atol=1e-5)


def test_one_stream_costs_what_the_network_does(network):
  anchor = slimming_rivals.anchor_of(network)
  example = jnp.zeros((1, 24))
  params = jax.eval_shape(
    lambda key: branching.init(anchor, key, example), jax.random.key(0)
  )
  parts = branching.costs(anchor, params, example)
  found = branching.macs(parts, branching.one_stream(anchor))
  assert found == 24 * 16 + 16 * 16 + 3 * (16 * 16 + 16 * 4)


def test_starts_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="cannot start from trained ones"):
    slimming_cells.Hypernetwork("it", "chunked", 1.0, 1e-2, training=_START)
  with pytest.raises(ValueError, match="is not one of ray, chunked, norms"):
    slimming_cells.Hypernetwork("it", "rays", 1.0, 1e-2)
  with pytest.raises(ValueError, match=r"in \[0, draws=2\), got 2"):
    slimming_cells.RivalTraining(draws=2, start=2.0)


def test_a_start_takes_its_passes_from_the_rest():
  how = slimming_cells.RivalTraining(draws=4, start=1.0)
  first, then = how.steps(1500)
  assert first + how.draws * then == how.draws * 1500
