# SPDX-License-Identifier: Apache-2.0
"""Convolutions of neighbours together against convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import windows

_RNG = np.random.default_rng(0)


def _drawn(*shape):
  return jnp.asarray(_RNG.normal(size=shape), jnp.float32)


def _traced(values, kernel, **options):
  run = lambda v, k: windows.convolve(v, k, **options)  # noqa: E731
  return str(jax.make_jaxpr(run)(values, kernel))


@pytest.mark.parametrize(
  ("shape", "outputs", "count"),
  [
    ((2, 8, 8, 16), 16, 2),
    ((2, 5, 12, 8), 8, 4),
    ((1, 4, 6, 8), 8, 2),  # six places are no multiple of four
    ((2, 4, 8, 3), 16, 4),
    ((2, 4, 4, 3), 32, 2),
    ((2, 4, 4, 32), 32, 1),
    ((2, 4, 5, 8), 8, 1),
    ((1, 1, 4, 9), 4, 4),
  ],
)
def test_neighbours_together_are_the_convolution(shape, outputs, count):
  values, kernel = _drawn(*shape), _drawn(3, 3, shape[-1], outputs)
  assert windows.neighbours(shape[2], shape[3], outputs) == count
  expected = windows.convolve(values, kernel)
  with windows.form_for_cpus():
    found = windows.convolve(values, kernel)
    text = _traced(values, kernel)
  assert f"window_strides=(1, {count})" in text
  assert found.shape == (*shape[:3], outputs)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  ("size", "options"),
  [(1, {}), (3, {"stride": 2}), (3, {"dilation": 2}), (3, {"groups": 8})],
)
def test_other_windows_stay_as_they_are(size, options):
  inputs = 1 if "groups" in options else 8
  values, kernel = _drawn(1, 8, 8, 8), _drawn(size, size, inputs, 8)
  before = _traced(values, kernel, **options)
  with windows.form_for_cpus():
    assert _traced(values, kernel, **options) == before


def test_the_form_is_wanted_within_its_context_only():
  values, kernel = _drawn(1, 4, 4, 8), _drawn(3, 3, 8, 8)
  plain = _traced(values, kernel)
  with windows.form_for_cpus():
    assert _traced(values, kernel) != plain
    with windows.form_for_cpus(False):
      assert _traced(values, kernel) == plain
  assert _traced(values, kernel) == plain
