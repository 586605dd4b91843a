# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a config file holds, and the run that it describes."""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.tasks import arithmetic
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import language_model, loop, process_reward


@dataclasses.dataclass(kw_only=True)
class LanguageModelRecipe:
  """Trains a language model on generated worked problems.

  Attributes:
    model: the transformer's sizes.
    mix: shares of solution styles in the training text.
    train: length, rate and bookkeeping of the run.
  """

  model: config_lib.TransformerConfig
  mix: arithmetic.TrainingMix
  train: loop.TrainConfig

  def run(
    self, workdir: str, mesh: jax.sharding.Mesh | None = None
  ) -> dict[str, Any]:
    """Trains, and returns the parameters.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.model.validate()
    tokenizer = tokenizer_lib.WordTokenizer()
    if self.model.vocab_size != tokenizer.vocab_size:
      raise ValueError(
        f"model.vocab_size={self.model.vocab_size} must be the tokenizer's "
        f"{tokenizer.vocab_size}"
      )
    model = transformer.Transformer(self.model)
    objective = language_model.objective(model)
    state = loop.fit(
      self.train,
      objective,
      lambda key: transformer.init(key, model),
      language_model.arithmetic_batches(
        tokenizer,
        self.mix,
        self.train.batch_size,
        self.train.length,
        self.train.seed,
      ),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=self._evaluate(objective, tokenizer),
      mesh=mesh,
      meta=self.describe(),
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return json.loads(
      json.dumps({"kind": "language_model"} | dataclasses.asdict(self))
    )

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    _export(path, "language_model", self.model, params, self.describe())

  def _evaluate(self, objective, tokenizer):
    """Loss on problems whose texts training never sees."""
    held_out = language_model.arithmetic_batches(
      tokenizer,
      self.mix,
      self.train.batch_size,
      self.train.length,
      self.train.seed + 1,
    )(0)
    figures = jax.jit(objective)
    key = jax.random.key(0)

    def evaluate(params, step):
      del step
      _, found = figures(params, held_out, key)
      return {f"held_out_{k}": v for k, v in found.items()}

    return evaluate


@dataclasses.dataclass(kw_only=True)
class ProcessRewardRecipe:
  """Trains a process-reward model on a policy's own, checked solutions.

  Its trunk starts as the policy's, with more layers on top that start as the
  identity. It needs them: what the policy expects to read after "47+38=" is
  known only in its last layer, so comparing that with what was written takes
  another.

  Attributes:
    policy: the policy's file, or the name of one that ships.
    extra_layers: layers beyond the policy's.
    problems: how many training problems the policy solves.
    samples: its solutions a problem.
    temperature: at which it samples.
    max_tokens: longer solutions are left out.
    language_weight: weight of the next-token loss on worked problems.
    mix: styles of the worked problems and of the sampled solutions.
    train: length, rate and bookkeeping of the run.
  """

  policy: str = "arithmetic_lm"
  extra_layers: int = 2
  problems: int = 8192
  samples: int = 4
  temperature: float = 1.0
  max_tokens: int = 192
  language_weight: float = 1.0
  mix: arithmetic.TrainingMix
  train: loop.TrainConfig

  def run(
    self, workdir: str, mesh: jax.sharding.Mesh | None = None
  ) -> dict[str, Any]:
    """Samples, labels and trains; returns the parameters.

    Raises:
      ValueError: if the recipe cannot be.
    """
    for name, least in (("problems", 1), ("samples", 1), ("extra_layers", 0)):
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}"
        )
    policy = bundle.load(self.policy)
    model = transformer.ProcessRewardModel(self._config(policy))
    objective = process_reward.objective(model, self.language_weight)
    folder = pathlib.Path(workdir)
    seed = self.train.seed
    train, held_out = (
      self._solutions(policy, folder / f"{split}.jsonl", split, count)
      for split, count in (("train", self.problems), ("test", 256))
    )
    batches = lambda solutions, seed: process_reward.batches(  # noqa: E731
      policy.tokenizer,
      solutions,
      self.mix,
      self.train.batch_size,
      self.train.length,
      seed,
    )

    def init_params(key):
      fresh = transformer.init(key, model)
      trunk = _identity(fresh["trunk"]) | policy.params
      return fresh | {"trunk": trunk}

    state = loop.fit(
      self.train,
      objective,
      init_params,
      batches(train, seed + 2),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=self._evaluate(model, batches(held_out, seed + 3)),
      mesh=mesh,
      meta=self.describe(),
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return json.loads(
      json.dumps({"kind": "process_reward"} | dataclasses.asdict(self))
    )

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    config = self._config(bundle.load(self.policy))
    _export(path, "process_reward", config, params, self.describe())

  def _config(self, policy: bundle.Bundle) -> config_lib.TransformerConfig:
    layers = policy.config.layers + self.extra_layers
    return dataclasses.replace(policy.config, layers=layers)

  def _solutions(self, policy, path, split, count):
    problems = arithmetic.problems(count, split=split, seed=self.train.seed)
    styles = self._styles(count)
    return process_reward.sample_solutions(
      policy,
      problems,
      styles,
      path,
      samples=self.samples,
      temperature=self.temperature,
      max_tokens=self.max_tokens,
      seed=self.train.seed,
    )

  def _styles(self, count: int) -> list[str]:
    """Prompt styles in the mix's shares; no bare answers: they have no steps.

    The rest of the prompts leave the style to the policy.
    """
    rng = np.random.default_rng(self.train.seed)
    shares = np.array(
      [
        self.mix.asked * self.mix.terse,
        self.mix.asked * self.mix.verbose,
        1 - self.mix.asked,
      ]
    )
    names = ["terse", "verbose", "free"]
    return rng.choice(names, count, p=shares / shares.sum()).tolist()

  def _evaluate(self, model, batches):
    """Step-level AUC on solutions of problems that training never sees."""
    held_out = [batches(i) for i in range(4)]
    rewards = jax.jit(
      lambda p, b: transformer.forward(
        model, p, b.tokens, b.segments, b.positions
      )[0]
    )

    def evaluate(params, step):
      del step
      pairs = [
        (np.asarray(rewards(params, batch))[mask], batch.labels[mask])
        for batch in held_out
        for mask in [batch.labels >= 0]
      ]
      scores, labels = map(np.concatenate, zip(*pairs, strict=True))
      return {"held_out_auc": process_reward.roc_auc(scores, labels > 0.5)}

    return evaluate


def _identity(trunk: dict[str, Any]) -> dict[str, Any]:
  """The trunk with blocks that add nothing to the residual stream."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: 0 * x if path[-1].key in ("out", "down") else x, trunk
  )


def _export(path, kind, config, params, recipe) -> None:
  bundle.save(
    path,
    bundle.Bundle(
      kind=kind,
      config=config,
      params=params,
      tokenizer=tokenizer_lib.WordTokenizer(),
      recipe=recipe,
    ),
  )
