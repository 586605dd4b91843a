# SPDX-License-Identifier: Apache-2.0
"""Picks the machines of the next request of each lane."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxttc.simulation.clusters import lanes as lanes_lib


def route(
  s: lanes_lib.State,
  lanes: lanes_lib.Lanes,
  fixed: lanes_lib.Fixed,
  asked: Float[Array, "L 4"],
) -> tuple[Array, Array, Array]:
  """Picks machines for the next request of each lane.

  Keys are a tier, then a load, then the machine's number, packed in a float64,
  so that one minimum finds the machine.

  Memory is reserved ahead only if the prompt machine is of the prompt pool and
  helps nobody out, or the token machine likewise. Were both to queue prompts
  and to hold memory for others, two could wait for each other forever; under
  this rule whoever waits waits for a machine that began to do so later.

  Args:
    s: the state.
    lanes: the rules.
    fixed: the machines.
    asked: arrival, prompt, output and draw of the request.

  Returns:
    (prompt machine, token machine, whether memory is reserved on the latter).
  """
  prompt, output, draw = asked[:, 1], asked[:, 2], asked[:, 3]
  tokens = prompt[None]  # the same for all machines of a lane
  shape = lanes.pool.shape
  tier = lanes_lib.TIER
  load, reserved, moved = (
    a.reshape(shape) for a in (s.load, s.reserved, s.moved)
  )
  key = load * lanes_lib.PACK + fixed.number
  full = (load > 0) & (load + tokens > lanes.queue_limit[None])
  own = jnp.where(moved, tier, fixed.source_tier)
  source, source_key = _machine_of(
    jnp.where(full & (own < 2 * tier), jnp.inf, key + own)
  )
  need = jnp.maximum(tokens + output[None], fixed.seat)
  own = jnp.where(moved, tier, fixed.target_tier)
  key_reserved = reserved * lanes_lib.PACK + fixed.number + own
  target, target_key = _machine_of(
    jnp.where(reserved + need <= fixed.capacity, key_reserved, jnp.inf)
  )
  idlest, _ = _machine_of(key)
  turn = jnp.where(
    lanes.fixed == 1,
    jnp.floor(draw * fixed.count).astype(jnp.int32),
    s.next % fixed.count,
  )
  found = jnp.maximum(source_key, target_key) < jnp.inf
  own = jnp.minimum(source_key, target_key) < tier
  split = (lanes.undivided == 0) & found & (own | (source == target))
  alone = jnp.where(lanes.fixed > 0, turn, idlest)
  source = jnp.where(split, source, alone)
  target = jnp.where(split & (output > 1), target, source)
  return source, target, split & (target != source)


def _machine_of(packed: Array) -> tuple[Array, Array]:
  """(machine of the least key of each lane, that key; inf if there is none)."""
  least = packed.min(0)
  number = jnp.where(least < jnp.inf, least, 0) % lanes_lib.PACK
  return number.astype(jnp.int32), least
