# SPDX-License-Identifier: Apache-2.0
"""Requests of several budgets in one batch.

    server = RequestServer(network, params, plan, menu, sizes=(1, 4, 16))
    answers = server(inputs, requests)

Each request has a budget and a preference of its own. Requests whose plans come
to the same widths are one group; a group runs through the sub-network of its
widths, in pieces whose sizes have programs, and the predictions are put back in
the order of the requests. The widths and the sizes are few and compiled before
the first request, so that no mixture of requests compiles anything. Examples do
not see each other in the network, so a request's answer does not depend on who
came with it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxttc.allocators import width_planner
from jaxttc.inference import compiled_widths
from jaxttc.models.slimmable import network as network_lib
from jaxttc.models.slimmable import widths

_REMEMBERED = 4096  # plans
_WASTE = 1 / 3  # of a piece's requests, that may be padding


class Request(NamedTuple):
  """What one request may spend, and what it cares about.

  Attributes:
    budget: the most that it may cost, in the planner's unit.
    preference: how much each task matters; only ratios count.
  """

  budget: float
  preference: Mapping[str, float]


Planner = Callable[[Request], width_planner.Plan]


class Answers(NamedTuple):
  """Predictions for a batch of requests, in their order.

  Attributes:
    predictions: [B, ..] by task.
    configs: the widths that each request was served at.
    programs: calls of compiled programs that it took.
    padding: rows that were computed for nobody.
  """

  predictions: dict[str, np.ndarray]
  configs: tuple[widths.WidthConfig, ...]
  programs: int
  padding: int


def menu_of(
  plan: Planner,
  budgets: Iterable[float],
  preferences: Iterable[Mapping[str, float]],
) -> tuple[widths.WidthConfig, ...]:
  """The widths that plans for a grid of budgets and preferences come to.

  Raises:
    ValueError: as the planner does.
  """
  preferences = list(preferences)
  found = (plan(Request(b, p)).config for b in budgets for p in preferences)
  return tuple(dict.fromkeys(found))


def pieces(count: int, sizes: Sequence[int]) -> list[int]:
  """Sizes of the programs that serve so many requests, the largest first.

  A size is padded up to if at most a third of its requests are then missing;
  else the largest size that is full comes first.

  Args:
    count: of requests.
    sizes: ascending, 1 or more each.
  """
  found = []
  while count > 0:
    enough = next((size for size in sizes if size >= count), None)
    full = [size for size in sizes if size <= count]
    if enough and (not full or enough - count <= _WASTE * count):
      found.append(enough)
    else:
      found.append(full[-1])
    count -= found[-1]
  return found


class RequestServer:
  """Serves batches of requests through a menu of widths. One thread only."""

  def __init__(
    self,
    network: network_lib.MultiTaskNetwork,
    params: Any,
    plan: Planner,
    menu: Iterable[widths.WidthConfig],
    *,
    sizes: Sequence[int] = (1, 4, 16),
    statistics: Callable[[widths.WidthConfig], dict[str, Any]] | None = None,
  ):
    """Compiles a program for every width and size.

    Args:
      network: the network.
      params: its parameters, at full width.
      plan: from a request to its widths, such as a partial of
        `width_planner.plan`; asked once a request, and remembered.
      menu: the widths with programs. A plan that is not among them is served
        at the nearest that costs no more.
      sizes: requests a program takes.
      statistics: as `CompiledWidths` takes them.

    Raises:
      ValueError: if there are no widths or sizes, or one of them cannot be.
    """
    menu, sizes = tuple(dict.fromkeys(menu)), tuple(sorted(set(sizes)))
    if not menu or not sizes:
      raise ValueError("a menu of widths, and of sizes, must not be empty")
    if sizes[0] < 1:
      raise ValueError(f"sizes must be at least 1, got {sizes[0]}")
    self.compiled = compiled_widths.CompiledWidths(
      network,
      params,
      statistics=statistics,
      capacity=len(menu) * len(sizes),
    )
    for size in sizes:
      self.compiled.prewarm(menu, size)
    self._plan = plan
    self._tasks = network.space.tasks
    self._shape = tuple(network.input_shape)
    self._sizes = sizes
    self._plans: dict[Any, widths.WidthConfig] = {}

  def __call__(
    self, inputs: np.ndarray, requests: Sequence[Request]
  ) -> Answers:
    """Answers one request a row; compiles nothing.

    Args:
      inputs: f32[B, ..] of the network's `input_shape`, on the host.
      requests: B of them.

    Raises:
      NotCompiled: if a request can pay for no width of the menu.
      ValueError: for no requests, inputs of another shape, or not one a
        request; as the planner for a request that cannot be, naming its row.
    """
    if not requests:
      raise ValueError("a batch must have at least one request")
    inputs = np.asarray(inputs, np.float32)
    expected = (len(requests), *self._shape)
    if inputs.shape != expected:
      raise ValueError(
        f"expected inputs of shape {list(expected)} for {len(requests)} "
        f"requests, got {list(inputs.shape)}"
      )
    configs = [self._served_at(row, r) for row, r in enumerate(requests)]
    groups: dict[widths.WidthConfig, list[int]] = {}
    for row, config in enumerate(configs):
      groups.setdefault(config, []).append(row)
    # Every program is under way before the first result is waited for.
    running, padding = [], 0
    for config, rows in groups.items():
      start = 0
      for size in pieces(len(rows), self._sizes):
        some = rows[start : start + size]
        block = np.zeros((size, *self._shape), np.float32)
        block[: len(some)] = inputs[some]
        running.append((some, self.compiled(block, config)))
        start, padding = start + size, padding + size - len(some)
    predictions = self._in_order(len(requests), running)
    return Answers(predictions, tuple(configs), len(running), padding)

  def _served_at(self, row: int, request: Request) -> widths.WidthConfig:
    """The menu's widths for a request."""
    key = (request.budget, tuple(request.preference.items()))
    if key not in self._plans:
      try:
        config = self._plan(request).config
      except width_planner.InfeasibleBudget:
        raise
      except ValueError as error:
        raise ValueError(f"request {row}: {error}") from None
      if len(self._plans) >= _REMEMBERED:
        self._plans.pop(next(iter(self._plans)))
      self._plans[key] = self.compiled.nearest(config, self._sizes[0])
    return self._plans[key]

  def _in_order(self, count, running):
    """Predictions [B, ..] by task, from (rows, predictions) of each piece."""
    found = {}
    for rows, piece in running:
      for task, values in jax.device_get(piece).items():
        if task not in found:
          found[task] = np.zeros((count, *values.shape[1:]), values.dtype)
        found[task][rows] = values[: len(rows)]
    return {task: found[task] for task in self._tasks}
