# SPDX-License-Identifier: Apache-2.0
"""Products and norms whose gradients XLA is fast in on a CPU.

JAX's own gradients of both leave XLA for CPU with forms it is slow in: products
of the gradients of more than two axes, which it copies into another order
first; products whose wider operand is the one to be turned; and sums over short
rows, which it takes a row at a time. Values are the same to rounding.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from jaxttc.models import int8_weights


def dense(
  x: Float[Array, "*B D"],
  weight: jax.Array | np.ndarray,
  scale: jax.Array | np.ndarray | None,
  dtype: jax.typing.DTypeLike,
) -> Float[Array, "*B F"]:
  """Products of hidden states with a matrix that may be int8.

  Args:
    x: activations.
    weight: [D, F], of floats or int8.
    scale: [F] of an int8 matrix, which has no gradient; None else.
    dtype: to compute in.
  """
  rows = x.reshape(-1, x.shape[-1])
  if scale is None:
    out = product(rows, weight.astype(dtype))
  else:
    out = int8_weights.product("nd,df->nf", rows, weight, scale, dtype)
  return out.reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def product(
  x: Float[Array, "N D"], weight: Float[Array, "D F"]
) -> Float[Array, "N F"]:
  """x @ weight, for many more rows than columns."""
  return x @ weight


def _product_forward(x, weight):
  return x @ weight, (x, weight)


def _product_backward(kept, d_out):
  x, weight = kept
  # The left operand is turned, so that is the narrow one. Held, or XLA would
  # swap the two to save the turn of the result, which is small.
  if x.shape[1] <= d_out.shape[1]:
    d_weight = jax.lax.optimization_barrier(_summed(x, d_out, 0))
  else:
    d_weight = jax.lax.optimization_barrier(_summed(d_out, x, 0)).T
  return _summed(d_out, weight, 1), d_weight


product.defvjp(_product_forward, _product_backward)


def _summed(a, b, axis):
  """Product of two matrices, summed over an axis of both."""
  return jax.lax.dot_general(a, b, (((axis,), (axis,)), ((), ())))


class RMSNorm(nn.Module):
  """As flax's, and with its parameter.

  Attributes:
    epsilon: added to the mean square.
    dtype: of the result; computed is in float32.
  """

  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Hidden states over their root mean square, times a scale a column."""
    scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
    rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
    out = normalised(rows, scale.astype(jnp.float32), self.epsilon)
    return out.astype(self.dtype).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def normalised(
  x: Float[Array, "N D"], scale: Float[Array, " D"], epsilon: float
) -> Float[Array, "N D"]:
  """Rows over their root mean square, times `scale` (Zhang & Sennrich 2019)."""
  return _norm_forward(x, scale, epsilon)[0]


def _norm_forward(x, scale, epsilon):
  columns = x.shape[1]
  mean = _exactly(x * x, jnp.full((columns, 1), 1 / columns, x.dtype))
  inverse = jax.lax.rsqrt(mean + epsilon)
  return x * inverse * scale[None], (x, inverse, scale)


def _norm_backward(epsilon, kept, d_out):
  del epsilon
  x, inverse, scale = kept
  moved = d_out * x
  along = _exactly(moved, (scale / x.shape[1])[:, None])
  d_x = d_out * (inverse * scale[None]) - x * (along * inverse**3)
  return d_x, _exactly(inverse.T, moved)[0]


normalised.defvjp(_norm_forward, _norm_backward)


def _exactly(a, b):
  """A product that is a sum: in float32 on accelerators, too."""
  return jnp.matmul(a, b, precision="highest")
