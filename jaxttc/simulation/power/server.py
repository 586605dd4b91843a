# SPDX-License-Identifier: Apache-2.0
"""Servers that run one request at a time, moved on by one step.

The clock is constant within a step, so a step is solved exactly: a server
finishes at most one request and begins the next at the very instant. That
needs every request to take at least one step at full clock, which
`row.simulate_rows` checks. Times within a step are offsets from its start, so
that float32 serves for weeks.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NEVER = 2**30  # The step of an arrival that does not come.


class Work(NamedTuple):
  """Requests as the steps need them.

  Attributes:
    step: i32[..], step in which the request arrives; `NEVER` for none.
    offset: f[..], seconds from that step's start to the arrival.
    prompt: f[..], seconds of the prompt phase at full clock.
    token: f[..], seconds of the token phase at full clock.
    prompt_w: f[..], watts above idle in the prompt phase at full clock.
    token_w: f[..], watts above idle in the token phase at full clock.
  """

  step: Int[Array, "..."]
  offset: Float[Array, "..."]
  prompt: Float[Array, "..."]
  token: Float[Array, "..."]
  prompt_w: Float[Array, "..."]
  token_w: Float[Array, "..."]


@flax.struct.dataclass
class Servers:
  """The servers of a row.

  Attributes:
    index: i32[servers], how many requests each has finished.
    work: the request at each server's head; its times are what is left.
  """

  index: Int[Array, " servers"]
  work: Work


class Pace(NamedTuple):
  """How servers run in a step.

  Attributes:
    prompt_speed: f[servers], prompt work done in a second.
    token_speed: f[servers], the same of token work.
    prompt_watts: f[servers], share of the watts above idle.
    token_watts: f[servers], the same in the token phase.
  """

  prompt_speed: Float[Array, " servers"]
  token_speed: Float[Array, " servers"]
  prompt_watts: Float[Array, " servers"]
  token_watts: Float[Array, " servers"]


def cap(
  pace: Pace,
  room_w: Float[Array, " servers"],
  work: Work,
  exponents: tuple[Float[Array, ""], Float[Array, ""]],
) -> Pace:
  """The pace under a watt cap: the tighter of the lock and the cap.

  Args:
    pace: the pace that the lock leaves.
    room_w: cap less idle power; inf without a cap.
    work: the requests, for what they draw.
    exponents: of speed in power, prompt and token phase: time over power
      exponent.
  """

  def tighten(speed, watts, above_w, exponent):
    share = room_w / above_w
    bound = share < watts
    slow = jnp.where(bound, share, 1) ** exponent
    return jnp.where(bound, slow, speed), jnp.where(bound, share, watts)

  prompt = tighten(
    pace.prompt_speed, pace.prompt_watts, work.prompt_w, exponents[0]
  )
  token = tighten(
    pace.token_speed, pace.token_watts, work.token_w, exponents[1]
  )
  return Pace(prompt[0], token[0], prompt[1], token[1])


def phase_watts(
  servers: Servers, step: Int[Array, ""]
) -> tuple[Float[Array, " servers"], Float[Array, " servers"]]:
  """Watts above idle at full clock, of the phase at the start of a step.

  Returns:
    f[servers] each: of servers in the prompt phase (0 for others), and of
    those in the token phase.
  """
  work = servers.work
  busy = (work.step < step) | ((work.step == step) & (work.offset == 0))
  prompt = work.prompt > 0
  return (
    jnp.where(busy & prompt, work.prompt_w, 0),
    jnp.where(busy & ~prompt, work.token_w, 0),
  )


def advance(
  servers: Servers,
  following: Work,
  pace: Pace,
  next_pace: Pace,
  step: Int[Array, ""],
  dt: Float[Array, ""],
) -> tuple[Servers, Float[Array, " servers"], Float[Array, " servers"]]:
  """Moves all servers on by one step.

  Args:
    servers: as they are at the start of the step.
    following: each server's next request.
    pace: how the request at the head runs.
    next_pace: how the following one runs; another under a watt cap.
    step: which step, from 0.
    dt: its length in seconds.

  Returns:
    The servers at the end of the step, joules above idle, and the offset in
    [0, dt] at which each finished a request, -1 if it did not.
  """
  zero = jnp.zeros_like(servers.work.prompt)
  left, joules, end = _visit(servers.work, pace, zero, step, dt)
  done = (left.prompt <= 0) & (left.token <= 0)
  finish = jnp.where(done, end, -1)
  begun, more, _ = _visit(following, next_pace, end, step, dt)
  work = jax.tree.map(lambda a, b: jnp.where(done, b, a), left, begun)
  moved = Servers(servers.index + done.astype(jnp.int32), work)
  return moved, joules + jnp.where(done, more, 0), finish


def _visit(
  work: Work,
  pace: Pace,
  now: Float[Array, " servers"],
  step: Int[Array, ""],
  dt: Float[Array, ""],
) -> tuple[Work, Float[Array, " servers"], Float[Array, " servers"]]:
  """Runs one request from `now` until it is done or the step ends."""
  arrival = (work.step - step).astype(dt.dtype) * dt + work.offset
  begin = jnp.clip(arrival, now, dt)
  prompt_time = work.prompt / pace.prompt_speed
  prompted = prompt_time <= dt - begin
  middle = jnp.where(prompted, begin + prompt_time, dt)
  token_time = work.token / pace.token_speed
  finished = prompted & (token_time <= dt - middle)
  end = jnp.where(finished, middle + token_time, dt)
  in_prompt, in_token = middle - begin, end - middle
  prompt = jnp.where(prompted, 0, work.prompt - in_prompt * pace.prompt_speed)
  token = jnp.where(finished, 0, work.token - in_token * pace.token_speed)
  joules = (
    work.prompt_w * pace.prompt_watts * in_prompt
    + work.token_w * pace.token_watts * in_token
  )
  # A phase that is not over has time left, whatever the rounding.
  tiny = jnp.finfo(dt.dtype).tiny
  left = work._replace(
    prompt=jnp.where(prompted, 0, jnp.maximum(prompt, tiny)),
    token=jnp.where(finished, 0, jnp.maximum(token, 0)),
  )
  return left, joules, end
