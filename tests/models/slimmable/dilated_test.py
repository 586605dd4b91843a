# SPDX-License-Identifier: Apache-2.0
"""Dilated ResNets and atrous decoders: shapes, slices, masks and costs."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import costs, dilated, layers, network, norms

_NORM = norms.NormChoice("group", 4, (0.5, 1.0))


@functools.cache
def _spec(expansion: int) -> network.NetworkSpec:
  return network.NetworkSpec(
    encoder={
      "kind": "dilated_resnet",
      "stages": ((8, 1, 1, 1), (8, 2, 1, 2)),
      "expansion": expansion,
    },
    tasks=(("depth", 1, True), ("kind", 3, False)),
    input_shape=(16, 16, 3),
    hidden=8,
    menu=(0.5, 1.0),
    quantum=4,
    atrous=(1, 2),
  )


@pytest.mark.parametrize("expansion", [1, 4])
def test_sliced_masked_and_extracted_networks_are_one(expansion, drawn):
  spec = _spec(expansion)
  net = spec.build()
  params = drawn(net)
  x = jnp.asarray(
    np.random.default_rng(1).normal(size=(2, 16, 16, 3)), jnp.float32
  )
  config = net.space.config([0.5, 1.0, 0.5, 1.0])
  traced = net.space.counts_at(net.space.indices(config))
  masked = jax.jit(lambda p, c: net.apply({"params": p}, x, c)[0])(
    params, traced
  )
  sliced = jax.jit(
    lambda p: net.apply({"params": p}, x, net.space.counts(config))[0]
  )(params)
  small, cut = network.extract(spec, params, config)
  own = small.build()
  extracted = jax.jit(
    lambda p: own.apply({"params": p}, x, own.space.counts(own.space.uniform()))
  )(cut)[0]
  assert sliced["depth"].shape == (2, 16, 16, 1)
  assert sliced["kind"].shape == (2, 3)
  for task, values in sliced.items():
    assert np.std(values) > 1e-3
    np.testing.assert_allclose(masked[task], values, rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(extracted[task], values, rtol=2e-4, atol=2e-4)


def test_weights_beyond_the_width_change_nothing(drawn):
  spec = _spec(1)
  net = spec.build()
  params = drawn(net)
  config = net.space.uniform(0.5)
  _, cut = network.extract(spec, params, config)
  noisy = jax.tree.map(
    lambda whole, part: (
      np.asarray(whole)
      + np.pad(
        np.zeros(part.shape, np.float32),
        [(0, a - b) for a, b in zip(whole.shape, part.shape, strict=True)],
        constant_values=9.0,
      )
    ),
    params,
    cut,
  )
  x = jnp.ones((1, 16, 16, 3))
  run = jax.jit(
    lambda p: net.apply({"params": p}, x, net.space.counts(config))[0]
  )
  jax.tree.map(np.testing.assert_array_equal, run(params), run(noisy))


@pytest.mark.parametrize(
  ("stages", "expansion", "macs", "parameters"),
  [
    (dilated.RESNET_18, 1, 1.814e9, 11.18e6),
    (dilated.RESNET_50, 4, 4.087e9, 23.51e6),
  ],
  ids=["resnet18", "resnet50"],
)
def test_resnets_are_as_large_as_published(stages, expansion, macs, parameters):
  """Without classifiers, at 224 x 224, with strides (He et al. 2015)."""
  strided = tuple(
    (c, blocks, 1 if i == 0 else 2, 1)
    for i, (c, blocks, _, _) in enumerate(stages)
  )
  encoder = dilated.DilatedResNetEncoder(
    strided, expansion, norms.NormChoice("layer")
  )
  found, params, shape = _costs(encoder, 224)
  assert shape == (1, 7, 7, 512 * expansion)
  assert found["parameters"] == sum(x.size for x in jax.tree.leaves(params))
  np.testing.assert_allclose(found["macs"], macs, rtol=0.01)
  np.testing.assert_allclose(found["parameters"], parameters, rtol=0.01)
  wide, _, shape = _costs(
    dilated.DilatedResNetEncoder(stages, expansion, norms.NormChoice("layer")),
    224,
  )
  assert shape == (1, 28, 28, 512 * expansion)  # an eighth of the image
  assert wide["parameters"] == found["parameters"]
  assert wide["macs"] > 3 * found["macs"]


def _costs(encoder, side):
  counts = tuple(group.channels for group in encoder.groups())
  totals = {"macs": 0, "parameters": 0, "activations": 0}

  def run(key):
    x = layers.whole(jnp.zeros((1, side, side, 3)))
    y, found = encoder.init_with_output(
      key, x, counts, mutable=["cost", "params"]
    )
    for path, value in jax.tree_util.tree_leaves_with_path(found["cost"]):
      totals[path[-1].key] += value
    return y.values, found["params"]

  values, params = jax.eval_shape(run, jax.random.key(0))
  return totals, params, values.shape


def test_costs_of_a_head_by_hand():
  """Two rates, features 4 x 4 x 8, four of eight channels in use."""
  head = dilated.AtrousHead(3, 8, 2, (1, 2), _NORM, 4)
  x = layers.whole(jnp.zeros((1, 4, 4, 8)))
  params = jax.eval_shape(lambda key: head.init(key, x, 8), jax.random.key(0))[
    "params"
  ]
  totals = {}

  def run(params):
    y, found = head.apply({"params": params}, x, 4, mutable=["cost"])
    for path, value in jax.tree_util.tree_leaves_with_path(found["cost"]):
      totals[path[-1].key] = totals.get(path[-1].key, 0) + value
    return y

  assert jax.eval_shape(run, params).shape == (1, 8, 8, 3)
  windows = 16 * 8 * 4 * (1 + 9 + 9) + 8 * 4  # the last of one place
  assert totals["macs"] == windows + 16 * (4 * 4 * 4 + 9 * 4 * 4 + 4 * 3)


def test_joined_parts_are_a_concatenation():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(3, 2, 4, 4, 8)).astype(np.float32)
  parts = [layers.whole(jnp.asarray(v)) for v in values]
  join = dilated.Join(6)
  keep = lambda x, bias: x._replace(  # noqa: E731
    values=x.values + layers.along(x.values, bias)
  )
  variables = join.init(jax.random.key(0), parts, 6, keep)
  found = join.apply(variables, parts, 6, keep).values
  kernel = variables["params"]["kernel"].reshape(1, 1, 24, 6)
  expected = nn.Conv(6, (1, 1)).apply(
    {"params": {"kernel": kernel, "bias": variables["params"]["bias"]}},
    jnp.concatenate(list(values), -1),
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_all_costs_rise_with_every_width():
  net = _spec(4).build()
  every = net.space.all_indices()
  found = costs.tabulate(net, every)
  rows = {tuple(row): i for i, row in enumerate(every)}
  for row, i in rows.items():
    for place in np.flatnonzero(np.array(row) == 0):
      wider = rows[(*row[:place], 1, *row[place + 1 :])]
      assert all(cost[wider] > cost[i] for cost in found)


def test_blocks_of_another_expansion_are_refused():
  with pytest.raises(ValueError, match="expansion must be 1 or 4, got 2"):
    dilated.DilatedResNetEncoder(expansion=2)
