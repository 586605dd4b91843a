# SPDX-License-Identifier: Apache-2.0
"""The dials of a trained slimmable network: budget and preference.

    slimmer = Slimmer("scenes.safetensors")
    plan = slimmer.plan(0.5, {"segmentation": 2, "depth": 1, ..})
    slimmer.export(plan.config, "small.safetensors")

What takes time is measured once and kept beside the network: scores of all
widths on the calibration data of its recipe (FILE.scores.npz), and, for budgets
of latency, how long they take on this machine (FILE.latency.json).
"""

from collections.abc import Callable, Mapping
import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import width_planner, width_prices
from jaxttc.cost import hardware as hardware_lib
from jaxttc.evaluation import score_files
from jaxttc.inference import compiled_widths, width_latency
from jaxttc.models import slimmable
from jaxttc.tasks.multitask import registry
from jaxttc.training import slimmable_files

_NEEDS_STATISTICS = ("batch", "switchable")
_TOLERANCE = 1e-4  # of predictions read back, in units of their spread
_WEIGHTS = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)  # of a trade-off
_BUDGETS = tuple(i / 10 for i in range(1, 11))


class Exported(NamedTuple):
  """A sub-network that was written.

  Attributes:
    size: of its file, in bytes.
    full_size: of the slimmable network's file, in bytes.
    difference: largest between a prediction of the file, read back, and of
      the slimmable network at these widths, in units of the latter's spread.
  """

  size: int
  full_size: int
  difference: float


class TradeOff(NamedTuple):
  """Expected scores as both dials turn, a task at a time.

  Attributes:
    tasks: their names.
    weights: f64[W], preference for a task; all others share what is left.
    budgets: f64[B], shares of the full network's multiply-adds.
    scores: f64[K, W, B].
  """

  tasks: tuple[str, ...]
  weights: np.ndarray
  budgets: np.ndarray
  scores: np.ndarray


