# SPDX-License-Identifier: Apache-2.0
"""Tests of rotary positions."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxttc.models import config as config_lib
from jaxttc.models import rotary

_PLAIN = config_lib.TransformerConfig(
  vocab_size=31,
  width=12,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=20,
)


def test_rotation_depends_on_relative_positions_only():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(1, 1, 2, 3, 8)), jnp.float32)

  def scores(shift):
    positions = jnp.asarray([[[4, 9]]]) + shift
    q, k = jnp.moveaxis(rotary.rotate(x, positions, 10_000.0)[0, 0], 0, 0)
    return (q * k).sum(-1)

  np.testing.assert_allclose(scores(0), scores(37), atol=1e-4)
  assert np.abs(scores(0) - (x[0, 0, 0] * x[0, 0, 1]).sum(-1)).max() > 0.1


def test_rotation_against_complex_numbers():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 1, 3, 8)).astype(np.float32)
  positions = np.asarray([[[0, 1, 5]], [[2, 2, 100]]])
  frequency = 100.0 ** (-np.arange(4) / 4)
  turn = np.exp(1j * positions[..., None] * frequency)
  turned = (x[..., :4] + 1j * x[..., 4:]) * turn
  expected = np.concatenate([turned.real, turned.imag], axis=-1)
  got = rotary.rotate(jnp.asarray(x), jnp.asarray(positions), 100.0)
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_rope_stretch_of_llama_3_against_its_definition():
  config = dataclasses.replace(
    _PLAIN,
    head_dim=16,
    rope_theta=500.0,
    rope_factor=8.0,
    rope_original=64,
    rope_low=1.0,
    rope_high=4.0,
  )
  for i, got in enumerate(rotary.stretch(config)):
    frequency = 500.0 ** (-i / 8)
    wave = 2 * np.pi / frequency
    if wave < 64 / 4:
      expected = frequency
    elif wave > 64 / 1:
      expected = frequency / 8
    else:
      kept = (64 / wave - 1) / (4 - 1)
      expected = (1 - kept) * frequency / 8 + kept * frequency
    np.testing.assert_allclose(frequency / got, expected, rtol=1e-6)
  even = dataclasses.replace(config, rope_original=0)
  np.testing.assert_array_equal(rotary.stretch(even), [8.0] * 8)
  assert rotary.stretch(_PLAIN) is None
