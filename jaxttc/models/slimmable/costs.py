# SPDX-License-Identifier: Apache-2.0
"""What each configuration of a slimmable network costs.

Layers know their price (`layers.charge`), also when their widths are traced.
So the costs of thousands of configurations are one small compiled program, in
which nothing is left of the network itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models.slimmable import network as network_lib
from jaxttc.models.slimmable import widths


class WidthCosts(NamedTuple):
  """Costs of N configurations, an example. All i64[N].

  Attributes:
    macs: multiply-adds; two floating-point operations each.
    parameters: numbers read.
    activations: numbers written.
  """

  macs: np.ndarray
  parameters: np.ndarray
  activations: np.ndarray


def tabulate(
  network: network_lib.MultiTaskNetwork, indices: np.ndarray
) -> WidthCosts:
  """Costs at menu indices i32[N, groups]; exact.

  Multiply-adds count every tap of a window, also those in the padding.
  Nonlinearities, sums and the enlargement of images are not counted, norms only
  in parameters and activations.
  """
  rows = len(indices)
  padded = np.zeros((1 << max(rows - 1, 0).bit_length(), indices.shape[1]))
  padded[:rows] = indices  # a few sizes, so that little is compiled
  with jax.enable_x64(True):
    found = _tabulate(network)(jnp.asarray(padded, jnp.int64))
    return WidthCosts(*(np.asarray(x, np.int64)[:rows] for x in found))


@functools.lru_cache(maxsize=16)
def _tabulate(network):
  """Compiled: i64[N, groups] -> three i64[N]."""
  space = network.space
  params = jax.eval_shape(
    functools.partial(network_lib.init, network), jax.random.key(0)
  )
  table = np.asarray(space.table(), np.int64)

  def one(indices):
    found = jnp.asarray(table)[jnp.arange(len(space.groups)), indices]
    split = len(space.encoder)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params)
    _, state = network.apply(
      {"params": zeros},
      jnp.zeros((1, *network.input_shape), jnp.float32),
      widths.Counts(found[:split], found[split:]),
      train=True,
      mutable=["cost"],
    )
    totals = {"macs": 0, "parameters": 0, "activations": 0}
    leaves = jax.tree_util.tree_leaves_with_path(state["cost"])
    for path, value in leaves:
      totals[path[-1].key] += value
    return tuple(totals[name] for name in WidthCosts._fields)

  return jax.jit(jax.vmap(one))