class Slimmer:
  """One trained network, and what each of its widths costs and scores."""

  def __init__(
    self,
    path: str,
    *,
    batch: int = 32,
    hardware: str | None = None,
    say: Callable[[str], None] = lambda line: None,
  ):
    """Reads a network.

    Args:
      path: what `scripts/train.py --export` wrote.
      batch: examples a call, of all latencies.
      hardware: name of the chip that budgets of joules are for.
      say: takes a line whenever something is measured, or not believed.

    Raises:
      ValueError: if the file, its recipe, the hardware or the batch cannot be.
    """
    if batch < 1:
      raise ValueError(f"batch must be at least 1, got {batch}")
    chip = None if hardware is None else hardware_lib.lookup(hardware)
    self._has_hardware = chip is not None
    self.path = path
    self.batch = batch
    self.stored = slimmable_files.load(path)
    self.params = jax.tree.map(jnp.asarray, self.stored.params)
    self.network = self.stored.spec.build()
    self.space = self.network.space
    self._say = say
    self._data = _data_of(path, self.stored, self.space)
    self._compiled = compiled_widths.CompiledWidths(
      self.network, self.params, statistics=self._statistics
    )
    self.prices = width_prices.WidthPrices(
      self.network, latency_ms=self._table_ms, hardware=chip
    )

  @functools.cached_property
  def calibration(self) -> Any:
    """Examples that scores are measured on; training never draws them."""
    return self._data.held_out(self._held_out)

  @functools.cached_property
  def scores(self) -> score_files.Scores:
    """Scores of all widths: read, or measured now."""
    recipe = self.stored.recipe
    path = f"{self.path}.scores.npz"
    if not os.path.exists(path):
      self._say(f"measuring scores on {self._held_out:,} examples")
    found = score_files.load_or_measure(
      path,
      self.network,
      self.params,
      self._data.tasks,
      lambda: self.calibration,
      {
        "data": recipe["data"],
        "options": recipe.get("data_options", {}),
        "examples": self._held_out,
      },
    )
    if found.note:
      self._say(found.note)
    return found

  def plan(
    self,
    budget: float,
    preference: Mapping[str, float] | None = None,
    *,
    unit: str = "fraction",
    rule: str = "two_level",
    search: str = "exhaustive",
  ) -> width_planner.Plan:
    """Widths for a budget and preference; all tasks alike if there is none.

    Raises:
      ValueError: as `width_planner.plan`.
    """
    space = self.space
    preference = preference or dict.fromkeys(space.tasks, 1.0)
    width_prices.check_budget(budget, unit)  # before anything is measured
    width_planner.preference_vector(space.tasks, preference)
    if unit == "joules" and not self._has_hardware:
      raise ValueError(
        "a budget of joules needs hardware, one of "
        f"{', '.join(hardware_lib.names())}"
      )
    return width_planner.plan(
      space,
      preference,
      budget,
      self.prices,
      self.scores.predict,
      unit=unit,
      rule=rule,
      search=search,
    )

  def latency_ms(self, config: slimmable.WidthConfig) -> float:
    """Median wall time of a batch through `CompiledWidths`, measured now.

    Raises:
      UnknownWidth: if the network is not trained at this width.
    """
    return width_latency.median_ms(
      self._compiled, self.network, config, self.batch
    )

  def export(self, config: slimmable.WidthConfig, path: str) -> Exported:
    """Writes a configuration alone, as a network of its own, and reads it back.

    Raises:
      ValueError: if it would overwrite the network, cannot be written, or
        predicts something else when it is read back.
    """
    if os.path.exists(path) and os.path.samefile(path, self.path):
      raise ValueError(f"{path}: is the network itself; export elsewhere")
    spec, params = slimmable.extract(self.stored.spec, self.params, config)
    recipe = self.stored.recipe | {"widths": config.to_dict()}
    slimmable_files.save(path, spec, params, recipe, self._statistics(config))
    read = slimmable_files.load(path)
    inputs = self.calibration.inputs[: self.batch]
    ours = _predict(self.network, self.params, inputs, config)
    small = read.spec.build()
    theirs = _predict(small, read.params, inputs, small.space.uniform())
    difference = max(
      float(np.abs(theirs[task] - ours[task]).max())
      / max(float(ours[task].std()), 1e-12)
      for task in self.space.tasks
    )
    if not difference <= _TOLERANCE:
      raise ValueError(
        f"{path}: read back, predictions differ by {difference:.2g} of their "
        "spread"
      )
    size, full = os.path.getsize(path), os.path.getsize(self.path)
    return Exported(size, full, difference)

  def trade_off(
    self, *, rule: str = "two_level", search: str = "exhaustive"
  ) -> TradeOff:
    """Expected scores of plans over budgets and preferences.

    Raises:
      ValueError: as `width_planner.plan`.
    """
    tasks = self.space.tasks
    least = float(self.prices(self.prices.ends["low"], "fraction")[0])
    budgets = [least, *(b for b in _BUDGETS if b > least + 0.02)]
    scores = np.zeros((len(tasks), len(_WEIGHTS), len(budgets)))
    for t, task in enumerate(tasks):
      for w, weight in enumerate(_WEIGHTS):
        if len(tasks) > 1:
          rest = (1 - weight) / (len(tasks) - 1)
          preference = dict.fromkeys(tasks, rest) | {task: weight}
        else:
          preference = {task: 1.0}
        for b, budget in enumerate(budgets):
          plan = self.plan(budget, preference, rule=rule, search=search)
          scores[t, w, b] = plan.scores[task]
    return TradeOff(tasks, np.array(_WEIGHTS), np.array(budgets), scores)

  def _table_ms(self, indices: np.ndarray) -> np.ndarray:
    return self._latencies(indices)

  @functools.cached_property
  def _latencies(self) -> width_latency.LatencyTable:
    """Latencies of all widths: read, or measured now."""
    path, spec = f"{self.path}.latency.json", self.stored.spec
    if os.path.exists(path):
      try:
        return width_latency.load(path, spec, self.batch)
      except ValueError as error:
        self._say(f"{error}; measured again")
    self._say(
      f"measuring latencies of {width_latency.programs(self.space):,} programs"
    )
    found = width_latency.measure(
      spec, self.params, batch=self.batch, statistics=self._statistics
    )
    try:
      width_latency.save(path, found, spec)
    except ValueError as error:
      self._say(str(error))
    return found

  @property
  def _held_out(self) -> int:
    return int(self.stored.recipe.get("held_out", 512))

  def _statistics(self, config: slimmable.WidthConfig) -> dict[str, Any]:
    """Statistics of batch norms at a configuration, if there are any."""
    if self.stored.spec.norm not in _NEEDS_STATISTICS:
      return {}
    found = slimmable.recalibrate(
      self.network, self.params, config, self.calibration.inputs[None]
    )
    return {"batch_stats": found["batch_stats"]}


def parse_preference(text: str) -> dict[str, float]:
  """Reads "seg:0.7,depth:0.3"; empty text is no preference.

  Raises:
    ValueError: naming the part that is not TASK:NUMBER, or comes twice.
  """
  found: dict[str, float] = {}
  for part in filter(None, (part.strip() for part in text.split(","))):
    task, colon, number = part.rpartition(":")
    try:
      value = float(number)
    except ValueError:
      colon = ""
    if not colon or not task:
      raise ValueError(
        f"preference {part!r} is not TASK:NUMBER, as in seg:0.7,depth:0.3"
      )
    if task in found:
      raise ValueError(f"preference names {task!r} twice")
    found[task] = value
  return found


def _data_of(path, stored, space):
  """The data set that a stored network was trained on.

  Raises:
    ValueError: naming the file, if it does not say, or they do not fit.
  """
  recipe = stored.recipe
  if not isinstance(recipe, dict) or "data" not in recipe:
    raise ValueError(
      f"{path}: does not say what data it was trained on; export it with "
      "scripts/train.py --config=configs/slimmable_*.py"
    )
  try:
    data = registry.load(recipe["data"], recipe.get("data_options", {}))
  except (ValueError, TypeError) as error:
    raise ValueError(f"{path}: {error}") from None
  found = tuple(task.name for task in data.tasks)
  if found != space.tasks:
    raise ValueError(
      f"{path}: predicts {', '.join(space.tasks)}, but data "
      f"{recipe['data']!r} have {', '.join(found)}"
    )
  return data


def _predict(network, params, inputs, config):
  """Predictions by task, on the host; batch norms use the batch's own mean."""
  counts = network.space.counts(config)
  run = jax.jit(
    lambda params, inputs: network.apply(
      {"params": params}, inputs, counts, train=True
    )[0]
  )
  return jax.tree.map(np.asarray, run(params, inputs))
