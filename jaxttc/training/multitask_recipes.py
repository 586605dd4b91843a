# SPDX-License-Identifier: Apache-2.0
"""Recipes of slimmable multi-task networks."""

import dataclasses
from typing import Any

import jax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.models import slimmable as slimmable_lib
from jaxttc.tasks.multitask import registry
from jaxttc.training import (
  distillation_teacher,
  loop,
  recipe_parts,
  slimmable,
  slimmable_files,
  task_weighting,
)


@dataclasses.dataclass(kw_only=True)
class SlimmableRecipe:
  """Trains one network at all its widths.

  Attributes:
    data: name of a data set, of `registry.NAMES` or registered, or
      "module:function" of one of your own.
    data_options: what its constructor takes.
    encoder: the encoder's fields and "kind"; see `NetworkSpec`.
    hidden: channels of every decoder at full width.
    menu: ratios to train at, ascending, 1 the last.
    norm: kind of norm, of `slimmable.norms.KINDS`.
    quantum: channels that all widths are multiples of.
    pooled: whether tasks with one prediction an example see the mean over all
      places of an image's features, or each place by itself.
    atrous: rates of the windows that decoders of every pixel look through, as
      in DeepLab; empty for plain convolutions.
    sandwich: the widths of a step, and what narrow ones learn from.
    teacher: file of a network that was trained before, of the same shape, for
      `sandwich.teacher="frozen"`.
    weighting: how losses of tasks become one gradient, of
      `task_weighting.METHODS`; "uniform" takes the tasks' own weights.
    held_out: test examples of each evaluation.
    train: length, rate and bookkeeping of the run.
  """

  data: str
  data_options: dict[str, Any] = dataclasses.field(default_factory=dict)
  encoder: dict[str, Any]
  hidden: int = 64
  menu: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
  norm: str = "group"
  quantum: int = 8
  pooled: bool = True
  atrous: tuple[int, ...] = ()
  sandwich: slimmable.Sandwich = dataclasses.field(
    default_factory=slimmable.Sandwich
  )
  teacher: str | None = None
  weighting: str = "uniform"
  held_out: int = 512
  train: loop.TrainConfig

  def load_data(self):
    """The data set.

    Raises:
      ValueError: if it is unknown, or an option of it is.
    """
    registry.resolve(self.data)
    return registry.load(self.data, self.data_options)

  def spec(self, data) -> slimmable_lib.NetworkSpec:
    """The network that fits a data set."""
    return slimmable_lib.NetworkSpec(
      encoder=dict(self.encoder),
      tasks=tuple((task.name, task.outputs, task.dense) for task in data.tasks),
      input_shape=tuple(data.input_shape),
      hidden=self.hidden,
      menu=tuple(self.menu),
      norm=self.norm,
      quantum=self.quantum,
      pooled=self.pooled,
      atrous=tuple(self.atrous),
    )

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> Any:
    """Trains, and returns the parameters; a ledger gets what it takes.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.train.validate()
    if self.train.compute() != loop.TrainConfig().compute():
      raise ValueError("train.dtype and train.remat are for transformers")
    data = self.load_data()
    network = self.spec(data).build()
    tasks = [task.name for task in data.tasks]
    batches = registry.batches(
      data, self.data, self.train.batch_size, self.train.seed
    )
    objective = slimmable.objective(network, data.tasks, self.sandwich)
    gradients = None
    if self.weighting != "uniform":
      gradients = self._weighted(network, data, batches)
    taught = self._taught(data)
    held_out = data.held_out(self.held_out)
    figures = jax.jit(
      lambda params: objective(params, held_out, jax.random.key(0))[1]
    )

    def evaluate(params, step):
      del step
      return {f"held_out_{k}": v for k, v in figures(params).items()}

    state = loop.fit(
      self.train,
      objective if gradients is None else None,
      lambda key: task_weighting.init(
        slimmable.with_teacher(
          slimmable_lib.init(network, key), self.sandwich, taught
        ),
        self.weighting,
        tasks,
      ),
      batches,
      workdir,
      tx=slimmable.optimizer(self.train, self.sandwich),
      gradients=gradients,
      evaluate=evaluate,
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    beside = (task_weighting.PARAMS, distillation_teacher.PARAMS)
    return {k: v for k, v in state.params.items() if k not in beside}

  def _taught(self, data) -> Any:
    """Parameters of a frozen teacher; None if no file is named."""
    if self.teacher is None:
      return None
    stored = slimmable_files.load(self.teacher)
    spec = slimmable_lib.NetworkSpec.from_dict(self.spec(data).to_dict())
    if stored.spec != spec:
      raise ValueError(
        f"{self.teacher}: a teacher must be of the same network as the student"
      )
    return stored.params

  def _weighted(self, network, data, batches) -> loop.Gradients:
    """Gradients under the recipe's task weighting."""
    terms = slimmable.task_terms(network, data.tasks, self.sandwich)
    tasks = [task.name for task in data.tasks]

    def losses(params, batch, key):
      found, distance, metrics = terms(params, batch, key)
      named = {
        task.name: task.weight * loss
        for task, loss in zip(data.tasks, found, strict=True)
      }
      return named | {"distance": distance}, metrics

    initial = None
    if self.weighting == "grad_norm":
      key = jax.random.key(self.train.seed)
      start, _ = jax.jit(losses)(
        slimmable_lib.init(network, key), batches(0), key
      )
      initial = {task: float(start[task]) for task in tasks}
    return task_weighting.gradients(
      self.weighting,
      losses,
      tasks,
      shared=lambda path: path[0] == "encoder",
      initial_losses=initial,
    )

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("slimmable", self)

  def export(self, params: Any, path: str) -> None:
    """Writes the network, with this recipe, as one .safetensors file."""
    spec = self.spec(self.load_data())
    slimmable_files.save(path, spec, params, self.describe())
