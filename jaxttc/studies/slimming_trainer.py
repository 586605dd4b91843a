# SPDX-License-Identifier: Apache-2.0
"""Trains and measures the cells of a study of slimmable networks.

A cell has a folder with the train loop's checkpoints, and a file `scores.npz`
once it is done. A killed run loses at most the steps since the last checkpoint.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxttc.evaluation import control, score_files, width_scores
from jaxttc.models import branching, slimmable
from jaxttc.studies import slimming_cells, slimming_data, slimming_rivals
from jaxttc.tasks.multitask import base, registry
from jaxttc.training import (
  distillation_teacher,
  loop,
  multitask_recipes,
  preference_models,
  task_losses,
)
from jaxttc.training import slimmable as slimmable_training

_SAMPLES = 64  # configurations that the variance of features is taken over
_NO_MATTER = ("log_every", "evaluate_every", "checkpoint_every", "keep")
_APART = 1 << 20  # between the seeds of a training's parts: other batches
_LATER = {"teacher": None, "atrous": []}  # fields of recipes, and defaults


class Trainer:
  """Trains and measures cells of one recipe and seed."""

  def __init__(
    self,
    recipe: multitask_recipes.SlimmableRecipe,
    seed: int,
    folder: pathlib.Path,
    rays: np.ndarray,
    *,
    tuning: bool = False,
  ):
    """Takes what all cells share.

    Args:
      recipe: data, network and length of training.
      seed: of data, parameters and all draws.
      folder: where cells lie.
      rays: f64[R, K], preferences that hypernetworks are asked for.
      tuning: whether "test" is measured on calibration examples, so that
        settings can be chosen by it.
    """
    found = slimming_data.of_seed(recipe, seed)
    self.recipe, self.data, self.calibration, self.test = found
    if tuning:
      self.test = self.calibration
    self.folder = folder
    self.rays = rays

  def run(self, cell: Any) -> dict[str, np.ndarray]:
    """Trains a cell, or reads what was measured of it.

    Returns:
      Arrays by name; which, depends on the kind of cell.

    Raises:
      ValueError: if what was measured is of another recipe.
    """
    file = self.folder / cell.name / "scores.npz"
    described = self._described(cell)
    if file.exists():
      with np.load(file, allow_pickle=False) as found:
        measured = dict(found)
      if not same(str(measured.pop("described", "")), described):
        raise ValueError(
          f"{file}: was measured of another recipe; give another workdir, or "
          "remove its folder to train it anew"
        )
      return measured
    measured = {
      slimming_cells.Slimmable: self._slimmable,
      slimming_cells.Static: self._static,
      slimming_cells.Hypernetwork: self._hypernetwork,
      slimming_cells.Branching: self._branching,
    }[type(cell)](cell, str(file.parent))
    score_files.write(file, measured | {"described": np.array(described)})
    return measured

  def _described(self, cell: Any) -> str:
    """All that decides what is measured of a cell, as text."""
    return json.dumps(
      {
        "recipe": self.recipe.describe(),
        "cell": [type(cell).__name__, dataclasses.asdict(cell)],
        "rays": self.rays.tolist(),
      },
      sort_keys=True,
    )

  def _slimmable(self, cell: slimming_cells.Slimmable, workdir: str):
    """Scores of all configurations on both halves; variance of features."""
    options = self.recipe.data_options | dict(cell.data_options)
    recipe = dataclasses.replace(
      self.recipe, sandwich=cell.sandwich, data_options=options
    )
    data = slimming_data.only(recipe.load_data(), cell.tasks)
    network = recipe.spec(data).build()
    model = _Trainable(
      lambda key: slimmable_training.with_teacher(
        slimmable.init(network, key), cell.sandwich
      ),
      slimmable_training.objective(network, data.tasks, cell.sandwich),
    )
    params = distillation_teacher.student(
      self._fit(
        model,
        data,
        workdir,
        tx=slimmable_training.optimizer(self.recipe.train, cell.sandwich),
      )
    )
    return {
      name: width_scores.tabulate(network, params, data.tasks, examples).values
      for name, examples in (
        ("calibration", self.calibration),
        ("test", self.test),
      )
    } | {"variance": self._variance(network, params)}

  def _variance(self, network, params):
    space = network.space
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(space.menu), (_SAMPLES, len(space.groups)))
    inputs = self.test.inputs[:128]

    @jax.jit
    def features(indices, inputs):
      counts = space.counts_at(indices)
      found = network.apply({"params": params}, inputs, counts, True)[1]
      return slimmable_training.places(found)

    top = jnp.full(len(space.groups), len(space.menu) - 1)
    full = features(top, inputs)
    found = [np.asarray(features(jnp.asarray(row), inputs)) for row in drawn]
    return np.float64(control.configuration_variance(found, np.asarray(full)))

  def _static(self, cell: slimming_cells.Static, workdir: str):
    """Scores f64[K], and cost."""
    network, cost = self._narrow(cell.ratio)
    alone = slimmable_training.Sandwich(widths=1, smallest=False)
    model = _Trainable(
      functools.partial(slimmable.init, network),
      slimmable_training.objective(network, self.data.tasks, alone),
    )
    params = self._fit(model, self.data, workdir)
    top = np.zeros((1, len(network.space.groups)), np.int32)
    found = width_scores.measure(
      network, params, self.data.tasks, self.test, top
    )
    return {"test": found[0], "cost": cost}

  def _hypernetwork(self, cell: slimming_cells.Hypernetwork, workdir: str):
    """Scores f64[R, K] on the rays, and the target's cost."""
    network, cost = self._narrow(cell.ratio)
    rival = slimming_rivals.hypernetwork(cell, network, self._losses)
    model, params = self._fit_rival(rival, cell, workdir)
    scores = self._scores(lambda ray, x: model.predict(params, ray, x))
    return {"test": scores(self.rays), "cost": cost}

  def _branching(self, cell: slimming_cells.Branching, workdir: str):
    """Scores f64[shares R, K] on the rays, a compute share after the other.

    Costs are of the trees that were chosen.
    """
    network, _ = self._narrow(cell.ratio)
    anchor = slimming_rivals.anchor_of(network)
    example = self.test.inputs[:1]
    rival = slimming_rivals.branching_network(
      cell, anchor, example, self._losses
    )
    model, params = self._fit_rival(rival, cell, workdir)
    parts = branching.costs(
      anchor, jax.eval_shape(rival.initial, jax.random.key(0)), example
    )
    choose = jax.jit(lambda ray, share: model.choose(params, ray, share)[0])
    costs, found = [], []
    for share in np.linspace(1 / len(self.data.tasks), 1, 4, dtype=np.float32):
      scores = self._scores(
        lambda ray, x, share=share: model.predict(
          params, ray, jnp.float32(share), x
        )
      )
      found.append(scores(self.rays))
      costs += [
        branching.macs(parts, branching.tree_of(choose(ray, share)))
        for ray in self.rays.astype(np.float32)
      ]
    return {"test": np.concatenate(found), "cost": np.array(costs)}

  def _losses(self, predictions, batch: base.Examples) -> jax.Array:
    """Weighted losses f32[K]."""
    tasks = self.data.tasks
    weights = jnp.array([task.weight for task in tasks])
    return weights * task_losses.losses(tasks, predictions, batch.labels)

  def _scores(self, predict: Callable) -> Callable[[np.ndarray], np.ndarray]:
    """From (preference, inputs) -> predictions: rays -> test scores f64."""

    @jax.jit  # examples are no constants, which XLA would fold into layers
    def run(rays, examples):
      def one(ray):
        found = predict(ray, examples.inputs)
        return width_scores.scores(self.data.tasks, found, examples.labels)

      return jax.lax.map(one, rays)

    return lambda rays: np.asarray(
      run(jnp.asarray(rays, jnp.float32), self.test), np.float64
    )

  def _narrow(self, ratio: float):
    """A network of its own that is as wide as a uniform configuration."""
    spec = self.recipe.spec(self.data)
    space = spec.build().space
    small = spec.at(space.uniform(ratio)).build()
    costs = slimmable.tabulate(
      small, np.zeros((1, len(small.space.groups)), np.int32)
    )
    return small, costs.macs[0]

  def _fit_rival(
    self,
    rival: slimming_rivals.Rival,
    cell: slimming_cells.Hypernetwork | slimming_cells.Branching,
    workdir: str,
  ) -> tuple[Any, Any]:
    """Trains a rival; the model, and its parameters."""
    how, train = cell.training, self.recipe.train
    initial, (first, then) = rival.initial, how.steps(train.steps)
    if first:
      start = rival.spread(self._target(rival, cell, first))
      initial = lambda key: start  # noqa: E731
    train = dataclasses.replace(
      train,
      steps=then,
      learning_rate=cell.learning_rate,
      seed=train.seed + (first > 0) * _APART,
    )
    model = rival.build(initial, how.draws)
    tx = preference_models.optimizer(train, how.share)
    return model, self._fit(model, self.data, workdir, train, tx)

  def _target(self, rival: slimming_rivals.Rival, cell: Any, steps: int) -> Any:
    """Parameters of a target alone, trained at the recipe's learning rate.

    All hypernetworks of a width start from the same ones.
    """
    equal = (1.0,) * len(self.data.tasks)
    kind = type(cell).__name__.lower()
    return self._fit(
      preference_models.static(
        rival.initial, rival.forward, self._losses, equal
      ),
      self.data,
      str(self.folder / f"start_{kind}_{cell.ratio:g}_{steps}"),
      dataclasses.replace(self.recipe.train, steps=steps),
    )

  def _fit(
    self,
    model: Any,
    data: Any,
    workdir: str,
    train: loop.TrainConfig | None = None,
    tx: optax.GradientTransformation | None = None,
  ) -> Any:
    """Trains what has `init`, `objective` and perhaps `gradients`."""
    train = train or self.recipe.train
    gradients = getattr(model, "gradients", None)
    state = loop.fit(
      train,
      None if gradients else model.objective,
      model.init,
      registry.batches(data, self.recipe.data, train.batch_size, train.seed),
      workdir,
      tx=tx,
      gradients=gradients,
      meta=self.recipe.describe() | {"cell": pathlib.Path(workdir).name},
    )
    return state.params


def same(then: str, now: str) -> bool:
  """Whether two descriptions say the same, of fields that both could have.

  Fields that came after one was written have their defaults in it.
  """

  def completed(text):
    found = loop.completed(json.loads(text))
    cell = found["cell"][1]
    draws = cell.pop("draws", None)
    if draws is not None:
      cell["training"] = {"draws": draws}
    if "training" in cell:
      default = dataclasses.asdict(slimming_cells.RivalTraining())
      cell["training"] = default | cell["training"]
    for part in (found["recipe"], cell):
      if "sandwich" in part:
        default = dataclasses.asdict(slimmable_training.Sandwich())
        part["sandwich"] = default | part["sandwich"]
    found["recipe"] = _LATER | found["recipe"]
    for setting in _NO_MATTER:
      found["recipe"]["train"].pop(setting, None)
    return found

  try:
    return completed(then) == completed(now)
  except (KeyError, TypeError, ValueError):  # it describes nothing
    return False


class _Trainable(NamedTuple):
  """What `Trainer._fit` takes."""

  init: Callable[[jax.Array], Any]
  objective: Callable
