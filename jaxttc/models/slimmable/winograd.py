# SPDX-License-Identifier: Apache-2.0
"""Convolutions of 3 x 3 windows by Winograd's minimal filtering, F(2x2, 3x3).

Four outputs that form a square see sixteen inputs. Sums of these, times sums of
the window's nine weights, add up to the outputs with 16 products in place of 36
(Lavin and Gray 2015, arXiv:1509.09308, section 4.1). Over channels the products
are matrices': 16 of them, each of all squares. All sums are of few terms with
weights of 1 and 1/2, so rounding is about that of the plain convolution.

Sums cost memory traffic where products are saved, so it pays where channels are
many and what lies between stays in the cache; `images_at_once` says when.
"""

import jax
import jax.numpy as jnp
import numpy as np

_CACHED = 2_100_000  # floats between sums and products: 8 MB
_FEWEST = 64  # channels that come in, or go out
_SQUARES = 16  # in a batch; else the window's sums take longest


def images_at_once(
  batch: int, high: int, wide: int, inputs: int, outputs: int
) -> int:
  """How many images to convolve together, a divisor of the batch.

  Args:
    batch: images at hand.
    high: rows of an image.
    wide: places of a row.
    inputs: channels that come in.
    outputs: channels that go out.

  Returns:
    0 where a plain convolution is as fast, or squares do not fit the image.
  """
  few = batch * high * wide < 4 * _SQUARES or min(inputs, outputs) < _FEWEST
  if few or high % 2 or wide % 2:
    return 0
  most = _CACHED // (4 * high * wide * max(inputs, outputs))
  return max(
    (n for n in range(1, batch + 1) if not batch % n and n <= most), default=0
  )


def convolve(
  values: jax.Array | np.ndarray,
  kernel: jax.Array | np.ndarray,
  at_once: int,
) -> jax.Array:
  """A convolution of 3 x 3 windows, padded with zeros to the same size.

  Args:
    values: f32[B, H, W, C]; H and W even.
    kernel: f32[3, 3, C, F].
    at_once: images that are convolved together; a divisor of B.

  Returns:
    f32[B, H, W, F].
  """
  weights = [mixed for row in _of_window(kernel) for mixed in _of_window(row)]
  if at_once == len(values):
    return _squares(values, weights)
  parts = values.reshape(-1, at_once, *values.shape[1:])
  found = jax.lax.map(lambda part: _squares(part, weights), parts)
  return found.reshape(*values.shape[:3], kernel.shape[-1])


def _squares(values, weights):
  """The convolution, two rows and two columns at a time."""
  batch, high, wide, inputs = values.shape
  padded = jnp.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
  rows = _of_inputs([padded[:, i : i + high : 2] for i in range(4)])
  products = []
  for i, row in enumerate(rows):
    columns = _of_inputs([row[:, :, j : j + wide : 2] for j in range(4)])
    products.append(
      [
        mixed.reshape(-1, inputs) @ weights[4 * i + j]
        for j, mixed in enumerate(columns)
      ]
    )
  # Else XLA would read the products once for each of the four outputs.
  products = jax.lax.optimization_barrier(products)
  left, right = zip(*(_of_products(row) for row in products), strict=True)
  rows = zip(_of_products(left), _of_products(right), strict=True)
  shape = (batch, high // 2, wide // 2, -1)
  pairs = [jnp.stack([x.reshape(shape) for x in row], 3) for row in rows]
  return jnp.stack(pairs, 2).reshape(batch, high, wide, -1)


def _of_inputs(x):
  """Four neighbours as they enter the products."""
  return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def _of_window(w):
  """Three weights as they enter the products."""
  ends, middle = 0.5 * (w[0] + w[2]), 0.5 * w[1]
  return [w[0], ends + middle, ends - middle, w[2]]


def _of_products(m):
  """Two neighbouring outputs of four products."""
  return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]
