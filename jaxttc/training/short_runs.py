# SPDX-License-Identifier: Apache-2.0
"""Short finetuning runs, each a call of one compiled program.

For studies that train many small models for a few dozen steps: numbers of rows
and of steps, and the rate, are arrays, so that one program serves all runs of a
shape. What must be resumed, logged or sharded is `loop`'s.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

# (params, rows of a batch, key) -> (f32[], metrics).
Loss = Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]

_WARM_UP = 0.1  # share of a run's steps


def optimizer() -> optax.GradientTransformation:
  """Adam's direction on gradients clipped to norm 1; `pace` gives the step."""
  return optax.chain(
    optax.clip_by_global_norm(1.0), optax.scale_by_adam(b2=0.98)
  )


def pace(
  step: Int[Array, ""] | int, steps: Int[Array, ""] | int
) -> Float[Array, ""]:
  """Share of the rate at a step: a linear rise, then a linear fall.

  Args:
    step: from 0.
    steps: of the run; may be traced.
  """
  rise = jnp.maximum(_WARM_UP * steps, 1.0)
  left = (steps - step) / jnp.maximum(steps - rise, 1.0)
  return jnp.clip(jnp.minimum((step + 1) / rise, left), 0.0, 1.0)


def descend(
  params: Any, state: optax.OptState, grads: Any, rate: Float[Array, ""]
) -> tuple[Any, optax.OptState]:
  """One step of `optimizer` at a rate; returns parameters and state."""
  updates, state = optimizer().update(grads, state, params)
  return jax.tree.map(lambda x, u: x - rate * u, params, updates), state


def orders(
  rows: int, batch: int, epochs: int, most: int, seed: int
) -> tuple[Int[np.ndarray, "s b"], int]:
  """Which rows each step reads: every epoch all of them, in its own order.

  An epoch's last batch is filled from its beginning.

  Args:
    rows: of the data, at least 1.
    batch: rows a step.
    epochs: passes.
    most: rows of the largest run that shares the compiled program.
    seed: of the orders.

  Returns:
    The indices i32, padded with zeros to the steps of the largest run, and the
    run's steps.

  Raises:
    ValueError: if there are no rows, or more than `most`.
  """
  if not 1 <= rows <= most:
    raise ValueError(f"orders: {rows} rows, expected 1 to {most}")
  rng = np.random.default_rng((seed, rows))
  a_pass = -(-rows // batch)
  found = np.zeros((epochs * -(-most // batch), batch), np.int32)
  for epoch in range(epochs):
    order = np.resize(rng.permutation(rows), (a_pass, batch))
    found[epoch * a_pass : (epoch + 1) * a_pass] = order
  return found, epochs * a_pass


@functools.partial(jax.jit, static_argnames="loss")
def fit(
  loss: Loss,
  params: Any,
  rows: Any,
  order: Int[Array, "s b"],
  steps: Int[Array, ""] | int,
  rate: Float[Array, ""] | float,
  key: jax.Array,
) -> Any:
  """Trains on rows, and returns the parameters.

  Args:
    loss: as of `loop.fit`; static, so pass the same function again.
    params: to start from.
    rows: a pytree of arrays [N, ...]; a batch is its rows of one line of order.
    order: see `orders`.
    steps: how many of its lines are used.
    rate: peak of the step size.
    key: of the losses.
  """

  def step(i, carry):
    params, state = carry
    batch = jax.tree.map(lambda x: x[order[i]], rows)
    own = jax.random.fold_in(key, i)
    grads, _ = jax.grad(loss, has_aux=True)(params, batch, own)
    return descend(params, state, grads, rate * pace(i, steps))

  start = (params, optimizer().init(params))
  return jax.lax.fori_loop(0, steps, step, start)[0]
