# SPDX-License-Identifier: Apache-2.0
"""Random keys of generated data: one stream to train on, one to test on.

Every example has a key of its own, so that it does not depend on how many are
drawn beside it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

_TRAINING, _HELD_OUT = 0, 1


def check_seed(seed: int) -> None:
  """Raises ValueError for a seed that is no number of a stream."""
  if not 0 <= seed < 2**32:
    raise ValueError(f"seed must be in 0..{2**32 - 1}, got {seed}")


def training(key: Key[Array, ""], batch: int) -> Key[Array, " B"]:
  """Keys of a training batch's examples.

  Raises:
    ValueError: if `batch` is not positive.
  """
  return _each(jax.random.fold_in(key, _TRAINING), batch, "batch")


def held_out(seed: int, count: int) -> Key[Array, " B"]:
  """Keys of the first `count` test examples of a data set's seed.

  Raises:
    ValueError: if `count` is not positive.
  """
  key = jax.random.fold_in(jax.random.key(seed), _HELD_OUT)
  return _each(key, count, "count")


def _each(key: jax.Array, number: int, name: str) -> jax.Array:
  if number < 1:
    raise ValueError(f"{name} must be at least 1, got {number}")
  return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
