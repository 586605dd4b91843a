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
  cos, sin = waves(positions, x.shape[-1], theta, stretched)
  return turn(x, cos, sin)


def waves(
  positions: Int[Array, "G R T"],
  size: int,
  theta: float,
  stretched: np.ndarray | None = None,
) -> tuple[Float[Array, "G R T H"], Float[Array, "G R T H"]]:
  """Cosines and sines of all H = size / 2 angles of each position, in float32.

  Args:
    positions: of the tokens.
    size: of a head.
    theta: as in `rotate`.
    stretched: as in `rotate`.
  """
  half = size // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if stretched is not None:
    frequency = frequency / stretched
  angle = positions[..., None].astype(jnp.float32) * frequency[None, None, None]
  return jnp.cos(angle), jnp.sin(angle)


def turn(
  x: Float[Array, "G R T *heads E"],
  cos: Float[Array, "G R T H"],
  sin: Float[Array, "G R T H"],
) -> Float[Array, "G R T *heads E"]:
  """Queries and keys turned by `waves`, one angle for all heads."""
  shape = cos.shape[:3] + (1,) * (x.ndim - 4) + cos.shape[3:]
  cos, sin = (wave.reshape(shape).astype(x.dtype) for wave in (cos, sin))
  a, b = jnp.split(x, 2, axis=-1)
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
