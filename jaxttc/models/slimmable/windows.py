# SPDX-License-Identifier: Apache-2.0
"""Convolutions; and how programs for CPUs do those of few channels, or many.

XLA's convolutions on CPUs gather a window's inputs, once a place, and multiply
them with as many columns as there are outputs. Where these are many, products
can be saved (`winograd`). Where they are few, gathering takes longer than
multiplying. So several neighbouring places become one: a
window that covers those of n neighbours, moved n places at a time, has n times
as many outputs, of which each uses its own part of the window and zeros
elsewhere. That multiplies (2 + n) / 3 times as much, and gathers (2 + n) / 3n
of it. Whoever traces a program says if it wants that; the numbers are the same
but for rounding.
"""

from collections.abc import Iterator
import contextlib
import contextvars

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models.slimmable import winograd

_WANTED = contextvars.ContextVar("form_for_cpus", default=False)
_MOST = 4  # neighbours
# Outputs, of all neighbours, from which on multiplying takes longest: for
# images with their few channels, and for features.
_ENOUGH = {True: 64, False: 32}
_FEW_INPUTS = 8


@contextlib.contextmanager
def form_for_cpus(wanted: bool = True) -> Iterator[None]:
  """Within it, convolutions are traced in the form that suits CPUs.

  JAX keeps what it has traced of a function: trace a new one.
  """
  token = _WANTED.set(wanted)
  try:
    yield
  finally:
    _WANTED.reset(token)


def convolve(
  values: jax.Array | np.ndarray,
  kernel: jax.Array | np.ndarray,
  stride: int = 1,
  dilation: int = 1,
  groups: int = 1,
) -> jax.Array:
  """A convolution, padded so that strides divide the size.

  Args:
    values: f32[B, H, W, C].
    kernel: f32[size, size, C / groups, F].
    stride: of the window.
    dilation: between the window's taps.
    groups: of channels that see each other.

  Returns:
    f32[B, H / stride, W / stride, F].
  """
  kernel = kernel.astype(values.dtype)
  plain = stride == dilation == groups == 1 and kernel.shape[:2] == (3, 3)
  if plain and _WANTED.get():
    at_once = winograd.images_at_once(*values.shape, kernel.shape[-1])
    if at_once:
      return winograd.convolve(values, kernel, at_once)
    count = neighbours(values.shape[2], *kernel.shape[2:])
    if count > 1:
      return _together(values, kernel, count)
  return jax.lax.conv_general_dilated(
    values,
    kernel,
    (stride, stride),
    "SAME",
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )


def neighbours(width: int, inputs: int, outputs: int) -> int:
  """How many places in a row of an image are convolved as one; a power of 2."""
  count = 1
  while (
    2 * count * outputs <= _ENOUGH[inputs < _FEW_INPUTS]
    and 2 * count <= _MOST
    and width % (2 * count) == 0
  ):
    count *= 2
  return count


def _together(values, kernel, count):
  """A convolution by windows of 3 x 3, `count` neighbours in a row at once."""
  batch, high, wide, inputs = values.shape
  outputs = kernel.shape[-1]
  shifted = [
    jnp.pad(kernel, ((0, 0), (i, count - 1 - i), (0, 0), (0, 0)))
    for i in range(count)
  ]
  window = jnp.stack(shifted, axis=3)  # [3, 2 + count, C, count, F]
  found = jax.lax.conv_general_dilated(
    values,
    window.reshape(3, 2 + count, inputs, count * outputs),
    (1, count),
    ((1, 1), (1, 1)),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return found.reshape(batch, high, wide, outputs)
