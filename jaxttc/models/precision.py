# SPDX-License-Identifier: Apache-2.0
"""How exact a model's numbers are: those it is stored in and computed with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

FLOATS = ("float32", "bfloat16", "float16")
NAMES = (*FLOATS, "int8")


class Precision(NamedTuple):
  """What parameters are stored in, and what is computed with them.

  Attributes:
    dtype: to compute in; of caches, too.
    int8: whether matrices are stored as int8 with scales (`int8_weights`);
      else they are of `dtype`.
  """

  dtype: jnp.dtype
  int8: bool = False


def parse(
  dtype: jax.typing.DTypeLike, platform: str | None = None
) -> Precision:
  """The precision that a dtype asks for.

  Args:
    dtype: one of `NAMES`, or the dtype of that name.
    platform: "cpu", "gpu" or "tpu"; None for JAX's default. Int8 weights are
      computed with in float32 on a CPU, and in bfloat16 elsewhere.

  Raises:
    ValueError: for any other; lists those there are.
  """
  try:
    name = jnp.dtype(dtype).name
  except TypeError:
    name = str(dtype)
  if name not in NAMES:
    raise ValueError(f"dtype is {name!r}; expected one of {', '.join(NAMES)}")
  if name != "int8":
    return Precision(jnp.dtype(name))
  on_cpu = (platform or jax.default_backend()) == "cpu"
  return Precision(jnp.dtype(jnp.float32 if on_cpu else jnp.bfloat16), True)
