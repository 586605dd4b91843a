# SPDX-License-Identifier: Apache-2.0
"""Mini-batch Adam over rows of arrays, compiled once for many fits.

Rows are padded to a multiple of a block and drawn below their true count, so
that folds of slightly different sizes share one program.
"""

from collections.abc import Callable, Hashable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

_BLOCK = 1024

# loss(params, batch, key, settings) -> a number; batch is the rows drawn.
Loss = Callable[[Any, tuple[Any, ...], Any, Any], Any]


def minimise(
  loss: Loss,
  params: Any,
  data: Sequence[np.ndarray],
  key: jax.Array,
  *,
  settings: Hashable = None,
  epochs: int = 30,
  batch: int = 64,
  rate: float = 1e-3,
  decay: float = 1e-5,
) -> Any:
  """Parameters after some epochs of AdamW, its rate falling as a cosine.

  Args:
    loss: a function of a module (closures would compile anew each time).
    params: where to start.
    data: arrays [N, ...] of N rows each.
    key: draws the batches, and is passed on to the loss.
    settings: handed to the loss; static.
    epochs: how many times N rows are drawn, with replacement.
    batch: rows drawn for a step.
    rate: learning rate at the start.
    decay: decoupled weight decay.

  Raises:
    ValueError: if a setting is not positive, or training diverges.
  """
  if min(epochs, batch, rate) <= 0:
    raise ValueError(
      "expected epochs, batch and rate above 0, got "
      f"{epochs}, {batch} and {rate}"
    )
  rows = len(data[0])
  padded = -(-rows // _BLOCK) * _BLOCK
  arrays = tuple(
    jnp.asarray(
      np.concatenate([a, np.zeros((padded - rows, *a.shape[1:]))]), jnp.float32
    )
    for a in data
  )
  steps = -(-rows * epochs // batch)
  params = _run(
    loss, settings, batch, params, arrays, rows, steps, rate, decay, key
  )
  if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
    raise ValueError(f"training diverged at rate {rate}; lower it")
  return params


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _run(loss, settings, batch, params, data, rows, steps, rate, decay, key):
  def schedule(count):
    return rate * 0.5 * (1 + jnp.cos(jnp.pi * count / steps))

  optimiser = optax.adamw(schedule, weight_decay=decay)

  def step(count, carried):
    params, state = carried
    draw, noise = jax.random.split(jax.random.fold_in(key, count))
    chosen = jax.random.randint(draw, (batch,), 0, rows)
    drawn = tuple(array[chosen] for array in data)
    slope = jax.grad(loss)(params, drawn, noise, settings)
    update, state = optimiser.update(slope, state, params)
    return optax.apply_updates(params, update), state

  state = optimiser.init(params)
  return jax.lax.fori_loop(0, steps, step, (params, state))[0]


def standardise(
  x: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each column, 1 where it does not vary."""
  spread = x.std(0)
  return x.mean(0), np.where(spread > 1e-9, spread, 1.0)


def masked(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Scores with 0 where unknown, and 1 where known, both f64[N, K]."""
  known = ~np.isnan(scores)
  return np.where(known, scores, 0.0), known.astype(np.float64)
