# SPDX-License-Identifier: Apache-2.0
"""How many operations a stage spends on a message of so many bytes.

An operation is whatever `Stage.op_energy` prices: a FLOP, a token, a run of
the reconstruction at some reference pile-up.
"""

from collections.abc import Sequence

import flax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

Scalar = Float[Array, ""] | float
Numbers = Sequence[float | int] | np.ndarray


@flax.struct.dataclass
class Linear:
  """`per_byte` operations a byte, and `constant` a message."""

  per_byte: Scalar = 1.0
  constant: Scalar = 0.0

  def ops(self, message_bytes: Scalar) -> Float[Array, ""]:
    """Operations on a message of so many bytes."""
    return jnp.asarray(self.per_byte * message_bytes + self.constant)


@flax.struct.dataclass
class Polynomial:
  """Operations are a polynomial of the bytes.

  Attributes:
    coefficients: f[D + 1], ascending, of bytes / scale.
    scale: bytes that count as one, so that coefficients are of like size.
  """

  coefficients: Float[Array, " D"]
  scale: Scalar = 1.0

  def ops(self, message_bytes: Scalar) -> Float[Array, ""]:
    """Operations on a message of so many bytes."""
    coefficients = jnp.asarray(self.coefficients)
    return jnp.polyval(coefficients[::-1], message_bytes / self.scale)


@flax.struct.dataclass
class Table:
  """Operations as measured at K sizes, linear between them.

  Attributes:
    sizes: f[K], bytes, increasing.
    measured: f[K], operations.
    extrapolate: whether the end pieces go on beyond the sizes; if not,
      operations out there are NaN, and a graph of such a message is refused.
  """

  sizes: Float[Array, " K"]
  measured: Float[Array, " K"]
  extrapolate: bool = flax.struct.field(pytree_node=False, default=False)

  def ops(self, message_bytes: Scalar) -> Float[Array, ""]:
    """Operations on a message of so many bytes."""
    sizes, measured = jnp.asarray(self.sizes), jnp.asarray(self.measured)
    size = jnp.asarray(message_bytes, sizes.dtype)
    right = jnp.clip(jnp.searchsorted(sizes, size), 1, len(sizes) - 1)
    slope = (measured[right] - measured[right - 1]) / (
      sizes[right] - sizes[right - 1]
    )
    value = measured[right - 1] + slope * (size - sizes[right - 1])
    if self.extrapolate:
      return value
    inside = (size >= sizes[0]) & (size <= sizes[-1])
    return jnp.where(inside, value, jnp.nan)


Complexity = Linear | Polynomial | Table


def fit_polynomial(
  sizes: Numbers,
  measured: Numbers,
  degree: int,
  *,
  constant: bool = True,
) -> Polynomial:
  """The polynomial of least squared error through measured operations.

  It goes on beyond the sizes that were measured; that is what it is fitted for.

  Args:
    sizes: f[K], bytes.
    measured: f[K], operations.
    degree: of the polynomial, at least 1.
    constant: whether an empty message may cost operations.

  Raises:
    ValueError: if lengths differ, a value is not finite or negative, or there
      are fewer points than coefficients.
  """
  sizes, measured = _points(sizes, measured)
  powers = np.arange(0 if constant else 1, degree + 1)
  if degree < 1 or len(np.unique(sizes)) < len(powers):
    raise ValueError(
      f"degree {degree} takes {len(powers)} coefficients, at least 1; "
      f"{len(np.unique(sizes))} different sizes were measured"
    )
  scale = float(sizes.max())
  columns = (sizes / scale)[:, None] ** powers
  solution = np.linalg.lstsq(columns, measured, rcond=None)[0]
  coefficients = np.zeros(degree + 1)
  coefficients[powers] = solution
  return Polynomial(coefficients, scale)


def table(
  sizes: Numbers,
  measured: Numbers,
  *,
  extrapolate: bool = False,
) -> Table:
  """Measured operations, linear between the sizes.

  Raises:
    ValueError: if lengths differ, a value is not finite or negative, or sizes
      do not increase.
  """
  sizes, measured = _points(sizes, measured)
  if len(sizes) < 2 or (np.diff(sizes) <= 0).any():
    raise ValueError("a table needs two sizes or more, increasing")
  return Table(sizes, measured, extrapolate)


def _points(sizes: Numbers, measured: Numbers) -> tuple[np.ndarray, np.ndarray]:
  columns = np.asarray(sizes, np.float64), np.asarray(measured, np.float64)
  if columns[0].ndim != 1 or columns[0].shape != columns[1].shape:
    raise ValueError(
      f"expected one operation count a size, got {columns[1].shape} for "
      f"{columns[0].shape}"
    )
  for column, name in zip(columns, ("size", "operation count"), strict=True):
    wrong = np.flatnonzero(~(np.isfinite(column) & (column >= 0)))
    if len(wrong):
      raise ValueError(
        f"row {wrong[0]}: {name} {column[wrong[0]]:g} is not a finite number "
        "of at least 0"
      )
  return columns
