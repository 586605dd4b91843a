# SPDX-License-Identifier: Apache-2.0
"""Rotary positions, and how families stretch them over longer texts."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.models import config as config_lib


def rotate(
  x: Float[Array, "G R T *heads E"],
  positions: Int[Array, "G R T"],
  theta: float,
  stretched: np.ndarray | None = None,
) -> Float[Array, "G R T *heads E"]:
  """Rotary position embedding, halves paired (Su et al. 2021).

  Args:
    x: queries and keys.
    positions: of the tokens.
    theta: base of the frequencies.
    stretched: f32[E / 2], what each frequency is divided by; None for nothing.
  """
  half = x.shape[-1] // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if stretched is not None:
    frequency = frequency / stretched
  frequency = frequency.reshape((1,) * (x.ndim - 1) + (half,))
  # One angle for all heads.
  positions = positions.reshape(positions.shape + (1,) * (x.ndim - 3))
  angle = positions.astype(jnp.float32) * frequency
  cos, sin = jnp.cos(angle).astype(x.dtype), jnp.sin(angle).astype(x.dtype)
  a, b = x[..., :half], x[..., half:]
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def stretch(config: config_lib.TransformerConfig) -> np.ndarray | None:
  """What the rotary frequencies of global layers are divided by, f32[E / 2].

  All by `rope_factor`, or, where `rope_original` is set, the slow ones only:
  a wave that went round `rope_high` times or more in the first training is
  left alone, one that did so fewer than `rope_low` times is stretched in
  full, and the inverse goes linearly from one to the other between them (Llama
  Team 2024, "The Llama 3 herd of models"). None if nothing is.
  """
  if config.rope_factor == 1.0:
    return None
  half = config.head_dim // 2
  if not config.rope_original:
    return np.full(half, config.rope_factor, np.float32)
  turns = config.rope_original / (2 * np.pi)
  turns = turns * config.rope_theta ** (-np.arange(half) / half)
  kept = (turns - config.rope_low) / (config.rope_high - config.rope_low)
  kept = np.clip(kept, 0.0, 1.0)
  return (1 / (kept + (1 - kept) / config.rope_factor)).astype(np.float32)
