# SPDX-License-Identifier: Apache-2.0
"""How long a task's rollouts are, from those that training drew anyway.

The mean of what was seen, an old visit's weight falling by `_DECAY`, with two
rollouts of the length that all tasks have on average put in: a task that was
seen little is taken to be like the others. A rollout that was cut counts as it
was paid for, up to where it was cut.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_DECAY = 0.7
_PRIOR = 2.0  # rollouts


@flax.struct.dataclass
class LengthState:
  """What was seen of T tasks.

  Attributes:
    tokens: f32[T], sampled, faded by visits.
    rollouts: f32[T], likewise.
  """

  tokens: Float[Array, " t"]
  rollouts: Float[Array, " t"]


def init(tasks: int) -> LengthState:
  """Nothing seen of any of `tasks` tasks."""
  return LengthState(jnp.zeros(tasks), jnp.zeros(tasks))


def update(
  state: LengthState,
  ids: Int[Array, " m"],
  task: Int[Array, " b"],
  length: Int[Array, " b"],
) -> LengthState:
  """Notes a step's rollouts; a task without any stays as it was.

  Args:
    state: what was seen before.
    ids: rows of the state that the step's M tasks have, without repetition.
    task: of each rollout, in [0, M); M for padding.
    length: tokens of each.
  """
  sums = jax.ops.segment_sum(
    jnp.stack([length.astype(jnp.float32), jnp.ones(length.shape)], axis=1),
    task,
    num_segments=ids.shape[0],
  )
  visited = sums[:, 1] > 0

  def faded(old, new):
    return old.at[ids].set(
      jnp.where(visited, _DECAY * old[ids] + new, old[ids])
    )

  return LengthState(
    faded(state.tokens, sums[:, 0]), faded(state.rollouts, sums[:, 1])
  )


def expected(
  state: LengthState, ids: Int[Array, " m"], longest: int
) -> Int[Array, " m"]:
  """Tokens that a rollout of each task is expected to have, rounded up.

  Args:
    state: what was seen.
    ids: rows of the tasks asked about.
    longest: most tokens of a rollout; what is expected of all while nothing
      was seen of any.

  Returns:
    i32[M], in [1, longest].
  """
  seen = state.rollouts.sum()
  usual = jnp.where(
    seen > 0, state.tokens.sum() / jnp.maximum(seen, 1e-6), longest
  )
  mean = (state.tokens[ids] + _PRIOR * usual) / (state.rollouts[ids] + _PRIOR)
  # Rounding must not make a whole mean one token longer.
  whole = jnp.ceil(mean * (1 - 1e-6))
  return jnp.clip(whole, 1, longest).astype(jnp.int32)
