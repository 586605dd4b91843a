# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks trains, a cell at a time.

A cell is one trained model and what was measured of it: a folder with the train
loop's checkpoints, and a file `scores.npz` once it is done. A killed run
loses at most the steps since the last checkpoint.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import pathlib
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxttc.evaluation import control, score_files, width_scores
from jaxttc.models import branching, hypernetworks, slimmable
from jaxttc.models.slimmable import layers
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
_ALIKE = 1e6  # concentration of preferences that are all alike
_APART = 1 << 20  # between the seeds of a training's parts: other batches
_LATER = {"teacher": None, "atrous": []}  # fields of recipes, and defaults


@dataclasses.dataclass(frozen=True)
class Slimmable:
  """A slimmable network.

  Attributes:
    name: of the cell.
    sandwich: how it is trained.
    tasks: names of the tasks it has decoders for; all if empty.
    data_options: what changes in the data it is trained on.
  """

  name: str
  sandwich: slimmable_training.Sandwich
  tasks: tuple[str, ...] = ()
  data_options: tuple[tuple[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Static:
  """A network of one width everywhere, trained by itself.

  Attributes:
    name: of the cell.
    ratio: its width.
  """

  name: str
  ratio: float


@dataclasses.dataclass(frozen=True)
class RivalTraining:
  """How a model is trained that is told the preference.

  Attributes:
    draws: preferences a step (and compute shares, of branching networks), each
      with the whole batch.
    share: learning rate of what generates, see `preference_models.optimizer`.
    alike: share of the steps, at the start, in which all tasks matter alike: an
      ordinary network's training, for tasks that take long to be learned at
      all. A schedule of the learning rate each, before and after.
  """

  draws: int = 1
  share: float = 1.0
  alike: float = 0.0

  def __post_init__(self) -> None:
    """Refuses shares that cannot be."""
    if not 0 <= self.alike < 1:
      raise ValueError(f"alike must be in [0, 1), got {self.alike}")


@dataclasses.dataclass(frozen=True)
class Hypernetwork:
  """A network of one width whose parameters follow the preference.

  Attributes:
    name: of the cell.
    kind: "ray" (PHN), "chunked" (CHN) or "norms" (PHN-BN).
    ratio: width of the target.
    learning_rate: peak of the schedule, of what the target has without any
      preference.
    search: "linear" for linear scalarisation, "exact" for EPO.
    training: how it is trained beyond that.
  """

  name: str
  kind: str
  ratio: float
  learning_rate: float
  search: str = "linear"
  training: RivalTraining = RivalTraining()


@dataclasses.dataclass(frozen=True)
class Branching:
  """A network whose branching follows preference and compute (CDMTA-lite).

  Attributes:
    name: of the cell.
    ratio: width of every stream.
    learning_rate: peak of the schedule, of the anchor.
    training: how it is trained beyond that.
  """

  name: str
  ratio: float
  learning_rate: float
  training: RivalTraining = RivalTraining()


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
    train = dataclasses.replace(recipe.train, seed=seed)
    options = dict(recipe.data_options)
    if recipe.data == "vectors":  # a seed is another teacher, too
      options["seed"] = seed
    self.recipe = dataclasses.replace(recipe, train=train, data_options=options)
    self.folder = folder
    self.rays = rays
    self.data = self.recipe.load_data()
    both = self.data.held_out(2 * recipe.held_out)
    half = recipe.held_out
    self.calibration = jax.tree.map(lambda x: x[:half], both)
    self.test = self.calibration
    if not tuning:
      self.test = jax.tree.map(lambda x: x[half:], both)

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
      Slimmable: self._slimmable,
      Static: self._static,
      Hypernetwork: self._hypernetwork,
      Branching: self._branching,
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

  def _slimmable(self, cell: Slimmable, workdir: str):
    """Scores of all configurations on both halves; variance of features."""
    options = self.recipe.data_options | dict(cell.data_options)
    recipe = dataclasses.replace(
      self.recipe, sandwich=cell.sandwich, data_options=options
    )
    data = only(recipe.load_data(), cell.tasks)
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

  def _static(self, cell: Static, workdir: str):
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

  def _hypernetwork(self, cell: Hypernetwork, workdir: str):
    """Scores f64[R, K] on the rays, and the target's cost."""
    network, cost = self._narrow(cell.ratio)
    counts = network.space.counts(network.space.uniform())
    initial = functools.partial(slimmable.init, network)
    build = functools.partial(
      preference_models.hypernetwork,
      hypernetwork_module(cell.kind, initial),
      lambda params, x: network.apply({"params": params}, x, counts, True)[0],
      self._losses,
      len(self.data.tasks),
      exact=cell.search == "exact",
    )
    model, params = self._fit_rival(build, cell, workdir)
    scores = self._scores(lambda ray, x: model.predict(params, ray, x))
    return {"test": scores(self.rays), "cost": cost}

  def _branching(self, cell: Branching, workdir: str):
    """Scores f64[shares R, K] on the rays, a compute share after the other.

    Costs are of the trees that were chosen.
    """
    network, _ = self._narrow(cell.ratio)
    anchor = branching.Anchor(
      tuple(_Stage(stage) for stage in network.encoder.split()),
      tuple(_Head(head) for _, head in network.decoders),
      tuple(task.name for task in self.data.tasks),
    )
    example = self.test.inputs[:1]
    initial = lambda key: branching.init(anchor, key, example)  # noqa: E731
    build = functools.partial(
      preference_models.branching,
      anchor,
      example,
      self._losses,
      follows=_modulated(initial),
    )
    model, params = self._fit_rival(build, cell, workdir)
    parts = branching.costs(
      anchor, jax.eval_shape(initial, jax.random.key(0)), example
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
    self, build: Callable, cell: Hypernetwork | Branching, workdir: str
  ) -> tuple[Any, Any]:
    """Trains what (draws=, concentration=) builds; the model, its parameters.

    Equal preferences are those of a Dirichlet distribution without spread.
    """
    how, whole = cell.training, self.recipe.train
    train = dataclasses.replace(whole, learning_rate=cell.learning_rate)
    first = round(how.alike * train.steps)
    model = build(draws=how.draws)
    if first:
      start = self._fit(
        build(draws=1, concentration=_ALIKE),
        self.data,
        str(pathlib.Path(workdir) / "alike"),
        dataclasses.replace(train, steps=first),
        preference_models.optimizer(
          dataclasses.replace(train, steps=first), how.share
        ),
      )
      model = model._replace(init=lambda key: start)
    train = dataclasses.replace(
      train, steps=train.steps - first, seed=train.seed + (first > 0) * _APART
    )
    tx = preference_models.optimizer(train, how.share)
    return model, self._fit(model, self.data, workdir, train, tx)

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
    draws = found["cell"][1].pop("draws", None)
    if draws is not None:
      how = dataclasses.asdict(RivalTraining(draws))
      found["cell"][1]["training"] = how
    for part in (found["recipe"], found["cell"][1]):
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


class _Stage(nn.Module):
  """A part of an encoder at its full width, from array to array."""

  encoder: nn.Module

  @nn.compact
  def __call__(self, x):
    counts = [group.channels for group in self.encoder.groups()]
    return self.encoder(layers.whole(x), counts, True).values


class _Head(nn.Module):
  """A decoder at its full width, from features to a prediction."""

  head: nn.Module

  @nn.compact
  def __call__(self, x):
    return self.head(layers.whole(x), self.head.hidden, True)


def hypernetwork_module(kind: str, initial: Callable) -> Any:
  """A hypernetwork for a target.

  Without norms, "norms" scales and shifts the features of hidden layers.

  Raises:
    ValueError: if the kind is unknown.
  """
  if kind == "ray":
    return hypernetworks.RayHypernetwork(initial)
  if kind == "chunked":
    return hypernetworks.ChunkedHypernetwork(initial)
  if kind != "norms":
    raise ValueError(f"hypernetwork {kind!r} is not ray, chunked or norms")
  return hypernetworks.NormHypernetwork(initial, _modulated(initial))


def _modulated(initial: Callable) -> Callable[[str], bool]:
  """Which parameters follow the preference, where only norms are to.

  Those of norms; without any, all of hidden layers.
  """
  leaves, _ = hypernetworks.leaves_of(initial)
  paths = [leaf.path for leaf in leaves]
  if any(map(hypernetworks.is_norm, paths)):
    return hypernetworks.is_norm
  layer_of = lambda path: path.rsplit("/", 1)[0]  # noqa: E731
  part_of = lambda path: layer_of(path).rsplit("/", 1)[0]  # noqa: E731
  last = {part_of(path): layer_of(path) for path in sorted(paths)}
  # The last layer of a decoder predicts: it has no features to modulate.
  outputs = {
    layer for part, layer in last.items() if re.search("decoder|head", part)
  }
  return lambda path: layer_of(path) not in outputs


def only(data, names):
  """A data set with some of its tasks; all if no names are given."""
  if not names:
    return data
  tasks = tuple(task for task in data.tasks if task.name in names)
  return _View(tasks, data.input_shape, data.sample)


@dataclasses.dataclass(frozen=True)
class _View:
  """Some of the tasks of a data set."""

  tasks: tuple[base.Task, ...]
  input_shape: tuple[int, ...]
  sample: Callable
