# SPDX-License-Identifier: Apache-2.0
"""A cell of machines and the services that run on it, as the host sees them."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.simulation.placement import constraints as constraints_lib

Allocation = Int[np.ndarray, "*B S"]


class InfeasibleError(ValueError):
  """No machine can ever host a service."""


class Cell(NamedTuple):
  """Machines.

  Attributes:
    capacity: f[N, R], what machine n has of resource r, in any unit that usage
      shares. A machine that has none of a resource in use hosts nothing.
    attributes: what constraints ask about, a mapping a machine; none if empty.
  """

  capacity: Float[np.ndarray, "N R"]
  attributes: Sequence[constraints_lib.Attributes] = ()


class Workload(NamedTuple):
  """Services.

  Attributes:
    usage: f[S, R], what service s uses now.
    request: f[S, R], what it asked for; None if it is what it uses.
    mem_bytes: f[S], what a live migration has to copy; None for zero.
    dirty_rate: f[S], bytes a second that it writes; None for zero.
    constraints: what each asks of its machine; none if empty.
    job: i[S], services with one job number >= 0 must be on different machines;
      -1 for no such rule; None if there is none for anybody.
  """

  usage: Float[np.ndarray, "S R"]
  request: Float[np.ndarray, "S R"] | None = None
  mem_bytes: Float[np.ndarray, " S"] | None = None
  dirty_rate: Float[np.ndarray, " S"] | None = None
  constraints: Sequence[Sequence[constraints_lib.Constraint]] = ()
  job: Int[np.ndarray, " S"] | None = None


def check(cell: Cell, workload: Workload) -> None:
  """Refuses what cannot be.

  Raises:
    ValueError: if shapes do not match, or a capacity, usage, request, size or
      dirty rate is negative or not finite; the place is named.
  """
  _matrix("capacity", cell.capacity, "node")
  _matrix("usage", workload.usage, "service")
  nodes, resources = cell.capacity.shape
  services = workload.usage.shape[0]
  if workload.usage.shape[1] != resources:
    raise ValueError(
      f"usage has {workload.usage.shape[1]} resources, capacity {resources}"
    )
  if cell.attributes and len(cell.attributes) != nodes:
    raise ValueError(
      f"attributes of {len(cell.attributes)} nodes, capacity of {nodes}"
    )
  if workload.request is not None:
    _matrix("request", workload.request, "service")
    _same("request", workload.request.shape, workload.usage.shape)
  for name in ("mem_bytes", "dirty_rate"):
    values = getattr(workload, name)
    if values is not None:
      _same(name, np.shape(values), (services,))
      _matrix(name, np.asarray(values)[:, None], "service")
  if workload.constraints and len(workload.constraints) != services:
    raise ValueError(
      f"constraints of {len(workload.constraints)} services, usage of "
      f"{services}"
    )
  if workload.job is not None:
    _same("job", np.shape(workload.job), (services,))


def _matrix(name: str, values: np.ndarray, rows: str) -> None:
  if values.ndim != 2 or 0 in values.shape:
    raise ValueError(
      f"{name}: expected a [{rows}, resource] array, got shape {values.shape}"
    )
  bad = np.argwhere(~(np.isfinite(values) & (values >= 0)))
  if len(bad):
    row, column = bad[0]
    raise ValueError(
      f"{name} of {rows} {row}, resource {column} is {values[row, column]}: "
      "expected a finite number >= 0"
    )


def _same(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
  if shape != expected:
    raise ValueError(f"{name} has shape {shape}, expected {expected}")
