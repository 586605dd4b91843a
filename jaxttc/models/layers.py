# SPDX-License-Identifier: Apache-2.0
"""Residual layers: what a trunk, or a head that reads, is made of."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxttc.models import attention as attention_lib
from jaxttc.models import attention_backend, host_gradients, int8_weights
from jaxttc.models import config as config_lib


class GatedMLP(nn.Module):
  """Gated MLP; gate and up projections are one matrix.

  Attributes:
    config: sizes.
    dtype: to compute in.
    apart: whether they are two products nevertheless, as a gradient on a CPU is
      faster (`Attention`).
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  apart: bool = False

  @nn.compact
  def __call__(self, x):
    """Maps hidden states [..., D] to [..., D]."""
    cfg = self.config
    init = nn.initializers.lecun_normal(in_axis=0, out_axis=-1)
    gate_up = self.param("gate_up", init, (cfg.width, 2, cfg.mlp_width))
    down = self.param("down", init, (cfg.mlp_width, cfg.width))
    product = functools.partial(int8_weights.product, dtype=self.dtype)
    scale = int8_weights.scale_of(self, "gate_up")
    if self.apart:
      gate, up = (
        host_gradients.dense(
          x, gate_up[:, i], None if scale is None else scale[i], self.dtype
        )
        for i in range(2)
      )
    else:
      h = product("...d,dgf->...gf", x, gate_up, scale)
      gate, up = h[..., 0, :], h[..., 1, :]
    if cfg.activation == "silu":
      gate = jax.nn.silu(gate)
    else:
      gate = jax.nn.gelu(gate, approximate=True)
    h = gate * up
    scale = int8_weights.scale_of(self, "down")
    if self.apart:
      return host_gradients.dense(h, down, scale, self.dtype)
    return product("...f,fd->...d", h, down, scale)


def add(module, first, count):
  """Gives a module, in its `setup`, the layers from `first` on, and a norm.

  Unrolled: one cache tensor a layer decodes best.
  """
  cfg, dtype = module.config, module.dtype
  layers = range(first, first + count)

  apart = module.backend == attention_backend.BLOCKED
  norm = functools.partial(
    host_gradients.RMSNorm if apart else nn.RMSNorm,
    epsilon=cfg.norm_eps,
    dtype=dtype,
  )

  def norms():
    return [norm() for _ in layers]

  module.attention_norm = norms()
  module.attention = [
    attention_lib.Attention(cfg, dtype, cfg.is_local(i), module.backend)
    for i in layers
  ]
  module.mlp_norm = norms()
  module.mlp = [GatedMLP(cfg, dtype, apart) for _ in layers]
  if cfg.post_norms:
    module.attention_post_norm = norms()
    module.mlp_post_norm = norms()
  module.final_norm = norm()


def run(module, first, x, positions, own_mask, context, seen=None):
  """All layers of a module, whose caches are the context's from `first` on.

  What comes out of each layer is put behind the list `seen`, if there is one.
  """
  own = []
  for i in range(len(module.attention)):
    parts = (
      None if context.arena is None else context.arena[first + i],
      None if context.scratch is None else context.scratch[first + i],
    )
    layer = functools.partial(_run_one, layer=i)
    if module.remat:
      layer = nn.remat(layer)
    x, private = layer(module, x, positions, own_mask, parts, context)
    own.append(private)
    if seen is not None:
      seen.append(x)
  return x, tuple(own)


def _run_one(module, x, positions, own_mask, parts, context, *, layer):
  """One layer of a module, and the private keys and values that it gives."""
  h, private = module.attention[layer](
    module.attention_norm[layer](x), positions, own_mask, parts, context
  )
  if module.config.post_norms:
    h = module.attention_post_norm[layer](h)
  x = x + h
  h = module.mlp[layer](module.mlp_norm[layer](x))
  if module.config.post_norms:
    h = module.mlp_post_norm[layer](h)
  return x + h, private
