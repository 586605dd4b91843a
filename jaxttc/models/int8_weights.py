# SPDX-License-Identifier: Apache-2.0
"""Matrices of a transformer as int8, with a float scale an output channel.

A weight w of a channel is stored as the integer q nearest to w / s, where s is
the channel's largest magnitude over 127 (symmetric absmax; Dettmers et al.
2022, "LLM.int8()"): |w - q s| <= s / 2. Scales belong to outputs, so they come
after a product, x (q s) = (x q) s, and what is read from memory is int8. The
embedding has a scale a row, which is an output where it is the head.

What is computed with is of the scales' dtype. Norms, biases and reward heads,
which are small, stay floats.

Own, since qwix keeps such weights in wrappers that need flax.nnx, which the
oldest flax that we support cannot import beside the newest jax; and AQT draws
its own from a latent float copy, by a call that converts the whole model.
"""

from typing import Any

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 127  # -128 is left out, so that both signs reach as far
SUFFIX = "_scale"  # of a matrix's name: its scales
_CHUNK = 1 << 22  # numbers rounded at once
# The axes of each matrix that are summed over: its inputs.
_INPUTS = {
  "qkv": (0,),
  "out": (0, 1),
  "gate_up": (0,),
  "down": (0,),
  "embedding": (1,),
}


def inputs(path: tuple[str, ...]) -> tuple[int, ...] | None:
  """The input axes of a parameter that is stored as int8; None for others.

  Args:
    path: its names.
  """
  if path[-2:] == ("head", "kernel"):
    return (0,)
  return _INPUTS.get(path[-1])


def scale_path(path: tuple[str, ...]) -> tuple[str, ...]:
  """Where a matrix's scales lie."""
  return (*path[:-1], path[-1] + SUFFIX)


def scale_of(module: nn.Module, name: str) -> jax.Array | None:
  """The scales of a module's matrix; None if it is of floats.

  Args:
    module: bound to its parameters.
    name: of the matrix.
  """
  return module.get_variable("params", name + SUFFIX)


def quantise(
  value: np.ndarray, axes: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> tuple[np.ndarray, np.ndarray]:
  """A matrix as int8, and its scales.

  Args:
    value: floats, on the host. One more copy of it, as int8, is made.
    axes: its input axes; the others are outputs.
    dtype: of the scales, float32 or bfloat16; float16 cannot say small ones.

  Returns:
    (q int8 of `value`'s shape, scale of the output axes). A channel of zeros
    has scale 1.
  """
  # Not abs(value).max(), which would copy all of it.
  most = np.maximum(value.max(axis=axes), -value.min(axis=axes))
  scale = (most.astype(np.float32) / LARGEST).astype(jnp.dtype(dtype))
  scale = np.where(scale > 0, scale, np.ones_like(scale))
  by = np.expand_dims(scale.astype(np.float32), axes)
  q = np.empty(value.shape, np.int8)
  rows = max(_CHUNK // max(value[0].size, 1), 1)
  for start in range(0, len(value), rows):
    part = slice(start, start + rows)
    near = np.rint(value[part] / (by[part] if len(by) > 1 else by))
    q[part] = np.clip(near, -LARGEST, LARGEST)
  return q, scale


def quantised(
  params: dict[str, Any], dtype: jax.typing.DTypeLike
) -> dict[str, Any]:
  """Parameters with their matrices as int8, on the host.

  Args:
    params: of a `Transformer` or a `ProcessRewardModel`, as floats.
    dtype: of the scales, and of all that stays float.
  """
  flat = {}
  for path, value in traverse_util.flatten_dict(params).items():
    axes = inputs(path)
    if axes is None:
      flat[path] = np.asarray(value).astype(jnp.dtype(dtype))
    else:
      flat[path], flat[scale_path(path)] = quantise(
        np.asarray(value), axes, dtype
      )
  return traverse_util.unflatten_dict(flat)


def dequantised(params: dict[str, Any]) -> dict[str, Any]:
  """The float parameters that int8 ones stand for, in the scales' dtype."""
  flat = traverse_util.flatten_dict(params)
  found = {}
  for path, value in flat.items():
    if path[-1].endswith(SUFFIX):
      continue
    scale = flat.get(scale_path(path))
    if scale is not None:
      scale = jnp.expand_dims(scale, inputs(path))
      value = value.astype(scale.dtype) * scale
    found[path] = value
  return traverse_util.unflatten_dict(found)


def product(
  subscripts: str,
  x: jax.Array,
  weight: jax.Array | np.ndarray,
  scale: jax.Array | np.ndarray | None,
  dtype: jax.typing.DTypeLike,
) -> jax.Array:
  """`einsum(subscripts, x, weight)` of a matrix that may be int8.

  Args:
    subscripts: the output's last axes are the matrix's output axes, in order.
    x: activations.
    weight: the matrix, of floats or int8.
    scale: its scales; None if it is of floats.
    dtype: to compute in.
  """
  if scale is None:
    return jnp.einsum(subscripts, x, weight.astype(dtype))
  # A decoding loop multiplies by the same matrix at every step. Tied to the
  # activations, it is not turned to floats once, before the loop.
  x, weight = jax.lax.optimization_barrier((x, weight))
  out = jnp.einsum(subscripts, x, weight.astype(dtype))
  scale = jnp.expand_dims(scale, range(out.ndim - scale.ndim))
  return out * scale.astype(dtype)
