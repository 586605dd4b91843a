# SPDX-License-Identifier: Apache-2.0
"""Training with and without a verifier, over horizons, data sizes and seeds.

A point of the study is a horizon H and a number of traces n. At every point
each method's dial is set on seeds of their own, all methods having equally many
settings to choose from; then it is measured on the seeds of the study. Methods
share their keys, so a gap is between like and like. A point is a file; a run
that is stopped, or killed, goes on with the next one.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich import progress as rich_progress

from jaxttc.evaluation import score_files
from jaxttc.studies import planted_methods
from jaxttc.tasks import planted
from jaxttc.training import trace_batches

_TUNING = 1_000_000  # first of the seeds that dials are set on


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is compared.

  Attributes:
    families: gammas and mixture (all equal if empty) of each base, by name.
    contextual: name of the family whose prompts differ; "" for none.
    vocab: tokens.
    length: tokens of the gold string.
    symbols: prompt symbols, where prompts differ.
    horizons: tokens of a trace, ascending.
    ratios: traces n over the horizon, ascending.
    ratio: the one at which horizons are compared.
    horizon: the one at which numbers of traces are compared.
    seeds: how many are measured.
    tuning_seeds: how many dials are set on.
    strengths: settings of cloning, in pseudo-traces.
    rates: settings of the policy gradient; at 30, one run in twenty is lost for
      good to a single step.
    radii: settings of reweighting, radii of chi-square balls.
    expert_kappa: radius of the ball whose best expert is cloned.
    kappa: radius at which anti-concentration is measured.
  """

  families: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]
  contextual: str = ""
  vocab: int = 12
  length: int = 4
  symbols: int = 8
  horizons: tuple[int, ...] = (8, 16, 32, 64, 128)
  ratios: tuple[int, ...] = (1, 2, 4, 8)
  ratio: int = 8
  horizon: int = 128
  seeds: int = 20
  tuning_seeds: int = 4
  strengths: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0)
  rates: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
  radii: tuple[float, ...] = (0.5, 2.0, 8.0, 32.0, 128.0)
  expert_kappa: float = 1.0
  kappa: float = 0.25

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    for name in ("horizons", "ratios"):
      found = list(getattr(self, name))
      if len(found) < 2 or found != sorted(set(found)) or found[0] < 1:
        raise ValueError(f"{name} must be positive and ascend, got {found}")
    for one, many in (("ratio", self.ratios), ("horizon", self.horizons)):
      if getattr(self, one) not in many:
        raise ValueError(f"{one}={getattr(self, one)} is not one of {many}")
    for name in ("seeds", "tuning_seeds"):
      if getattr(self, name) < 2:
        raise ValueError(
          f"{name} must be at least 2, got {getattr(self, name)}"
        )
    sizes = {len(self.strengths), len(self.rates), len(self.radii)}
    if len(sizes) != 1 or 0 in sizes:
      raise ValueError(
        "strengths, rates and radii must be equally many: every method gets as "
        "many settings to choose from"
      )
    for name in ("strengths", "rates", "radii"):
      if not min(getattr(self, name)) > 0:
        raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
    for name in ("expert_kappa", "kappa"):
      if not getattr(self, name) >= 0:
        raise ValueError(f"{name} must not be negative")
    if self.horizons[0] < self.length:
      raise ValueError(
        f"a horizon of {self.horizons[0]} has no gold string of {self.length} "
        "tokens"
      )
    if self.contextual and self.contextual not in self.families:
      raise ValueError(f"contextual={self.contextual!r} is no family")
    self.tasks()

  def tasks(self) -> dict[str, planted.PlantedSubsequence]:
    """The family of tasks behind each name."""
    return {
      name: planted.PlantedSubsequence(
        vocab=self.vocab,
        length=self.length,
        horizon=max(self.horizons),
        gammas=tuple(gammas),
        mixture=tuple(mixture),
        contextual=name == self.contextual,
        symbols=self.symbols,
      )
      for name, (gammas, mixture) in self.families.items()
    }

  def settings(self, dial: str) -> tuple[float, ...]:
    """The settings of a dial."""
    return {
      "strength": self.strengths,
      "rate": self.rates,
      "kappa": self.radii,
    }[dial]


class Point(NamedTuple):
  """What was measured at one horizon and number of traces.

  Attributes:
    reward: by method, mean bi-level reward J f64[families, seeds].
    accuracy: by method, share solved f64[families, seeds].
    setting: by method, the setting chosen f64[families].
    tuning: by method, mean J on the tuning seeds f64[families, settings].
  """

  reward: dict[str, np.ndarray]
  accuracy: dict[str, np.ndarray]
  setting: dict[str, np.ndarray]
  tuning: dict[str, np.ndarray]


