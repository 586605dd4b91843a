# SPDX-License-Identifier: Apache-2.0
"""Recipes of post-training from files: demonstrations, pairs, rewards."""

import dataclasses
import pathlib
from typing import Any

import jax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import reward_model, transformer
from jaxttc.training import (
  language_model,
  loop,
  low_rank,
  preference_losses,
  preference_tuning,
  recipe_parts,
  tuning_batches,
  tuning_data,
)


@dataclasses.dataclass(kw_only=True)
class SupervisedRecipe:
  """Finetunes a language model on demonstrations, packed.

  Attributes:
    start: a language model's file or directory, or the name of one that ships.
    data: demonstrations.
    adapters: low-rank ones to train in place of the model; None for all of it.
    train: length, rate and bookkeeping of the run.
  """

  start: str = "arithmetic_lm"
  data: tuning_data.DataConfig
  adapters: low_rank.LowRankConfig | None = None
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters, adapters merged.

    Raises:
      ValueError: if the recipe cannot be, or a row of the file is not valid.
    """
    self.train.validate()
    policy = _language_model(self.start)
    train, held_out = tuning_data.demonstrations(
      self.data, policy, self.train.length
    )

    def batches(examples, seed):
      return tuning_batches.demonstration_batches(
        examples, self.train.batch_size, self.train.length, seed
      )

    seen = batches(train, self.train.seed)
    return _fit(
      self,
      policy,
      language_model.objective(_trained(policy, self.train)),
      seen,
      workdir,
      mesh,
      ledger,
      _all_of(batches(held_out, 0)) if held_out else (),
    )

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("supervised", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model: a file, or a directory if it began as one."""
    recipe_parts.export_tuned(self, params, path)


@dataclasses.dataclass(kw_only=True)
class PreferenceRecipe:
  """Tunes a language model on preference pairs, with its start as reference.

  Attributes:
    start: a language model's file or directory, or the name of one that ships.
    data: pairs.
    loss: which loss.
    adapters: low-rank ones to train in place of the model; None for all of it.
    train: length, rate and bookkeeping of the run; a row is an answer, and a
      batch has `batch_size` pairs.
  """

  start: str = "arithmetic_lm"
  data: tuning_data.DataConfig
  loss: preference_losses.PreferenceLossConfig
  adapters: low_rank.LowRankConfig | None = None
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters, adapters merged.

    The reference's log-probabilities are computed once, into the workdir.

    Raises:
      ValueError: if the recipe cannot be, or a row of the file is not valid.
    """
    self.loss.validate()
    self.train.validate()
    policy = _language_model(self.start)
    train, held_out = tuning_data.pairs(self.data, policy, self.train.length)
    length = self.train.length

    def of_pairs(pairs, name, seed):
      reference = None
      if self.loss.kind != "orpo":
        reference = preference_tuning.reference_log_probs(
          policy.model,
          policy.params,
          pairs,
          length,
          pathlib.Path(workdir) / f"reference_{name}.npz",
        )
      return tuning_batches.pair_batches(
        pairs, reference, self.train.batch_size, length, seed
      )

    def batches(pairs, name, seed):
      found = of_pairs(pairs, name, seed)
      if self.loss.kind != "kto":
        return found
      others = of_pairs(
        tuning_batches.mismatched(pairs, length), f"{name}_mismatched", seed
      )
      return lambda step: tuning_batches.JudgedBatch(found(step), others(step))

    seen = batches(train, "train", self.train.seed)
    shown = batches(held_out, "held_out", 0) if held_out else None
    return _fit(
      self,
      policy,
      preference_tuning.objective(_trained(policy, self.train), self.loss),
      seen,
      workdir,
      mesh,
      ledger,
      _passes(shown, held_out, self.train),
    )

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("preference", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model: a file, or a directory if it began as one."""
    recipe_parts.export_tuned(self, params, path)


@dataclasses.dataclass(kw_only=True)
class RewardRecipe:
  """Trains a reward model on preference pairs.

  Its trunk starts as a language model, its head is new. It is a process-reward
  model that was only ever asked at the end of an answer.

  Attributes:
    start: a language model's file, or the name of one that ships.
    data: pairs.
    centring: weight that keeps rewards around 0.
    train: length, rate and bookkeeping of the run; a row is an answer, and a
      batch has `batch_size` pairs.
  """

  start: str = "arithmetic_lm"
  data: tuning_data.DataConfig
  centring: float = 0.01
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters.

    Raises:
      ValueError: if the recipe cannot be, or a row of the file is not valid.
    """
    self.train.validate()
    policy = _language_model(self.start)
    train, held_out = tuning_data.pairs(self.data, policy, self.train.length)
    model = reward_model.ProcessRewardModel(
      policy.config, **self.train.compute()
    )

    def batches(pairs, seed):
      return tuning_batches.pair_batches(
        pairs, None, self.train.batch_size, self.train.length, seed
      )

    def init_params(key):
      fresh = transformer.init(key, model)
      # A head of its own, for words, is of no use to a judge.
      trunk = {name: policy.params[name] for name in fresh["trunk"]}
      return fresh | {"trunk": trunk}

    objective = preference_tuning.reward_objective(model, self.centring)
    seen = batches(train, self.train.seed)
    shown = batches(held_out, 0) if held_out else None
    return loop.fit(
      self.train,
      objective,
      init_params,
      seen,
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=recipe_parts.held_out(
        objective, _passes(shown, held_out, self.train)
      ),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    ).params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("reward", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model as one .safetensors file."""
    policy = _language_model(self.start)
    bundle_lib.save(
      path,
      dataclasses.replace(
        policy, kind="process_reward", params=params, recipe=self.describe()
      ),
    )


def _fit(recipe, policy, objective, batches, workdir, mesh, ledger, held_out):
  """Trains the model, or its adapters; returns the model's parameters."""
  adapters = recipe.adapters
  tx = loop.optimizer(recipe.train, transformer.matrix_axes)
  init_params = lambda _: policy.params  # noqa: E731 - jit makes a copy
  loss = objective
  if adapters is not None:
    loss = low_rank.objective(objective, policy.params, adapters)
    tx = loop.optimizer(recipe.train)  # thin factors are no matrices to Muon
    init_params = lambda key: low_rank.init(  # noqa: E731
      key, policy.params, adapters
    )
  state = loop.fit(
    recipe.train,
    loss,
    init_params,
    batches,
    workdir,
    tx=tx,
    evaluate=recipe_parts.held_out(loss, held_out),
    mesh=mesh,
    meta=recipe.describe(),
    ledger=ledger,
  )
  if adapters is None:
    return state.params
  return low_rank.merge(policy.params, state.params, adapters)


def _all_of(batches):
  """Every batch of one epoch."""
  return [batches(step) for step in range(batches.steps_an_epoch)]


def _passes(batches, rows, train):
  """Batches that see every row at least once; none if there are no rows."""
  steps = -(-len(rows) // train.batch_size)
  return [batches(step) for step in range(steps)] if rows else []


def _language_model(start: str) -> bundle_lib.Bundle:
  found = bundle_lib.load(start)
  if found.kind != "language_model":
    raise ValueError(
      f"start={start!r} is a {found.kind}; expected a language_model"
    )
  return found


def _trained(policy, train) -> transformer.Transformer:
  """The policy's module, computing as the run says."""
  return transformer.Transformer(policy.config, **train.compute())
