# SPDX-License-Identifier: Apache-2.0
"""Servers that run one request at a time, moved on by one step.

The clock is constant within a step, so a step is solved exactly: a server
finishes at most one request and begins the next at the very instant. That
needs every request to take at least one step at full clock, which
`row.simulate_rows` checks. Times within a step are offsets from its start, so
that float32 serves for weeks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

NEVER = 2.0**30  # The step of an arrival that does not come.


class Work(NamedTuple):
  """Requests as the steps need them.

  Attributes:
    step: f[..], step in which the request arrives, a whole number (exact in
      float32 to 2**24, 97 days of half seconds); `NEVER` for none.
    offset: f[..], seconds from that step's start to the arrival.
    prompt: f[..], seconds of the prompt phase at full clock.
    token: f[..], seconds of the token phase at full clock.
    prompt_w: f[..], watts above idle in the prompt phase at full clock.
    token_w: f[..], watts above idle in the token phase at full clock.
  """

  step: Float[Array, "..."]
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
  head = once(step, _times, servers.work, pace, zero, step, dt)
  left, joules, done = once(step, _leave, servers.work, pace, head)
  after = once(step, _times, following, next_pace, head.end, step, dt)

  def turn(
    left: Work, joules: Any, done: Any, index: Any, following: Work, after: Any
  ) -> tuple[Servers, Any]:
    begun, more, _ = _leave(following, next_pace, after)
    work = jax.tree.map(lambda a, b: jnp.where(done, b, a), left, begun)
    joules = joules + jnp.where(done, more, 0)
    return Servers(index + done.astype(jnp.int32), work), joules

  moved, joules = once(
    step, turn, left, joules, done, servers.index, following, after
  )
  return moved, joules, jnp.where(done, head.end, -1)


def once(step: Int[Array, ""], fn: Callable[..., Any], *operands: Any) -> Any:
  """Computes `fn(*operands)` by itself, once.

  XLA for CPUs fuses what several results share into each of them, and so
  computes it several times over. It does not look into a conditional, even
  one that always holds: this halves the time of a step.
  """
  shapes = jax.eval_shape(fn, *operands)

  def never(*operands: Any) -> Any:
    del operands
    return jax.tree.map(lambda of: jnp.zeros(of.shape, of.dtype), shapes)

  return jax.lax.cond(step >= 0, fn, never, *operands)


class _Times(NamedTuple):
  """When one request runs within a step; all offsets from its start."""

  begin: Any  # f[servers]
  middle: Any  # f[servers], from the prompt to the token phase
  end: Any  # f[servers]
  prompted: Any  # bool[servers], whether the prompt phase is over by the end
  finished: Any  # bool[servers], whether the token phase is, too


def _times(work: Work, pace: Pace, now: Any, step: Any, dt: Any) -> _Times:
  """Runs one request from `now` until it is done or the step ends."""
  arrival = (work.step - step.astype(dt.dtype)) * dt + work.offset
  begin = jnp.clip(arrival, now, dt)
  prompt_time = work.prompt / pace.prompt_speed
  prompted = prompt_time <= dt - begin
  middle = jnp.where(prompted, begin + prompt_time, dt)
  token_time = work.token / pace.token_speed
  finished = prompted & (token_time <= dt - middle)
  end = jnp.where(finished, middle + token_time, dt)
  return _Times(begin, middle, end, prompted, finished)


def _leave(work: Work, pace: Pace, times: _Times) -> tuple[Work, Any, Any]:
  """What is left of a request, its joules above idle, whether it is done."""
  in_prompt = times.middle - times.begin
  in_token = times.end - times.middle
  prompt = work.prompt - in_prompt * pace.prompt_speed
  token = work.token - in_token * pace.token_speed
  joules = (
    work.prompt_w * pace.prompt_watts * in_prompt
    + work.token_w * pace.token_watts * in_token
  )
  # A prompt phase that is not over has time left, whatever the rounding.
  tiny = jnp.finfo(prompt.dtype).tiny
  left = work._replace(
    prompt=jnp.where(times.prompted, 0, jnp.maximum(prompt, tiny)),
    token=jnp.where(times.finished, 0, jnp.maximum(token, 0)),
  )
  return left, joules, (left.prompt <= 0) & (left.token <= 0)