def run(
  recipe: StudyRecipe, workdir: str, show: bool = True
) -> dict[tuple[int, int], Point]:
  """Measures all points, by horizon and ratio, those on file excepted.

  Args:
    recipe: the study.
    workdir: folder of the points' files.
    show: whether to draw a progress bar.

  Raises:
    ValueError: if the recipe cannot be, or a file is of another recipe.
  """
  recipe.validate()
  places = [(h, r) for h in recipe.horizons for r in recipe.ratios]
  bar = rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    rich_progress.TimeElapsedColumn(),
    disable=not show,
  )
  bench, found = _Bench(recipe), {}
  with bar:
    task = bar.add_task("points", total=sum(h * h * r for h, r in places))
    for horizon, ratio in places:
      path = pathlib.Path(workdir) / f"horizon_{horizon}_ratio_{ratio}.npz"
      found[horizon, ratio] = _kept(recipe, bench, path, horizon, ratio)
      bar.advance(task, horizon * horizon * ratio)
  return found


def _kept(recipe, bench, path, horizon, ratio) -> Point:
  """A point from its file, or measured and written."""
  described = json.dumps(_described(recipe), sort_keys=True)
  if path.exists():
    with np.load(path, allow_pickle=False) as held:
      arrays = dict(held)
    if str(arrays.pop("described", "")) != described:
      raise ValueError(
        f"{path}: was measured of another recipe; give another workdir, or "
        "remove it"
      )
    return Point(
      **{
        field: {
          name.split(".")[1]: array
          for name, array in arrays.items()
          if name.startswith(f"{field}.")
        }
        for field in Point._fields
      }
    )
  point = bench.point(horizon, ratio)
  arrays = {
    f"{field}.{name}": array
    for field in Point._fields
    for name, array in getattr(point, field).items()
  }
  score_files.write(path, arrays | {"described": np.array(described)})
  return point


def _described(recipe: StudyRecipe) -> dict[str, object]:
  """All that decides what a point measures."""
  fields = dataclasses.asdict(recipe)
  # Which points there are, and what is asked of them, changes none of them.
  for name in ("horizons", "ratios", "ratio", "horizon", "kappa"):
    del fields[name]
  return fields


class _Bench:
  """Instances and methods of a study, made once."""

  def __init__(self, recipe: StudyRecipe):
    self.recipe = recipe
    self.tasks = recipe.tasks()
    self.methods = planted_methods.methods(recipe.expert_kappa)
    # Families whose arrays have one shape share their lanes.
    alike: dict[tuple[int, bool], list[str]] = {}
    for name, task in self.tasks.items():
      alike.setdefault((task.rows, task.contextual), []).append(name)
    self.groups = list(alike.values())

  def point(self, horizon: int, ratio: int) -> Point:
    """Sets every method's dial, then measures it."""
    names = list(self.tasks)
    shape = (len(names), self.recipe.seeds)
    point = Point({}, {}, {}, {})
    for method_name, method in self.methods.items():
      settings = np.array(self.recipe.settings(method.dial))
      reward, accuracy = np.zeros(shape), np.zeros(shape)
      setting = np.zeros(len(names))
      tuning = np.zeros((len(names), len(settings)))
      for group in self.groups:
        rows = [names.index(name) for name in group]
        seeds = _TUNING + np.arange(self.recipe.tuning_seeds)
        tried = self._measure(
          method,
          group,
          seeds,
          np.tile(settings, (len(group), 1)),
          horizon,
          ratio,
        )
        tuning[rows] = tried.reward.mean(1)
        setting[rows] = settings[tuning[rows].argmax(1)]
        measured = self._measure(
          method,
          group,
          np.arange(self.recipe.seeds),
          setting[rows][:, None],
          horizon,
          ratio,
        )
        reward[rows] = measured.reward[:, :, 0]
        accuracy[rows] = measured.accuracy[:, :, 0]
      point.reward[method_name], point.accuracy[method_name] = reward, accuracy
      point.setting[method_name], point.tuning[method_name] = setting, tuning
    return point

  def _measure(
    self,
    method: planted_methods.Method,
    group: Sequence[str],
    seeds: np.ndarray,
    settings: np.ndarray,
    horizon: int,
    ratio: int,
  ):
    """Values [families, seeds, settings] at settings [families, settings]."""
    shape = (len(group), len(seeds), settings.shape[1])
    family, seed, place = (axis.ravel() for axis in np.indices(shape))
    traces = ratio * horizon
    instances, keys = self._lanes(tuple(group), tuple(seeds.tolist()))
    lanes = family * len(seeds) + seed
    found = planted_methods.compiled(method.measure)(
      jax.tree.map(lambda x: x[lanes], instances),
      keys[lanes],
      np.full(lanes.shape, traces, np.int32),
      np.full(lanes.shape, horizon, np.int32),
      settings[family, place].astype(np.float32),
      trace_batches.Bounds(np.int32(horizon), np.int32(traces)),
    )
    return jax.tree.map(
      lambda x: np.asarray(x, np.float64).reshape(shape), found
    )

  def _lanes(self, group: tuple[str, ...], seeds: tuple[int, ...]):
    """Instances and keys of families and seeds, stacked."""
    styles = max(len(task.gammas) for task in self.tasks.values())
    found = [_drawn(self.tasks[name], styles, seeds) for name in group]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _drawn(task, styles: int, seeds: tuple[int, ...]):
  """Instances of a family, and the keys of their training, one a seed."""

  def one(seed):
    task_key, key = jax.random.split(jax.random.key(seed))
    return task.draw(task_key, styles), key

  return jax.vmap(one)(jnp.array(seeds))
