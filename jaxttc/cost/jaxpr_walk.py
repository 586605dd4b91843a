# SPDX-License-Identifier: Apache-2.0
"""Adds up an amount over everything that a jaxpr runs.

Rules: a scan is its body times its length; a `cond` is its dearest branch; a
`while` loop needs a declared bound on its trips; a `shard_map` body is that of
one device. Gradients, rematerialisation and vmap are already written out. What
cannot be told is refused, never guessed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import itertools
import math
from typing import Any

import jax
from jax.extend import core

Sizes = Mapping[str, int]  # devices along the mesh axes in scope


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk:
  """What is added up, and how.

  Attributes:
    names: primitives that have an amount; all else is looked into.
    amount: (equation, sizes of mesh axes) -> its amount on one device.
    everywhere: whether a `shard_map` counts on all devices that it is mapped
      over, or on one.
    once: whether the body of a loop counts once, as compilers count it.
  """

  names: frozenset[str]
  amount: Callable[[core.JaxprEqn, Sizes], int]
  everywhere: bool = True
  once: bool = False

  def total(
    self,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    while_trips: int | Iterable[int] | None = None,
  ) -> int:
    """The amount of `fn(*args)`, which is traced, not run.

    Args:
      fn: a function of arrays, jitted or not.
      args: example arguments; only shapes and dtypes matter.
      while_trips: the most trips of each `while` loop that counts: one bound
        for all, or one for each, outer before inner, in the order of the
        trace.

    Raises:
      ValueError: for a `while` loop that counts and has no bound, and for
        bounds that are left over or negative.
    """
    return self.of(jax.make_jaxpr(fn)(*args).jaxpr, while_trips)

  def of(
    self, jaxpr: core.Jaxpr, while_trips: int | Iterable[int] | None = None
  ) -> int:
    """The amount of what is traced already; see `total`."""
    if isinstance(while_trips, int):
      trips = itertools.repeat(while_trips)
    else:
      trips = iter(while_trips or ())
    total = self._sum(jaxpr, trips, {})
    if isinstance(trips, itertools.repeat):
      return total
    if next(trips, None) is not None:
      raise ValueError(
        "while_trips has more bounds than fn has while loops that multiply"
      )
    return total

  def _sum(self, jaxpr: core.Jaxpr, trips: Iterator[int], sizes: Sizes) -> int:
    return sum(self._equation(e, trips, sizes) for e in jaxpr.eqns)

  def _equation(
    self, equation: core.JaxprEqn, trips: Iterator[int], sizes: Sizes
  ) -> int:
    """Amount of one equation; draws bounds of while loops from `trips`."""
    name, params = equation.primitive.name, equation.params
    if name in self.names:
      return self.amount(equation, sizes)
    if name == "while":
      return self._while(params, trips, sizes)
    if name == "cond":
      branches = params["branches"]
      return max(self._sum(branch.jaxpr, trips, sizes) for branch in branches)
    inner = [jaxpr for jaxpr in _bodies(params) if self._counts(jaxpr)]
    if len(inner) > 1:
      raise ValueError(
        f"cannot tell which of {len(inner)} bodies {name!r} runs how often"
      )
    times = 1  # jit, remat, custom_jvp, custom_vjp, closed_call, ...
    if name == "scan":
      times = 1 if self.once else params["length"]
    elif name == "shard_map":  # shapes inside are those of one device
      sizes = dict(params["mesh"].shape)
      if self.everywhere:
        times = math.prod(sizes[axis] for axis in params["newly_manual_axes"])
    return times * sum(self._sum(jaxpr, trips, sizes) for jaxpr in inner)

  def _while(
    self, params: dict[str, Any], trips: Iterator[int], sizes: Sizes
  ) -> int:
    """Body times its bound; the condition runs once more than the body."""
    test, body = params["cond_jaxpr"].jaxpr, params["body_jaxpr"].jaxpr
    if not (self._counts(test) or self._counts(body)):
      return 0
    bound = 1 if self.once else next(trips, None)
    if bound is None:
      raise ValueError(
        "a while loop that multiplies has no bound on its trips; pass "
        "while_trips=... or use lax.scan"
      )
    if bound < 0:
      raise ValueError(f"while_trips must not be negative, got {bound}")
    checks = 1 if self.once else bound + 1
    return checks * self._sum(test, trips, sizes) + bound * self._sum(
      body, trips, sizes
    )

  def _counts(self, jaxpr: core.Jaxpr) -> bool:
    """Whether anything in a jaxpr, however deep, has an amount."""
    for equation in jaxpr.eqns:
      if equation.primitive.name in self.names:
        return True
      if any(self._counts(inner) for inner in _bodies(equation.params)):
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
