# SPDX-License-Identifier: Apache-2.0
"""Grouped-query attention over a call's own tokens, a scratch and an arena.

Shape letters are those of `models.transformer`.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxttc import mesh as mesh_lib
from jaxttc.models import (
  attention_backend,
  blocked_attention,
  host_gradients,
  int8_weights,
  key_values,
  rotary,
)
from jaxttc.models import config as config_lib

_MASKED = -1e30  # finite, so that a row with nothing to attend to is no NaN


class Attention(nn.Module):
  """Grouped-query attention over an arena and a private part.

  Attributes:
    config: sizes.
    dtype: to compute in.
    local: whether it sees no more than the last `config.window` tokens.
    backend: one of `attention_backend.NAMES`.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  local: bool = False
  backend: str = attention_backend.AUTO

  @nn.compact
  def __call__(self, x_GRTD, positions, own_mask, arena, context):
    """Returns the output [G, R, T, D] and the private keys and values.

    The private part is the updated scratch if there is one, else the call's
    own keys [G, R, K, E, T] and values [G, R, K, T, E].
    """
    cfg = self.config
    queries = cfg.heads // cfg.kv_heads
    # One matrix for q, k and v, laid out by key-value head: one product
    # instead of three, and a tensor axis shards all of them at once.
    qkv = self.param(
      "qkv",
      nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=0, out_axis=(1, 2, 3)
      ),
      (cfg.width, cfg.kv_heads, queries + 2, cfg.head_dim),
    )
    out = self.param(
      "out",
      nn.initializers.variance_scaling(
        1.0, "fan_in", "normal", in_axis=(0, 1), out_axis=2
      ),
      (cfg.heads, cfg.head_dim, cfg.width),
    )
    groups, rows, steps, _ = x_GRTD.shape
    choice = self._choice(steps, arena[0] is not None, context)
    if choice.path == attention_backend.BLOCKED:
      q_GRTKQE, k_GRTKE, v_GRTKE = self._apart(x_GRTD, positions, qkv)
    else:
      q_GRTKQE, k_GRTKE, v_GRTKE = self._together(x_GRTD, positions, qkv)
    q_GRTKQE = q_GRTKQE * ((cfg.query_width or cfg.head_dim) ** -0.5)
    k_GRKET = k_GRTKE.transpose(0, 1, 3, 4, 2)
    v_GRKTE = v_GRTKE.swapaxes(2, 3)

    if context.scratch is None:
      own = key_values.KeyValues(k_GRKET, v_GRKTE)
    else:  # a decoding step: write this token's column
      put = jax.lax.dynamic_update_slice_in_dim
      k, v = arena[1]
      own = key_values.KeyValues(
        put(k, k_GRKET.reshape(*k.shape[:-1], 1), context.column, k.ndim - 1),
        put(
          v, v_GRKTE.reshape(*k.shape[:-2], 1, -1), context.column, v.ndim - 2
        ),
      )
    own_mask = self._own_mask(positions, own_mask, context)
    if choice.path == attention_backend.FUSED:
      mixed = attention_backend.fused(
        q_GRTKQE.reshape(groups, rows, steps, cfg.heads, cfg.head_dim),
        k_GRTKE,
        v_GRTKE,
        mask=own_mask,
        length=context.length,
        window=cfg.window if self.local else 0,
        implementation=choice.implementation,
      ).reshape(groups, rows, steps, -1)
    elif choice.path == attention_backend.BLOCKED:
      mixed = blocked_attention.attend(q_GRTKQE, k_GRTKE, v_GRTKE, own_mask)
      mixed = mixed.reshape(groups, rows, steps, -1)
    else:
      mixed = self._plain(q_GRTKQE, own, own_mask, arena[0], positions, context)
    out = out.reshape(cfg.heads * cfg.head_dim, cfg.width)
    scale = int8_weights.scale_of(self, "out")
    if choice.path == attention_backend.BLOCKED:
      return host_gradients.dense(mixed, out, scale, self.dtype), own
    mixed = int8_weights.product("...f,fd->...d", mixed, out, scale, self.dtype)
    return mixed, own

  def _together(self, x_GRTD, positions, qkv):
    """Queries, keys and values by one product; all but values turned."""
    cfg = self.config
    scale = int8_weights.scale_of(self, "qkv")
    h = int8_weights.product(
      "...d,df->...f",
      x_GRTD,
      qkv.reshape(cfg.width, -1),
      None if scale is None else scale.reshape(-1),
      self.dtype,
    ).reshape(*x_GRTD.shape[:3], *qkv.shape[1:])
    if cfg.qkv_bias:
      h = h + self._bias(qkv)[None, None, None]
    qk = h[..., :-1, :]
    if cfg.qk_norm:
      q, k = self._norms()
      qk = jnp.concatenate([q(qk[..., :-1, :]), k(qk[..., -1:, :])], axis=-2)
    qk = rotary.turn(qk, *self._waves(positions))
    return qk[..., :-1, :], qk[..., -1, :], h[..., -1, :]

  def _apart(self, x_GRTD, positions, qkv):
    """What `_together` gives, by a product each.

    XLA for CPU takes the gradient of a slice by padding and adding up whole
    arrays, and would compute the waves anew for every head.
    """
    cfg = self.config
    scale = int8_weights.scale_of(self, "qkv")
    bias = self._bias(qkv) if cfg.qkv_bias else None

    def project(part):
      matrix = qkv[:, :, part]
      h = host_gradients.dense(
        x_GRTD,
        matrix.reshape(cfg.width, -1),
        None if scale is None else scale[:, part].reshape(-1),
        self.dtype,
      ).reshape(*x_GRTD.shape[:3], *matrix.shape[1:])
      return h if bias is None else h + bias[None, None, None, :, part]

    q, k, v = (
      project(slice(*ends)) for ends in ((0, -2), (-2, -1), (-1, None))
    )
    if cfg.qk_norm:
      of_q, of_k = self._norms()
      q, k = of_q(q), of_k(k)
    waves = jax.lax.optimization_barrier(self._waves(positions))
    q, k = rotary.turn(q, *waves), rotary.turn(k, *waves)
    return q, k[..., 0, :], v[..., 0, :]

  def _bias(self, qkv):
    shape = qkv.shape[1:]
    bias = self.param("qkv_bias", nn.initializers.zeros, shape, jnp.float32)
    return bias.astype(self.dtype)

  def _norms(self):
    """Of each head's queries, and of its keys."""
    norm = functools.partial(
      nn.RMSNorm, epsilon=self.config.norm_eps, dtype=self.dtype
    )
    return norm(name="query_norm"), norm(name="key_norm")

  def _waves(self, positions):
    """Rotary cosines and sines of this layer."""
    cfg = self.config
    if self.local and cfg.rope_theta_local:
      theta, stretch = cfg.rope_theta_local, None
    else:
      theta, stretch = cfg.rope_theta, rotary.stretch(cfg)
    return rotary.waves(positions, cfg.head_dim, theta, stretch)

  def _choice(self, steps, shared, context):
    """The program that does this call."""
    platform, capability = attention_backend.device()
    return attention_backend.choose(
      self.backend,
      attention_backend.Call(
        platform=platform,
        capability=capability,
        dtype=self.dtype,
        head_dim=self.config.head_dim,
        tokens=steps,
        shared=shared,
        decoding=context.scratch is not None,
        capped=bool(self.config.score_cap),
        parts=mesh_lib.tensor_parts(),
        devices=mesh_lib.traced_devices(),
      ),
    )

  def _plain(self, q_GRTKQE, own, own_mask, arena, positions, context):
    """Values mixed under one softmax over arena and private keys."""
    cfg = self.config
    groups, rows, steps, _, queries, _ = q_GRTKQE.shape
    q_GRKTQE = q_GRTKQE.transpose(0, 1, 3, 2, 4, 5)
    scores = capped(_scores(q_GRKTQE, own.k), cfg.score_cap)
    scores = jnp.where(own_mask[:, :, None, :, None, :], scores, _MASKED)
    if arena is None:
      mixed = _mixed(_softmax(scores, self.dtype), own.v)
    else:
      q_GKME = q_GRTKQE.transpose(0, 3, 1, 2, 4, 5).reshape(
        groups, cfg.kv_heads, rows * steps * queries, cfg.head_dim
      )
      shared = jnp.einsum("gkme,gkec->gkmc", q_GKME, arena.k)
      shared = shared.reshape(
        groups, cfg.kv_heads, rows, steps, queries, -1
      ).transpose(0, 2, 1, 3, 4, 5)
      shared = capped(shared, cfg.score_cap)
      mask = self._arena_mask(positions, context)
      shared = jnp.where(mask, shared, _MASKED)
      slots = shared.shape[-1]
      weights = _softmax(jnp.concatenate([shared, scores], axis=-1), self.dtype)
      mixed = _mixed(weights[..., slots:], own.v)
      w_GKMC = (
        weights[..., :slots]
        .transpose(0, 2, 1, 3, 4, 5)
        .reshape(groups, cfg.kv_heads, -1, slots)
      )
      mixed += (
        jnp.einsum("gkmc,gkce->gkme", w_GKMC, arena.v)
        .reshape(groups, cfg.kv_heads, rows, steps, queries, -1)
        .transpose(0, 2, 1, 3, 4, 5)
      )
    return mixed.transpose(0, 1, 3, 2, 4, 5).reshape(groups, rows, steps, -1)

  def _own_mask(self, positions, mask, context):
    """Which private keys [G, R, T, S] this layer sees, of those in `mask`."""
    if not self.local:
      return mask
    if context.scratch is None:
      key = positions[:, :, None, :]
    else:  # a row writes a column a token, up to this one
      columns = jnp.arange(mask.shape[-1])
      key = positions[..., None] - context.column + columns[None, None, None]
    return mask & (positions[..., None] - key < self.config.window)

  def _arena_mask(self, positions, context):
    """Which slots this layer sees, to broadcast to [G, R, K, T, Q, C]."""
    mask = context.arena_mask[:, :, None, None, None, :]
    if not self.local:
      return mask
    away = positions[..., None] - context.arena_position[:, None, None, :]
    return mask & (away < self.config.window)[:, :, None, :, None, :]


def capped(x, cap):
  """Scores or logits within (-cap, cap); as they are if `cap` is 0."""
  return cap * jnp.tanh(x / cap) if cap else x


def _scores(q_GRKTQE, k):
  """Products with private keys, [G, R, K, E, S] or `flattened`."""
  if k.ndim == 5:
    return jnp.einsum("grktqe,grkes->grktqs", q_GRKTQE, k)
  *shape, size = q_GRKTQE.shape
  q_BME = q_GRKTQE.reshape(k.shape[0], -1, size)
  return jnp.einsum("bme,bes->bms", q_BME, k).reshape(*shape, -1)


def _mixed(weights_GRKTQS, v):
  """Private values under weights, [G, R, K, S, E] or `flattened`."""
  if v.ndim == 5:
    return jnp.einsum("grktqs,grkse->grktqe", weights_GRKTQS, v)
  *shape, size = weights_GRKTQS.shape
  w_BMS = weights_GRKTQS.reshape(v.shape[0], -1, size)
  return jnp.einsum("bms,bse->bme", w_BMS, v).reshape(*shape, -1)


def _softmax(scores, dtype):
  return jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(dtype)
