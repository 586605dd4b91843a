# SPDX-License-Identifier: Apache-2.0
"""Tiny slimmable networks, one of each family."""

from collections.abc import Callable
import functools

import jax
import numpy as np
import pytest

from jaxttc.models.slimmable import network

_ENCODERS = {
  "mlp": {"hidden": (16, 16)},
  "residual": {"stages": ((8, 1, 1), (16, 1, 2))},
  "mobilenet_v2": {
    "stages": ((1, 8, 1, 1), (2, 16, 2, 2)),
    "stem": 8,
    "stem_stride": 1,
    "last": 12,
  },
  "vision_transformer": {
    "patch": 2,
    "width": 8,
    "segments": ((1, 2, 8), (1, 4, 16)),
    "head_dim": 4,
  },
}


@pytest.fixture(scope="session")
def tiny() -> Callable[..., network.NetworkSpec]:
  """(kind of encoder, kind of norm) -> a network of two tasks."""

  def spec(kind: str, norm: str = "group") -> network.NetworkSpec:
    images = kind != "mlp"
    return network.NetworkSpec(
      encoder={"kind": kind, **_ENCODERS[kind]},
      tasks=(("depth", 1, images), ("kind", 3, False)),
      input_shape=(4, 4, 3) if images else (5,),
      hidden=(8, 16),
      menu=(0.5, 1.0),
      norm=norm,
      quantum=4 if kind != "vision_transformer" else 1,
      pooled=kind != "residual",
    )

  return spec


@pytest.fixture(scope="session")
def drawn() -> Callable[..., dict]:
  """(network, seed) -> parameters that are all different, and none zero."""

  def params(net: network.MultiTaskNetwork, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(
      functools.partial(network.init, net), jax.random.key(0)
    )
    return jax.tree.map(
      lambda x: rng.normal(0.1, 0.4, x.shape).astype(np.float32), shapes
    )

  return params
