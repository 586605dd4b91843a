# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a config file holds, and the run that it describes."""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.models import nested_transformer, reward_model, transformer
from jaxttc.solving import samples
from jaxttc.tasks import arithmetic
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import (
  language_model,
  loop,
  nested_language_model,
  process_reward,
  recipe_parts,
)


@dataclasses.dataclass(kw_only=True)
class LanguageModelRecipe(recipe_parts.WordModelRun):
  """Trains a language model on generated text.

  Attributes:
    model: the transformer's sizes.
    mix: what the training text is drawn from.
    train: length, rate and bookkeeping of the run.
    start: a language model's file, or the name of one that ships, to go on
      from; random parameters if None.
    widths: menu of widths, rising to 1, that the model may later be cut down
      to (`inference.narrowed`); all are trained at once. () for 1 alone.
    distillation: in [0, 1], how much the narrower widths learn from the full
      one's probabilities in place of the text.
    shared_rows: whether the narrower widths share the rows of a batch, or each
      read all of them, which learns more a step and takes longer.
  """

  model: config_lib.TransformerConfig
  mix: language_model.Mix
  train: loop.TrainConfig
  start: str | None = None
  widths: tuple[float, ...] = ()
  distillation: float = 0.5
  shared_rows: bool = True

  kind = "language_model"

  def validate(self) -> None:
    """Raises ValueError for what cannot be."""
    super().validate()
    self.mix.validate()

  def batches(self, tokenizer: tokenizer_lib.WordTokenizer) -> Any:
    """Step -> batch of generated text."""
    return language_model.generated_batches(
      tokenizer,
      self.mix,
      self.train.batch_size,
      self.train.length,
      self.train.seed,
    )

  def objective(self) -> Any:
    """Of one width, or of all of the menu at once."""
    if not self.widths:
      return super().objective()
    return nested_language_model.objective(
      self.model,
      self.widths,
      self.distillation,
      self.shared_rows,
      **self.train.compute(),
    )

  def initial(self) -> Callable[[jax.Array], dict[str, Any]]:
    """Key -> the parameters that training starts from."""
    if self.start is None:
      return super().initial()
    found = bundle.load(self.start)
    if (found.kind, found.config) != ("language_model", self.model):
      raise ValueError(
        f"start={self.start!r} holds a {found.kind} of {found.config}, "
        f"expected a language_model of {self.model}"
      )
    if not self.widths:
      return lambda _: found.params
    return lambda _: nested_transformer.by_importance(found.params, self.model)

  def evaluation(
    self, objective: Any, tokenizer: tokenizer_lib.WordTokenizer
  ) -> recipe_parts.Evaluate | None:
    """Loss on problems whose texts training never sees."""
    held_out = language_model.generated_batches(
      tokenizer,
      self.mix,
      self.train.batch_size,
      self.train.length,
      self.train.seed + 1,
    )(0)
    return recipe_parts.held_out(objective, [held_out])


@dataclasses.dataclass(kw_only=True)
class ProcessRewardRecipe:
  """Trains a process-reward model on a policy's own, checked solutions.

  In two parts: a language model that computes better than the policy becomes
  the trunk; then the layers above it learn to tell from its surprise where a
  solution goes wrong.

  Attributes:
    policy: the policy's file, or the name of one that ships.
    trunk: how the trunk is trained, in the folder `trunk` of the workdir. Its
      mix also says which styles the policy is asked for.
    reading_layers: layers above the trunk.
    problems: how many training problems the policy solves.
    held_out: how many test problems, for the figures of each evaluation.
    samples: its solutions a problem.
    temperature: at which it samples.
    max_tokens: longer solutions are left out.
    train: length, rate and bookkeeping of the second part.
  """

  policy: str = "arithmetic_lm"
  trunk: LanguageModelRecipe
  reading_layers: int = 2
  problems: int = 4096
  held_out: int = 256
  samples: int = 4
  temperature: float = 1.0
  max_tokens: int = 192
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Samples, labels and trains; returns the parameters.

    A ledger gets the training of trunk and layers; of the solutions sampled it
    gets nothing.

    Raises:
      ValueError: if the recipe cannot be.
    """
    for name in ("problems", "held_out", "samples", "reading_layers"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    self.train.validate()
    policy = bundle.load(self.policy)
    folder = pathlib.Path(workdir)
    trunk = self.trunk.run(str(folder / "trunk"), mesh, ledger)
    model = reward_model.ProcessRewardModel(
      self._config(), **self.train.compute()
    )
    seed = self.train.seed
    train, held_out = (
      self._solutions(policy, folder / f"{split}.jsonl", split, count)
      for split, count in (
        ("train", self.problems),
        ("test", self.held_out),
      )
    )
    batches = lambda solutions, seed: process_reward.batches(  # noqa: E731
      policy.tokenizer,
      solutions,
      self.train.batch_size,
      self.train.length,
      seed,
    )

    def init_params(key):
      fresh = transformer.init(key, model)
      return {k: v for k, v in fresh.items() if k != "trunk"}

    state = loop.fit(
      self.train,
      process_reward.objective(model, trunk),
      init_params,
      batches(train, seed + 2),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=self._evaluate(model, trunk, batches(held_out, seed + 3)),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params | {"trunk": trunk}

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("process_reward", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    made = recipe_parts.word_model(
      "process_reward", self._config(), params, self.describe()
    )
    bundle.save(path, made)

  def _config(self) -> config_lib.TransformerConfig:
    return dataclasses.replace(
      self.trunk.model,
      layers=self.trunk.model.layers + self.reading_layers,
      reading_layers=self.reading_layers,
    )

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
    mix = self.trunk.mix
    shares = np.array(
      [mix.asked * mix.terse, mix.asked * mix.verbose, 1 - mix.asked]
    )
    names = ["terse", "verbose", "free"]
    return rng.choice(names, count, p=shares / shares.sum()).tolist()

  def _evaluate(self, model, trunk, batches):
    """Step-level AUC on solutions of problems that training never sees."""
    held_out = [batches(i) for i in range(4)]
    rewards = jax.jit(
      lambda p, b: transformer.forward(
        model, p | {"trunk": trunk}, b.tokens, b.segments, b.positions
      )
    )

    def evaluate(params, step):
      del step
      pairs = [
        (np.asarray(rewards(params, batch))[mask], batch.labels[mask])
        for batch in held_out
        for mask in [batch.labels >= 0]
      ]
      scores, labels = map(np.concatenate, zip(*pairs, strict=True))
      return {"held_out_auc": samples.step_auc(scores, labels > 0.5)}

    return evaluate
