# SPDX-License-Identifier: Apache-2.0
"""The tidy table of an experiment, and its summary with intervals.

A *table* is a list of `Run`s: one method, at one setting, under one budget,
with one seed, on the same problems in the same order as every other run. All
questions are asked of the whole table at once, so that intervals resample the
same problems (and seeds) for every method.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib

from jaxtyping import Float, Int
import numpy as np

from jaxttc.evaluation import statistics as statistics_lib


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
  """One method at one setting, on all problems, with one seed.

  Attributes:
    method: name of the method, e.g. "astar".
    setting: its configuration in words, e.g. "k=4"; may be empty.
    budget: the limit it ran under, in the unit of the experiment; >= 0.
    seed: the seed.
    accuracy: f64[N] in [0, 1], 1 where the problem was solved.
    cost: what each problem cost, f64[N] >= 0, by name of the cost field.
    seen: what each search showed of its answer, f64[N], by name (`looks`); NaN
      where it was not kept.
  """

  method: str
  setting: str
  budget: int | float
  seed: int
  accuracy: np.ndarray
  cost: Mapping[str, np.ndarray]
  seen: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    where = f"run {self.method!r} {self.setting!r} seed {self.seed}"
    accuracy = np.asarray(self.accuracy, np.float64)
    if accuracy.ndim != 1 or not accuracy.size:
      raise ValueError(
        f"{where}: accuracy must be a vector over problems, got shape "
        f"{accuracy.shape}"
      )
    if not ((accuracy >= 0) & (accuracy <= 1)).all():
      raise ValueError(f"{where}: accuracy must lie in [0, 1]")
    if not self.budget >= 0:
      raise ValueError(f"{where}: budget must be >= 0, got {self.budget}")
    cost = {k: np.asarray(v, np.float64) for k, v in self.cost.items()}
    for name, values in cost.items():
      if values.shape != accuracy.shape:
        raise ValueError(
          f"{where}: cost {name!r} has shape {values.shape}, but accuracy "
          f"has {accuracy.shape}"
        )
      if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"{where}: cost {name!r} must be finite and >= 0")
    object.__setattr__(self, "accuracy", accuracy)
    object.__setattr__(self, "cost", cost)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A method at one setting and budget: its place in the picture.

  Attributes:
    method: name of the method.
    setting: its configuration in words.
    budget: the limit it ran under.
    problems: problems behind the figures.
    seeds: seeds behind the figures.
    level: confidence level of the intervals.
    accuracy: mean accuracy over problems and seeds, in [0, 1].
    low: lower end of its interval.
    high: upper end of its interval.
    cost: mean cost of a problem, with its interval, by cost field.
  """

  method: str
  setting: str
  budget: int | float
  problems: int
  seeds: int
  level: float
  accuracy: float
  low: float
  high: float
  cost: Mapping[str, statistics_lib.Interval]


@dataclasses.dataclass(frozen=True)
class Draws:
  """Points of a table, with their means in every resample.

  Attributes:
    keys: (method, setting, budget) of each of P points.
    accuracy: f64[1 + R, P]; row 0 is the data, the others are resamples.
    cost: f64[1 + R, P] by cost field.
    seeds: i64[P].
    problems: problems of the table.
  """

  keys: list[tuple[str, str, float]]
  accuracy: np.ndarray
  cost: dict[str, np.ndarray]
  seeds: list[int]
  problems: int

  def of(self, method: str) -> np.ndarray:
    """Indices of a method's points."""
    names = [key[0] for key in self.keys]
    if method not in names:
      raise ValueError(unknown_name("method", method, set(names)))
    return np.array([i for i, name in enumerate(names) if name == method])

  def field(self, name: str) -> np.ndarray:
    """The means of one cost field."""
    if name not in self.cost:
      raise ValueError(unknown_name("cost field", name, set(self.cost)))
    return self.cost[name]


