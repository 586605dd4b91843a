# SPDX-License-Identifier: Apache-2.0
"""The compiled event simulation of serving clusters, many at once.

Each lane is one cluster under one trace. A step advances every lane by its own
next event, so lanes need not agree on time: an arrival (the router picks
machines), the end of a machine's segment, or a KV cache leaving a machine. A
segment is one iteration with prompts in it, or as many decode iterations as
pass until a sequence finishes; what happens in between cuts it at the next
iteration's boundary, which a closed form gives:

    S(j) = j (c0 + c1 b + c2 kv) + c2 b j (j - 1) / 2    seconds of j iterations

of b sequences with kv cached tokens. So a request costs about four steps,
however many tokens it generates and however long queues are, and a step costs
O(machines) for the router and O(sqrt(batch)) for the machine that it touches.

All durations are whole multiples of 2^-33 s, so that float64 adds them exactly
and the plain simulation in `jaxttc.simulation.clusters.reference`, which walks
through every iteration, finds the same times to the last bit.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from jaxttc.simulation.clusters import lanes as lanes_lib
from jaxttc.simulation.clusters import step as step_lib


@functools.partial(jax.jit, static_argnames=("groups", "width"))
def run(
  lanes: lanes_lib.Lanes,
  tables: lanes_lib.Tables,
  *,
  groups: int,
  width: int,
) -> lanes_lib.Outcome:
  """Simulates every lane until its last request has finished.

  To be traced with 64-bit types enabled.

  Args:
    lanes: what differs between lanes.
    tables: what they share.
    groups: groups of slots of a machine.
    width: slots of a group; groups * width sequences decode at most.
  """
  fixed = lanes_lib.fixed(lanes, tables)
  s = lax.while_loop(
    lambda s: s.alive,
    lambda s: step_lib.step(s, lanes, tables, fixed),
    lanes_lib.initial(lanes, tables, groups, width),
  )
  return _outcome(lanes_lib.apply(s), lanes, tables)


def _outcome(
  s: lanes_lib.State, lanes: lanes_lib.Lanes, tables: lanes_lib.Tables
) -> lanes_lib.Outcome:
  n_machines, n_lanes = lanes.pool.shape
  n_requests = tables.requests.shape[1]
  shape = (n_lanes, n_requests)
  offset = jnp.arange(n_lanes, dtype=jnp.int32)[:, None] * n_requests
  request = s.request.reshape(*shape, 4)
  batch_s = s.batch_s[offset + request[..., 0]]
  first = batch_s[..., 1]
  single = tables.requests[lanes.trace][:, :, 2] == 1
  rows = s.machine.reshape(n_lanes, n_machines, -1)
  machine = lanes_lib.Machine(*jnp.moveaxis(rows, -1, 0))
  return lanes_lib.Outcome(
    begun=batch_s[..., 0],
    first=first,
    left=s.left.reshape(shape),
    finished=jnp.where(single, first, s.finished.reshape(shape)),
    prompt_machine=request[..., 1],
    token_machine=request[..., 2],
    prompt_s=machine.prompt_s,
    decode_s=machine.decode_s,
    end_s=s.end_s,
    steps=s.steps,
  )
