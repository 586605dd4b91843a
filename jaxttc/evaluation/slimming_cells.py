# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks trains, a cell at a time.

A cell is one trained model and what was measured of it: a folder with the train
loop's checkpoints, and a file `scores.npz` once it is done. A killed run
loses at most the steps since the last checkpoint.
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.evaluation import control, score_files, width_scores
from jaxttc.models import hypernetworks, slimmable
from jaxttc.tasks.multitask import base
from jaxttc.training import (
  loop,
  multitask_recipes,
  pareto,
  task_losses,
)
from jaxttc.training import slimmable as slimmable_training

_SAMPLES = 64  # configurations that the variance of features is taken over


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
class Hypernetwork:
  """A network of one width whose parameters follow the preference.

  Attributes:
    name: of the cell.
    kind: "ray" (PHN), "chunked" (CHN) or "norms" (PHN-BN).
    ratio: width of the target.
    learning_rate: peak of the schedule.
    search: "linear" for linear scalarisation, "exact" for EPO.
  """

  name: str
  kind: str
  ratio: float
  learning_rate: float
  search: str = "linear"


class Trainer:
  """Trains and measures cells of one recipe and seed."""

  def __init__(
    self,
    recipe: multitask_recipes.SlimmableRecipe,
    seed: int,
    folder: pathlib.Path,
    rays: np.ndarray,
  ):
    """Takes what all cells share.

    Args:
      recipe: data, network and length of training.
      seed: of data, parameters and all draws.
      folder: where cells lie.
      rays: f64[R, K], preferences that hypernetworks are asked for.
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
    self.test = jax.tree.map(lambda x: x[half:], both)

  def run(self, cell: Any) -> dict[str, np.ndarray]:
    """Trains a cell, or reads what was measured of it.

    Returns:
      Arrays by name; which, depends on the kind of cell.
    """
    file = self.folder / cell.name / "scores.npz"
    if file.exists():
      with np.load(file, allow_pickle=False) as found:
        return dict(found)
    measured = {
      Slimmable: self._slimmable,
      Static: self._static,
      Hypernetwork: self._hypernetwork,
    }[type(cell)](cell, str(file.parent))
    score_files.write(file, measured)
    return measured

  def _slimmable(self, cell: Slimmable, workdir: str):
    """Tables of all configurations' scores and costs; variance of features."""
    options = self.recipe.data_options | dict(cell.data_options)
    recipe = dataclasses.replace(
      self.recipe, sandwich=cell.sandwich, data_options=options
    )
    data = only(recipe.load_data(), cell.tasks)
    network = recipe.spec(data).build()
    params = self._fit(
      slimmable_training.objective(network, data.tasks, cell.sandwich),
      lambda key: slimmable.init(network, key),
      data,
      workdir,
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
    def features(indices):
      counts = space.counts_at(indices)
      found = network.apply({"params": params}, inputs, counts, True)[1]
      return found.reshape(len(found), -1)

    full = features(jnp.full(len(space.groups), len(space.menu) - 1))
    found = [np.asarray(features(jnp.asarray(row))) for row in drawn]
    return np.float64(control.configuration_variance(found, np.asarray(full)))

  def _static(self, cell: Static, workdir: str):
    """Scores f64[K], and cost."""
    network, cost = self._narrow(cell.ratio)
    alone = slimmable_training.Sandwich(widths=1, smallest=False)
    params = self._fit(
      slimmable_training.objective(network, self.data.tasks, alone),
      lambda key: slimmable.init(network, key),
      self.data,
      workdir,
    )
    top = np.zeros((1, len(network.space.groups)), np.int32)
    found = width_scores.measure(
      network, params, self.data.tasks, self.test, top
    )
    return {"test": found[0], "cost": cost}

  def _hypernetwork(self, cell: Hypernetwork, workdir: str):
    """Scores f64[R, K] on the rays, and the target's cost."""
    network, cost = self._narrow(cell.ratio)
    tasks = self.data.tasks
    counts = network.space.counts(network.space.uniform())
    initial = functools.partial(slimmable.init, network)
    module = hypernetwork_module(cell.kind, initial)
    rays = jnp.asarray(self.rays, jnp.float32)

    def predict(params, ray, inputs):
      run = lambda p, x: network.apply(  # noqa: E731
        {"params": p}, x, counts, True
      )
      return hypernetworks.apply(module, run, params, ray, inputs)[0]

    def losses(params, ray, batch: base.Examples, key):
      del key
      found = predict(params, ray, batch.inputs)
      return jnp.stack(
        [
          t.weight * task_losses.loss(t, found[t.name], batch.labels[t.name])
          for t in tasks
        ]
      )

    train = dataclasses.replace(
      self.recipe.train, learning_rate=cell.learning_rate
    )
    search = {"linear": pareto.linear, "exact": pareto.exact}[cell.search]
    params = self._fit(
      search(losses, len(tasks)),
      lambda key: module.init(key, rays[0])["params"],
      self.data,
      workdir,
      train=train,
      exact=cell.search == "exact",
    )

    @jax.jit
    def scores(params):
      def one(ray):
        found = predict(params, ray, self.test.inputs)
        return jnp.stack(
          [
            width_scores.score(t, found[t.name], self.test.labels[t.name])
            for t in tasks
          ]
        )

      return jax.lax.map(one, rays)

    return {"test": np.asarray(scores(params), np.float64), "cost": cost}

  def _narrow(self, ratio: float):
    """A network of its own that is as wide as a uniform configuration."""
    spec = self.recipe.spec(self.data)
    space = spec.build().space
    small = spec.at(space.uniform(ratio)).build()
    costs = slimmable.tabulate(
      small, np.zeros((1, len(small.space.groups)), np.int32)
    )
    return small, costs.macs[0]

  def _fit(
    self,
    objective: Callable,
    init: Callable[[jax.Array], Any],
    data: Any,
    workdir: str,
    *,
    train: loop.TrainConfig | None = None,
    exact: bool = False,
  ) -> Any:
    train = train or self.recipe.train
    state = loop.fit(
      train,
      objective,
      init,
      multitask_recipes.batches(data, train.batch_size, train.seed),
      workdir,
      meta=self.recipe.describe() | {"cell": pathlib.Path(workdir).name},
      **({"gradients": objective} if exact else {}),
    )
    return state.params


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
  leaves, _ = hypernetworks.leaves_of(initial)
  if any(hypernetworks.is_norm(leaf.path) for leaf in leaves):
    return hypernetworks.NormHypernetwork(initial)
  last = {}  # layer of each part that predicts, and has no features
  for leaf in leaves:
    part, layer, _ = leaf.path.split("/")
    if part != "encoder":
      last[part] = max(last.get(part, layer), layer)

  def hidden(path: str) -> bool:
    part, layer, _ = path.split("/")
    return last.get(part) != layer

  return hypernetworks.NormHypernetwork(initial, hidden)


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
