# SPDX-License-Identifier: Apache-2.0
"""Bytes that collectives send over the links, from a function's jaxpr.

A collective's payload is not what crosses the wire. On a ring of n devices an
all-reduce of b bytes sends 2 (n - 1) / n * b from each of them, and a gather or
a scatter half of that (Patarasuk and Yuan, 2009); one device sends nothing.

Collectives that a program writes itself, under `shard_map`, are in its jaxpr,
and counted here. Those that the compiler puts in for shardings are in its text
alone: `hlo_collectives` reads that.
"""

from collections.abc import Callable, Iterable
import math
from typing import Any

import jax
from jax.extend import core

from jaxttc.cost import jaxpr_walk

KINDS = (
  "all_reduce",
  "all_gather",
  "reduce_scatter",
  "all_to_all",
  "broadcast",
  "permute",
)
_OF_PRIMITIVE = {
  "psum": "all_reduce",
  "psum2": "all_reduce",
  "psum_invariant": "all_reduce",
  "pmax": "all_reduce",
  "pmin": "all_reduce",
  "all_gather": "all_gather",
  "all_gather_invariant": "all_gather",
  "reduce_scatter": "reduce_scatter",
  "all_to_all": "all_to_all",
  "ppermute": "permute",
}


def ring_bytes(kind: str, payload: int, devices: int) -> int:
  """Bytes that each device sends in one collective, rounded up.

  Args:
    kind: one of `KINDS`.
    payload: bytes of the whole: what is reduced, gathered, scattered or, of
      one device, exchanged.
    devices: that take part.

  Raises:
    ValueError: for an unknown kind, a negative payload, or no devices.
  """
  if kind not in KINDS:
    raise ValueError(
      f"unknown collective {kind!r}; expected one of {', '.join(KINDS)}"
    )
  if payload < 0 or devices < 1:
    raise ValueError(
      f"{kind} needs a payload >= 0 and at least one device, got "
      f"{payload} bytes and {devices} devices"
    )
  if devices == 1:
    return 0
  if kind in ("broadcast", "permute"):
    return payload
  rounds = 2 if kind == "all_reduce" else 1
  return -(-rounds * (devices - 1) * payload // devices)


def count_collectives(
  fn: Callable[..., Any],
  *args: Any,
  while_trips: int | Iterable[int] | None = None,
) -> dict[str, int]:
  """Bytes that one device sends in `fn(*args)`, by kind of collective.

  `fn` is traced, not run; of a permutation, the bytes of a device that sends.

  Args:
    fn: a function with `shard_map`s inside.
    *args: example arguments; only shapes and dtypes matter.
    while_trips: as in `jaxpr_flops.count_flops`, of loops that communicate.

  Returns:
    Bytes a kind, of the kinds that occur.

  Raises:
    ValueError: for a `while` loop that communicates and has no bound.
  """
  jaxpr = jax.make_jaxpr(fn)(*args).jaxpr
  bounds = while_trips
  if bounds is not None and not isinstance(bounds, int):
    bounds = tuple(bounds)
  found = {}
  for kind in KINDS:

    def sent(equation, sizes, kind=kind):
      name = equation.primitive.name
      return _sent(equation, sizes) if _OF_PRIMITIVE[name] == kind else 0

    walk = jaxpr_walk.Walk(
      names=frozenset(_OF_PRIMITIVE), amount=sent, everywhere=False
    )
    found[kind] = walk.of(jaxpr, bounds)
  return {kind: total for kind, total in found.items() if total}


def _sent(equation: core.JaxprEqn, sizes: jaxpr_walk.Sizes) -> int:
  kind = _OF_PRIMITIVE[equation.primitive.name]
  params = equation.params
  devices = _devices(params, sizes)
  # Of a gather the whole is what comes out; of all others what goes in.
  ends = equation.outvars if kind == "all_gather" else equation.invars
  payload = sum(
    math.prod(end.aval.shape) * end.aval.dtype.itemsize for end in ends
  )
  if kind == "permute" and all(a == b for a, b in params["perm"]):
    return 0
  return ring_bytes(kind, payload, devices)


def _devices(params: dict[str, Any], sizes: jaxpr_walk.Sizes) -> int:
  """How many devices exchange with each other."""
  groups = params.get("axis_index_groups")
  if groups:
    return len(groups[0])
  axes = params["axes"] if "axes" in params else params["axis_name"]
  names = axes if isinstance(axes, tuple | list) else (axes,)
  # Axes of a vmap are numbers, or no mesh axes, and cross no link.
  return math.prod(sizes.get(name, 1) for name in names)
