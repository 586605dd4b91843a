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

from collections.abc import Callable, Iterable, Iterator
import itertools
import math
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

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

  Returns:
    The exact count; for shard-mapped code the total over all devices.

  Raises:
    ValueError: for a `while` loop that multiplies and has no bound, for
      bounds left over or negative, and for an operation whose FLOPs the
      jaxpr does not tell (kernels, factorisations, FFTs).
  """
  if isinstance(while_trips, int):
    trips = itertools.repeat(while_trips)
  else:
    trips = iter(while_trips or ())
  total = _count(jax.make_jaxpr(fn)(*args).jaxpr, trips)
  if not isinstance(trips, itertools.repeat) and next(trips, None) is not None:
    raise ValueError(
      "while_trips has more bounds than fn has while loops that multiply"
    )
  return total


def _count(jaxpr: core.Jaxpr, trips: Iterator[int]) -> int:
  return sum(_equation(equation, trips) for equation in jaxpr.eqns)


def _equation(equation: core.JaxprEqn, trips: Iterator[int]) -> int:
  """FLOPs of one equation; draws the bounds of its while loops from `trips`."""
  name, params = equation.primitive.name, equation.params
  if name in _OPAQUE:
    raise ValueError(f"cannot count the FLOPs of {name!r} from its jaxpr")
  if name == "dot_general":
    return _dot_general(equation)
  if name == "conv_general_dilated":
    return _convolution(equation)
  if name == "while":
    return _while(params, trips)
  if name == "cond":
    return max(_count(branch.jaxpr, trips) for branch in params["branches"])
  inner = [jaxpr for jaxpr in _bodies(params) if _multiplies(jaxpr)]
  if len(inner) > 1:
    raise ValueError(
      f"cannot tell which of {len(inner)} bodies {name!r} runs how often"
    )
  return _repeats(name, params) * sum(_count(jaxpr, trips) for jaxpr in inner)


def _repeats(name: str, params: dict[str, Any]) -> int:
  """How often an equation runs its only body."""
  if name == "scan":
    return params["length"]
  if name == "shard_map":  # shapes inside are those of one device
    axes = params["newly_manual_axes"]
    return math.prod(params["mesh"].shape[axis] for axis in axes)
  return 1  # jit, remat, custom_jvp, custom_vjp, closed_call, ...


def _while(params: dict[str, Any], trips: Iterator[int]) -> int:
  """Body times its bound; the condition runs once more than the body."""
  test, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
  if not (_multiplies(test) or _multiplies(body)):
    return 0
  bound = next(trips, None)
  if bound is None:
    raise ValueError(
      "a while loop that multiplies has no bound on its trips; pass "
      "while_trips=... or use lax.scan"
    )
  if bound < 0:
    raise ValueError(f"while_trips must not be negative, got {bound}")
  return (bound + 1) * _count(test, trips) + bound * _count(body, trips)


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


def _multiplies(jaxpr: core.Jaxpr) -> bool:
  """Whether anything in a jaxpr, however deep, counts or is refused."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in _COUNTED | _OPAQUE:
      return True
    if any(_multiplies(inner) for inner in _bodies(equation.params)):
      return True
  return False


def _bodies(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
  """All jaxprs among an equation's parameters."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      if isinstance(item, core.ClosedJaxpr):
        yield item.jaxpr
      elif isinstance(item, core.Jaxpr):
        yield item
