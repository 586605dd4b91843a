# SPDX-License-Identifier: Apache-2.0
"""Counts the matrix FLOPs of any JAX function by walking its jaxpr.

What a compiler reports as FLOPs counts the body of a loop once, however often
it runs, and changes with fusion and backend. The jaxpr is exact: shapes are
static, a scan knows its length, and gradients, rematerialisation and vmap are
already written out. Matrix products and convolutions are counted, two FLOPs a
multiply-add; elementwise work is not, as in `transformer_flops`.

    forward = count_flops(loss, params, batch)
    step = count_flops(jax.grad(loss), params, batch)   # 3 * forward

Rules: a scan is its body times its length; a `cond` is its most expensive
branch; a `while` loop needs a declared bound on its trips; a `shard_map` body
is per device and multiplied by the devices that it is mapped over, so counts
are totals over the mesh. What cannot be counted is refused, never guessed.
"""

from collections.abc import Callable, Iterable
import math
from typing import Any

from jax.extend import core
import jax.numpy as jnp

from jaxttc.cost import jaxpr_walk

_COUNTED = frozenset({"dot_general", "conv_general_dilated"})

# These multiply, but the jaxpr does not tell how much.
_OPAQUE = frozenset(
  {
    "pallas_call",
    "ffi_call",
    "ragged_dot_general",
    "fft",
    "triangular_solve",
    "cholesky",
    "lu",
    "qr",
    "householder_product",
    "svd",
    "eig",
    "eigh",
    "custom_linear_solve",
  }
)


def count_flops(
  fn: Callable[..., Any],
  *args: Any,
  while_trips: int | Iterable[int] | None = None,
  loops_once: bool = False,
) -> int:
  """FLOPs of the matrix products and convolutions in `fn(*args)`.

  `fn` is traced, not run: arguments may be `jax.ShapeDtypeStruct`s.

  Args:
    fn: a function of arrays, jitted or not.
    *args: example arguments; only shapes and dtypes matter.
    while_trips: the most trips of each `while` loop that multiplies: one
      bound for all of them, or one for each, outer before inner, in the
      order of the trace. `lax.scan`, and `lax.fori_loop` with static bounds,
      need none.
    loops_once: counts the body of a loop once, however often it runs, which
      is wrong, and what compilers do; to compare with theirs.

  Returns:
    The exact count; for shard-mapped code the total over all devices.

  Raises:
    ValueError: for a `while` loop that multiplies and has no bound, for
      bounds left over or negative, and for an operation whose FLOPs the
      jaxpr does not tell (kernels, factorisations, FFTs).
  """
  walk = jaxpr_walk.Walk(
    names=_COUNTED | _OPAQUE, amount=_amount, once=loops_once
  )
  return walk.total(fn, args, while_trips)


def _amount(equation: core.JaxprEqn, sizes: jaxpr_walk.Sizes) -> int:
  """FLOPs of one equation that multiplies."""
  del sizes
  name = equation.primitive.name
  if name in _OPAQUE:
    raise ValueError(f"cannot count the FLOPs of {name!r} from its jaxpr")
  if name == "dot_general":
    return _dot_general(equation)
  return _convolution(equation)


def _dot_general(equation: core.JaxprEqn) -> int:
  """2 * size of the result * length of the contraction."""
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval
  result = equation.outvars[0].aval
  length = math.prod(left.shape[axis] for axis in contracted)
  return 2 * _real(left.dtype) * math.prod(result.shape) * length


def _convolution(equation: core.JaxprEqn) -> int:
  """2 * size of the result * weights that meet in one of its elements.

  Padding and dilation count as if their zeros were multiplied.
  """
  kernel = equation.invars[1].aval
  result = equation.outvars[0].aval
  features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
  meet = math.prod(kernel.shape) // features
  return 2 * _real(kernel.dtype) * math.prod(result.shape) * meet


def _real(dtype: Any) -> int:
  """Real multiply-adds in one of this dtype."""
  return 4 if jnp.issubdtype(dtype, jnp.complexfloating) else 1
