# SPDX-License-Identifier: Apache-2.0
"""Tabulated costs against hand counts, traced programs, and sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import jaxpr_flops
from jaxttc.models.slimmable import costs, network

_KINDS = ("mlp", "residual", "mobilenet_v2", "vision_transformer")


@pytest.fixture(scope="module", params=_KINDS)
def tabulated(tiny, request):
  """(description, every configuration, its costs)."""
  norm = "layer" if request.param == "vision_transformer" else "group"
  spec = tiny(request.param, norm)
  net = spec.build()
  every = net.space.all_indices()
  return spec, every, costs.tabulate(net, every)


def _few(every):
  """The narrowest, the widest, and two between."""
  return [0, len(every) // 3, 2 * len(every) // 3, len(every) - 1]


def test_multiply_adds_are_those_of_the_traced_slim_program(tabulated):
  """Two FLOPs each; both count the taps of a window that lie in its padding.

  Elementwise work (norms, nonlinearities, sums, enlarging) is in neither.
  Enlarging is a matrix product to JAX, so images are not enlarged here: what
  it costs is taken off.
  """
  spec, every, found = tabulated
  net = spec.build()
  params = jax.eval_shape(
    functools.partial(network.init, net), jax.random.key(0)
  )
  x = jax.ShapeDtypeStruct((1, *net.input_shape), jnp.float32)
  for i in _few(every):
    counts = net.space.counts(net.space.at(every[i]))
    run = lambda params, x, counts=counts: net.apply(  # noqa: E731
      {"params": params}, x, counts
    )
    flops = jaxpr_flops.count_flops(run, params, x)
    assert flops - _enlarging(net, counts, x) == 2 * found.macs[i]


def _enlarging(net, counts, x):
  """FLOPs of making feature maps larger, a matrix product an axis."""
  head = net.decoders[0][1]
  if len(x.shape) == 2:
    return 0
  side = x.shape[1] // head.scale
  return jaxpr_flops.count_flops(
    lambda h: jax.image.resize(
      h, (1, x.shape[1], x.shape[2], h.shape[-1]), "bilinear"
    ),
    jax.ShapeDtypeStruct((1, side, side, counts.decoders[0]), jnp.float32),
  )


def test_parameters_are_the_size_of_the_extracted_network(tabulated):
  spec, every, found = tabulated
  for i in _few(every):
    small = spec.at(spec.build().space.at(every[i])).build()
    shapes = jax.eval_shape(
      functools.partial(network.init, small), jax.random.key(0)
    )
    sizes = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert found.parameters[i] == sizes


def test_all_costs_rise_with_every_width(tabulated):
  _, every, found = tabulated
  rows = {tuple(row): i for i, row in enumerate(every)}
  for row, i in rows.items():
    for place in range(len(row)):
      if row[place] == 0:
        wider = rows[(*row[:place], 1, *row[place + 1 :])]
        for cost in found:
          assert cost[wider] > cost[i]


def test_a_network_of_vectors_by_hand(tiny):
  net = tiny("mlp").build()
  config = net.space.config([0.5, 1.0, 1.0, 0.5])  # 8, 16; 8, 8
  found = costs.tabulate(net, net.space.indices(config)[None])
  dense = [(5, 8), (8, 16), (16, 8), (8, 1), (16, 8), (8, 3)]
  norms = 8 + 16 + 8 + 8
  assert found.macs == [sum(a * b for a, b in dense)]
  assert found.parameters == [sum((a + 1) * b for a, b in dense) + 2 * norms]
  assert found.activations == [sum(b for _, b in dense) + norms]


def test_switchable_norms_read_one_row(tiny):
  every = tiny("mlp").build().space.all_indices()
  grouped = costs.tabulate(tiny("mlp").build(), every)
  switchable = costs.tabulate(tiny("mlp", "switchable").build(), every)
  jax.tree.map(np.testing.assert_array_equal, grouped, switchable)


def test_counts_above_two_billion_are_exact():
  net = network.NetworkSpec(
    encoder={"kind": "residual", "stages": ((256, 1, 1),)},
    tasks=(("kind", 1, False),),
    input_shape=(128, 128, 3),
    hidden=8,
    menu=(1.0,),
    norm="none",
  ).build()
  found = costs.tabulate(net, np.zeros((1, 2), np.int32))
  conv = 9 * 128 * 128 * 256
  macs = conv * (3 + 256 + 256) + 256 * 8 + 8
  assert macs > 2**32 and found.macs == [macs]
  assert all(cost.dtype == np.int64 for cost in found)


def test_any_number_of_rows_is_tabulated(tiny):
  net = tiny("mlp").build()
  every = net.space.all_indices()
  found = costs.tabulate(net, every)
  for rows in (0, 1, 3):
    part = costs.tabulate(net, every[:rows])
    for some, cost in zip(part, found, strict=True):
      np.testing.assert_array_equal(some, cost[:rows])