def summarise(
  table: Sequence[Run],
  *,
  resamples: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> list[Point]:
  """Means and intervals of every (method, setting, budget) of a table.

  Intervals resample problems and seeds together. Where every problem was
  solved, or none, resampling cannot tell how sure that is; the accuracy's
  interval is then Wilson's, over problems.

  Args:
    table: the runs.
    resamples: bootstrap resamples.
    level: confidence level, in (0, 1).
    seed: seed of the bootstrap.

  Returns:
    One point each, in order of method, setting and budget.

  Raises:
    ValueError: if the table is empty, its runs disagree in problems or cost
      fields, or a run occurs twice.
  """
  draws = resample(table, resamples, seed)
  points = []
  for i, (method, setting, budget) in enumerate(draws.keys):
    accuracy = interval(draws.accuracy[:, i], level)
    if accuracy.value in (0.0, 1.0):
      solved = accuracy.value * draws.problems
      accuracy = statistics_lib.wilson_interval(solved, draws.problems, level)
    points.append(
      Point(
        method=method,
        setting=setting,
        budget=budget,
        problems=draws.problems,
        seeds=draws.seeds[i],
        level=level,
        accuracy=accuracy.value,
        low=accuracy.low,
        high=accuracy.high,
        cost={k: interval(v[:, i], level) for k, v in draws.cost.items()},
      )
    )
  return points


def tidy(points: Sequence[Point]) -> list[dict[str, object]]:
  """Points as flat rows, for a results file.

  A cost field `x` becomes the columns `x`, `x_low` and `x_high`.
  """
  rows = []
  for point in points:
    row = dataclasses.asdict(point)
    for name, cost in row.pop("cost").items():
      row[name], row[f"{name}_low"], row[f"{name}_high"] = cost
    rows.append(row)
  return rows


def resample(table: Sequence[Run], resamples: int, seed: int) -> Draws:
  """Means of every point in the data and in every resample.

  One draw of problems serves all points. Points with the same seeds share one
  draw of seeds, since runs with the same seed share their randomness.

  Args:
    table: the runs.
    resamples: bootstrap resamples R, at least 1.
    seed: seed of the bootstrap.

  Returns:
    The means, in order of method, setting and budget.

  Raises:
    ValueError: if the table is empty, its runs disagree in problems or cost
      fields, or a run occurs twice.
  """
  groups = _grouped(table)
  rng = np.random.default_rng(seed)
  problems = len(table[0].accuracy)
  problem_counts = _with_data(problems, resamples, rng)
  fields = list(table[0].cost)
  seed_counts: dict[tuple[int, ...], np.ndarray] = {}
  accuracy, cost = [], {name: [] for name in fields}
  for runs in groups.values():
    seeds = tuple(run.seed for run in runs)
    if seeds not in seed_counts:
      seed_counts[seeds] = _with_data(len(seeds), resamples, rng)
    counts = seed_counts[seeds], problem_counts
    values = np.stack([run.accuracy for run in runs])
    accuracy.append(statistics_lib.crossed_means(values, *counts))
    for name in fields:
      values = np.stack([run.cost[name] for run in runs])
      cost[name].append(statistics_lib.crossed_means(values, *counts))
  return Draws(
    keys=list(groups),
    accuracy=np.stack(accuracy, axis=1),
    cost={name: np.stack(rows, axis=1) for name, rows in cost.items()},
    seeds=[len(runs) for runs in groups.values()],
    problems=problems,
  )


def _with_data(
  size: int, resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "R1 N"]:
  """Resample counts under a first row of ones: the data themselves."""
  counts = statistics_lib.resample_counts(size, resamples, rng)
  return np.concatenate([np.ones((1, size), counts.dtype), counts])


def _grouped(
  table: Sequence[Run],
) -> dict[tuple[str, str, float], list[Run]]:
  """Runs by (method, setting, budget), in order of seed, after checks."""
  if not table:
    raise ValueError("the table of runs is empty")
  groups: dict[tuple[str, str, float], list[Run]] = {}
  first = table[0]
  for run in sorted(
    table, key=lambda r: (r.method, r.setting, r.budget, r.seed)
  ):
    where = f"run {run.method!r} {run.setting!r} seed {run.seed}"
    if run.accuracy.shape != first.accuracy.shape:
      raise ValueError(
        f"{where}: {len(run.accuracy)} problems, but the table's first run "
        f"has {len(first.accuracy)}"
      )
    if set(run.cost) != set(first.cost):
      raise ValueError(
        f"{where}: cost fields {sorted(run.cost)}, but the table's first run "
        f"has {sorted(first.cost)}"
      )
    group = groups.setdefault((run.method, run.setting, run.budget), [])
    if group and group[-1].seed == run.seed:
      raise ValueError(f"{where} at budget {run.budget} occurs twice")
    group.append(run)
  return groups


def unknown_name(kind: str, name: str, known: set[str]) -> str:
  """The message for a name that is not known, with the nearest that is."""
  near = difflib.get_close_matches(name, known, n=1)
  hint = f"; did you mean {near[0]!r}?" if near else ""
  return f"unknown {kind} {name!r}, expected one of {sorted(known)}{hint}"


def interval(
  draws: Float[np.ndarray, " R"], level: float
) -> statistics_lib.Interval:
  """The interval behind one column of `Draws`: its data, then its resamples."""
  return statistics_lib.percentile_interval(draws[0], draws[1:], level)
