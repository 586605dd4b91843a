# SPDX-License-Identifier: Apache-2.0
"""Passes over sampled traces of the planted task, a batch at a time.

Every number of a pass may be traced: horizon, traces, step sizes. So one
compiled program serves all settings of a study, mapped over them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.cost import costs
from jaxttc.tasks import planted, planted_traces

BATCH = 32  # traces a step, of all methods alike
Scalar = Int[Array, ""] | int


class Bounds(NamedTuple):
  """How far loops run, where sizes are mapped over; they change no result.

  Attributes:
    steps: at least every horizon.
    traces: at least every number of traces.
  """

  steps: Scalar
  traces: Scalar


class Trained(NamedTuple):
  """A trained policy and what it took.

  Attributes:
    policy: the table.
    cost: generated tokens and verifier calls, i32[] or f32[] each. A trace is
      charged its whole horizon, solved or not.
  """

  policy: planted.Policy
  cost: costs.Cost


def run(
  key: Key[Array, ""],
  traces: Scalar,
  bounds: Bounds,
  *,
  draw: Callable[[Any, Key[Array, ""]], planted_traces.Traces],
  fold: Callable[[Any, planted_traces.Traces, Bool[Array, " B"]], Any],
  start: Any,
) -> Any:
  """Folds batches of traces into a state.

  Args:
    key: random key; consumed. The same key draws the same traces.
    traces: how many in all; the last batch may have fewer than `BATCH`.
    bounds: of the loops.
    draw: (state, key) -> a batch of `BATCH` traces.
    fold: (state, traces, which of them count) -> state.
    start: the first state.
  """

  def step(i, state):
    drawn = draw(state, jax.random.fold_in(key, i))
    return fold(state, drawn, i * BATCH + jnp.arange(BATCH) < traces)

  batches = (bounds.traces + BATCH - 1) // BATCH
  return jax.lax.fori_loop(0, batches, step, start)


def add_up(
  key: Key[Array, ""],
  traces: Scalar,
  bounds: Bounds,
  *,
  draw: Callable[[Any, Key[Array, ""]], planted_traces.Traces],
  weigh: Callable[[Int[Array, " B"]], Float[Array, " B"]],
  shape: planted.Policy,
) -> planted_traces.Counts:
  """Counts of traces, each weighted by its solving token (0: not solved).

  Args:
    key: random key; consumed.
    traces: how many.
    bounds: of the loops.
    draw: as in `run`; its state is not to be read.
    weigh: from solving tokens to weights.
    shape: a policy, for the shapes of counts.
  """

  def fold(counts, drawn, counted):
    more = planted_traces.total(drawn, weigh(drawn.solved) * counted, shape)
    return jax.tree.map(jnp.add, counts, more)

  return run(
    key,
    traces,
    bounds,
    draw=draw,
    fold=fold,
    start=planted_traces.empty(shape),
  )


def price(traces: Scalar, horizon: Scalar, *, labelled: bool) -> costs.Cost:
  """What traces of a horizon cost, with a verifier's call each if labelled."""
  calls = jnp.asarray(traces) if labelled else jnp.int32(0)
  return costs.Cost(
    generated_tokens=jnp.asarray(traces * horizon), verifier_calls=calls
  )
