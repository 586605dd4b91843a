# SPDX-License-Identifier: Apache-2.0
"""Exact counts beyond 2^31 in compiled programs that have no 64-bit integers.

Positions attended to grow with the square of a text's length: sixteen samples
of 16,384 tokens attend to more than 2^31 of them.
"""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt

LOW_BITS = 20  # of the lower part
_MASK = (1 << LOW_BITS) - 1


@flax.struct.dataclass
class WideCount:
  """`high * 2^20 + low`: any count below 2^51.

  Attributes:
    high: i32[...].
    low: i32[...], below 2^20.
  """

  high: Int[Array, "..."]
  low: Int[Array, "..."]

  @classmethod
  def zeros(cls, shape: tuple[int, ...]) -> "WideCount":
    """Counts of nothing."""
    return cls(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))

  def add(self, amounts: UInt[Array, "... M"]) -> "WideCount":
    """The counts with the sums of M < 2^11 amounts added, exactly.

    Args:
      amounts: u32[..., M], each below 2^32.
    """
    low = self.low + (amounts & _MASK).astype(jnp.int32).sum(-1)
    high = (amounts >> LOW_BITS).astype(jnp.int32).sum(-1)
    return WideCount(self.high + high + (low >> LOW_BITS), low & _MASK)

  def __int__(self) -> int:
    """The count, if it is one."""
    return (int(self.high) << LOW_BITS) + int(self.low)
