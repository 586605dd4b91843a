# SPDX-License-Identifier: Apache-2.0
"""Choosing a pipeline: sweeps, derivatives, and the best under limits."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
from scipy import optimize

from jaxttc.simulation.detectors import graph as graph_lib
from jaxttc.simulation.detectors import parameters, performance

# How far a limit may be overrun, as a share of it.
_SLACK = 1e-6


def sweep(
  graph: graph_lib.PipelineGraph,
  values: Mapping[str, Float[Array, "N ..."] | Float[np.ndarray, "N ..."]],
) -> performance.Report:
  """Evaluates N variants of a graph in one program.

  Args:
    graph: what all variants share.
    values: by path, the N values of a number (or of an array, as a classifier
      has); see `PipelineGraph.parameters`. The i-th variant has the i-th of
      each.

  Returns:
    A report with a leading axis N on every field.

  Raises:
    ValueError: if a path is unknown, a value is out of its range or of another
      shape, lengths differ or are 0, or no stage classifies.
  """
  known = parameters.read(graph)
  if not values:
    raise ValueError("expected at least one number to sweep")
  for path, column in values.items():
    _require_free(graph, known, path)
    if np.shape(column)[1:] != np.shape(known[path]) or not np.size(column):
      raise ValueError(
        f"{path}: expected one value or more of shape {np.shape(known[path])} "
        f"below each other, got shape {np.shape(column)}"
      )
    parameters.check_values(path, column)
  lengths = {path: len(column) for path, column in values.items()}
  if len(set(lengths.values())) != 1:
    raise ValueError(f"expected as many values of each number, got {lengths}")
  columns = {path: jnp.asarray(x, float) for path, x in values.items()}
  return _sweep(parameters.as_floats(graph), columns)


@jax.jit
def _sweep(
  graph: graph_lib.PipelineGraph, columns: dict[str, Float[Array, "N ..."]]
) -> performance.Report:
  def variant(row: dict[str, jax.Array]) -> performance.Report:
    return performance.evaluate(parameters.replace(graph, row))

  return jax.vmap(variant)(columns)


def gradients(
  graph: graph_lib.PipelineGraph, metric: str
) -> dict[str, Float[Array, "..."]]:
  """Derivatives of one metric by every number of a graph.

  Args:
    graph: where to differentiate.
    metric: a name of `performance.METRICS`.

  Returns:
    By path, the derivative, of the number's shape.

  Raises:
    ValueError: if the metric is unknown, or no stage classifies.
  """
  _require_metric(metric)
  return parameters.read(_gradient(parameters.as_floats(graph), metric))


def elasticities(
  graph: graph_lib.PipelineGraph, metric: str
) -> dict[str, Float[Array, "..."]]:
  """Per cent that a metric grows by with one per cent of each number.

  As `gradients`; comparable between numbers of different units.
  """
  value = getattr(performance.evaluate(graph), metric)
  numbers = parameters.read(parameters.as_floats(graph))
  slopes = gradients(graph, metric)
  return {path: slopes[path] * numbers[path] / value for path in slopes}


def _gradient(
  graph: graph_lib.PipelineGraph, metric: str
) -> graph_lib.PipelineGraph:
  return jax.grad(lambda x: getattr(performance.evaluate(x), metric))(graph)


class Optimum(NamedTuple):
  """What `optimise` finds.

  Attributes:
    values: the chosen numbers by path.
    graph: the graph with them.
    report: its report.
  """

  values: dict[str, float]
  graph: graph_lib.PipelineGraph
  report: performance.Report


def optimise(
  graph: graph_lib.PipelineGraph,
  over: Mapping[str, tuple[float | int, float | int]],
  *,
  maximise: str = "relevant_per_joule",
  at_most: Mapping[str, float] | None = None,
  at_least: Mapping[str, float] | None = None,
  starts: int = 8,
  seed: int = 0,
) -> Optimum:
  """The best numbers of a graph within ranges, under limits on metrics.

  Sequential quadratic programming (SciPy's SLSQP) with exact derivatives, in
  float64, from several starts: problems of this kind have few local optima,
  but more than one. A range of positive numbers is searched in its logarithm.

  Where the graph has no prevalence of its own, what is relevant depends on the
  product of reductions: hold `stored_rate` between limits when they are free.

  Args:
    graph: what is not searched.
    over: by path, the least and the most value of a number.
    maximise: a name of `performance.METRICS`.
    at_most: by metric, what it must not exceed: power in W, latency in s.
    at_least: by metric, what it must reach.
    starts: points to start from: the middle of the ranges, then random ones.
    seed: of the random ones.

  Returns:
    The best that meets all limits, each up to a millionth of itself.

  Raises:
    ValueError: if a metric or path is unknown, a range is empty or leaves what
      the number allows, there is no start, or no start led to numbers that
      meet all limits: the one that came nearest is told.
  """
  at_most, at_least = dict(at_most or {}), dict(at_least or {})
  for metric in (maximise, *at_most, *at_least):
    _require_metric(metric)
  if starts < 1:
    raise ValueError(f"starts must be at least 1, got {starts}")
  space = _Space(graph, over)
  with jax.enable_x64(True):
    problem = _Problem(graph, space, maximise, at_most, at_least)
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(starts, len(over)))
    points[0] = 0.5
    found = [problem.solve(point) for point in points]
    found += [(problem.worst_overrun(x), *problem.value(x), x) for x in points]
    meeting = [entry for entry in found if entry[0] <= _SLACK]
    if not meeting:
      raise ValueError(problem.explain(min(found, key=lambda x: x[0])[-1]))
    best = max(meeting, key=lambda entry: entry[1])[-1]
    values = {k: float(v) for k, v in space.values(best).items()}
    chosen = graph.updated(values)
    return Optimum(values, chosen, performance.evaluate(chosen))


class _Space:
  """Ranges of numbers as the unit cube."""

  def __init__(
    self,
    graph: graph_lib.PipelineGraph,
    over: Mapping[str, tuple[float | int, float | int]],
  ):
    known = parameters.read(graph)
    if not over:
      raise ValueError("expected at least one number to optimise over")
    for path, ends in over.items():
      _require_free(graph, known, path)
      parameters.check_values(path, np.asarray(ends))
      if not ends[0] < ends[1]:
        raise ValueError(f"{path}: the range {tuple(ends)} is empty")
    self.paths = tuple(over)
    self.low = np.asarray([over[path][0] for path in over], np.float64)
    self.high = np.asarray([over[path][1] for path in over], np.float64)
    self.positive = self.low > 0

  def values(self, point: Any) -> dict[str, jax.Array]:
    """Numbers by path at a point of the cube."""
    log_low = np.log(np.where(self.positive, self.low, 1.0))
    log_high = np.log(np.where(self.positive, self.high, 1.0))
    logs = jnp.exp(log_low + point * (log_high - log_low))
    plain = self.low + point * (self.high - self.low)
    column = jnp.where(jnp.asarray(self.positive), logs, plain)
    # Rounding must not leave the range.
    column = jnp.clip(column, self.low, self.high)
    return {path: column[i] for i, path in enumerate(self.paths)}


class _Problem:
  """A metric and its limits as SciPy takes them, each of size about one."""

  def __init__(
    self,
    graph: graph_lib.PipelineGraph,
    space: _Space,
    maximise: str,
    at_most: dict[str, float],
    at_least: dict[str, float],
  ):
    self._limits = [("at most", *item) for item in at_most.items()]
    self._limits += [("at least", *item) for item in at_least.items()]
    base = parameters.as_floats(graph)

    def figures(point: jax.Array) -> tuple[jax.Array, jax.Array]:
      report = performance.evaluate(
        parameters.replace(base, space.values(point))
      )
      room = [
        (
          limit - getattr(report, metric)
          if side == "at most"
          else getattr(report, metric) - limit
        )
        / (abs(limit) or 1.0)
        for side, metric, limit in self._limits
      ]
      return getattr(report, maximise), jnp.stack([jnp.ones(()), *room])

    self._figures = jax.jit(figures)
    self._slopes = jax.jit(jax.jacrev(figures))
    start = self.value(np.full(len(space.paths), 0.5))[0]
    self._size = abs(start) or 1.0

  def value(self, point: np.ndarray) -> tuple[float]:
    """The metric at a point."""
    return (float(self._figures(point)[0]),)

  def worst_overrun(self, point: np.ndarray) -> float:
    """By how much, as a share, the limit is overrun that is overrun most."""
    return -float(self._figures(point)[1].min())

  def solve(self, point: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Overrun, metric and place of where SLSQP ends from a start."""
    ended = optimize.minimize(
      lambda x: -float(self._figures(x)[0]) / self._size,
      point,
      jac=lambda x: -np.asarray(self._slopes(x)[0]) / self._size,
      method="SLSQP",
      bounds=[(0.0, 1.0)] * len(point),
      constraints={
        "type": "ineq",
        "fun": lambda x: np.asarray(self._figures(x)[1]),
        "jac": lambda x: np.asarray(self._slopes(x)[1]),
      },
      options={"maxiter": 200, "ftol": 1e-12},
    )
    place = np.clip(ended.x, 0.0, 1.0)
    return self.worst_overrun(place), *self.value(place), place

  def explain(self, point: np.ndarray) -> str:
    """Which limit the nearest point misses, and by how much."""
    room = np.asarray(self._figures(point)[1])[1:]
    side, metric, limit = self._limits[int(room.argmin())]
    sign = 1 if side == "at least" else -1
    reached = limit + sign * room.min() * (abs(limit) or 1.0)
    return (
      f"no numbers within the ranges were found that meet all limits: "
      f"{metric} must be {side} {limit:g}, and comes to {reached:g} at the "
      "point that comes nearest"
    )


def _require_free(
  graph: graph_lib.PipelineGraph, known: Mapping[str, Any], path: str
) -> None:
  """Raises ValueError if a path is unknown or its number must stay 1."""
  parameters.require(known, path)
  for stage in graph.stages:
    if path == f"{stage.name}.reduction" and not stage.active:
      raise ValueError(
        f"{path}: the stage passes everything; give it a classifier first"
      )


def _require_metric(metric: str) -> None:
  if metric not in performance.METRICS:
    raise ValueError(
      f"unknown metric {metric!r}; expected one of "
      f"{', '.join(performance.METRICS)}"
    )
