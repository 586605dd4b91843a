# SPDX-License-Identifier: Apache-2.0
"""Which tokens of a batch count, whose they are, and how losses add up.

A loss of a batch is a fraction whose two parts are sums, so that parts of a
batch add up: sum both over a whole optimizer step, then divide. With lengths
T_i of n sequences that have any token,

| mode                | numerator              | denominator | as in         |
| token_mean          | sum of all tokens      | sum of T_i  | DAPO          |
| seq_mean_token_mean | sum of sequences' means | n          | GRPO          |
| seq_mean_token_sum  | sum of all tokens      | n           | RLOO          |
| fixed_length        | sum of all tokens      | n * length  | Dr. GRPO      |

The means of `seq_mean_token_mean` weigh a token of a short sequence more than
one of a long; those of `token_mean` let the longest sequence decide. Only
`seq_mean_token_sum` and `fixed_length` have the policy gradient's weights.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

MODES = (
  "token_mean",
  "seq_mean_token_mean",
  "seq_mean_token_sum",
  "fixed_length",
)


class Fraction(NamedTuple):
  """A loss before its division.

  Attributes:
    numerator: f32[].
    denominator: f32[], at least 0; it has no gradient.
  """

  numerator: Float[Array, ""]
  denominator: Float[Array, ""]

  @property
  def value(self) -> Float[Array, ""]:
    """The loss, f32[]; 0 where nothing counts."""
    return self.numerator / jnp.maximum(self.denominator, 1e-6)


@flax.struct.dataclass
class Sequences:
  """Tokens that count, in sequences: one a row, or packed.

  Attributes:
    mask: bool or f[B, T], 1 at tokens that count: a response's, its end token
      included.
    segments: i32[B, T], 1, 2, .. for a row's sequences and 0 for padding, as
      `packing.Packed` has them; None if each row is one sequence.
    most: sequences a row at most; static. Beyond it tokens would be lost:
      `check` refuses that.
  """

  mask: Float[Array, "B T"] | Bool[Array, "B T"]
  segments: Int[Array, "B T"] | None = None
  most: int = flax.struct.field(pytree_node=False, default=1)

  @property
  def weights(self) -> Float[Array, "B T"]:
    """The mask as f32[B, T]."""
    return jnp.asarray(self.mask, jnp.float32)

  @property
  def lengths(self) -> Float[Array, "B S"]:
    """Tokens that count, of each sequence: f32[B, S]."""
    return self._add(self.weights)

  def sums(self, values: Float[Array, "B T"]) -> Float[Array, "B S"]:
    """Sums over the tokens of each sequence that count, f32[B, S].

    Raises:
      ValueError: if the values are not of the mask's shape.
    """
    if values.shape != self.mask.shape:
      raise ValueError(
        f"values have shape {values.shape}; expected the mask's, "
        f"{self.mask.shape}"
      )
    return self._add(_kept(values, self.weights))

  def means(self, values: Float[Array, "B T"]) -> Float[Array, "B S"]:
    """Means over the same, f32[B, S]; 0 for a sequence without any."""
    return self.sums(values) / jnp.maximum(self.lengths, 1.0)

  def spread(self, of_sequence: Float[Array, "B S"]) -> Float[Array, "B T"]:
    """What belongs to a sequence, at each of its tokens: f32[B, T].

    Args:
      of_sequence: S is 1 where a row is one sequence; else `most` and 1, of
        which column 0 is the padding's.

    Raises:
      ValueError: if it has another shape.
    """
    own = 1 if self.segments is None else self.most + 1
    if of_sequence.shape != (self.mask.shape[0], own):
      raise ValueError(
        f"figures of sequences have shape {of_sequence.shape}; expected "
        f"{(self.mask.shape[0], own)}"
      )
    if self.segments is None:
      return jnp.broadcast_to(of_sequence, self.mask.shape)
    return jnp.take_along_axis(of_sequence, self.segments, axis=1)

  def check(self) -> None:
    """Raises ValueError, on the host, if no token counts or some are lost."""
    if not np.asarray(self.mask).any():
      raise ValueError("the mask has no token that counts")
    self.check_most()

  def check_most(self) -> None:
    """Raises ValueError if tokens are lost; where they are traced it cannot."""
    if self.segments is None or isinstance(self.segments, jax.core.Tracer):
      return
    if np.max(self.segments) > self.most:
      raise ValueError(
        f"a row has {np.max(self.segments)} sequences, more than "
        f"most={self.most}"
      )

  def _add(self, values):
    if self.segments is None:
      return values.sum(1, keepdims=True)
    # Column 0 is padding's, where the mask is 0. Row by row, so that a batch
    # that is spread over devices stays where it is.
    return jax.vmap(
      lambda v, s: jax.ops.segment_sum(v, s, num_segments=self.most + 1)
    )(values, self.segments)


def aggregate(
  values: Float[Array, "B T"],
  sequences: Sequences,
  mode: str = "token_mean",
  *,
  length: int | None = None,
) -> Fraction:
  """Adds up a loss of tokens.

  Args:
    values: of each token; where the mask is 0 they are not read.
    sequences: which tokens count.
    mode: one of `MODES`; see the module's table.
    length: of "fixed_length", a constant of the run and not of the batch.

  Raises:
    ValueError: as `check_mode`; if the values are not of the mask's shape; and,
      outside of `jit`, if a row has more sequences than `most`.
  """
  check_mode(mode, length)
  sequences.check_most()
  lengths = sequences.lengths
  count = (lengths > 0).sum().astype(jnp.float32)
  if mode == "seq_mean_token_mean":
    return Fraction(sequences.means(values).sum(), count)
  total = sequences.sums(values).sum()
  if mode == "token_mean":
    return Fraction(total, lengths.sum())
  return Fraction(total, count * (1 if length is None else length))


def check_mode(mode: str, length: int | None) -> None:
  """Raises ValueError for an unknown mode, or a length it lacks or ignores."""
  if mode not in MODES:
    raise ValueError(f"aggregation {mode!r} is not one of {', '.join(MODES)}")
  if mode == "fixed_length" and (length is None or length < 1):
    raise ValueError(
      f"aggregation 'fixed_length' needs a length of at least 1, got {length}"
    )
  if mode != "fixed_length" and length is not None:
    raise ValueError(
      f"length={length} would be ignored by aggregation {mode!r}"
    )


def _kept(values, weights):
  """Values where there is a weight; what stands elsewhere may be NaN."""
  return jnp.where(weights > 0, values, 0.0) * weights
