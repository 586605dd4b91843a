# SPDX-License-Identifier: Apache-2.0
"""A small model of worked modular problems, for reinforcement to start from."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import language_model, loop, packing, recipe_parts

_DRAWS_A_BATCH = 100_000  # index space of one step; never used up
_TEXT_SEED = 1_000_003  # streams of the text and of the problems differ


@dataclasses.dataclass(kw_only=True)
class ModularModelRecipe:
  """Trains a model on terse solutions of modular problems.

  Attributes:
    model: the transformer's sizes.
    task: what the text is about.
    train: length, rate and bookkeeping of the run.
  """

  model: config_lib.TransformerConfig
  task: prompt_sets.ModularTask
  train: loop.TrainConfig

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters; a ledger gets what it takes.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.model.validate()
    self.task.validate()
    self.train.validate()
    model = transformer.Transformer(self.model, **self.train.compute())
    tokenizer = tokenizer_lib.WordTokenizer()
    state = loop.fit(
      self.train,
      language_model.objective(model),
      lambda key: transformer.init(key, model),
      self._batches(tokenizer),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("modular_model", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    made = recipe_parts.word_model(
      "language_model", self.model, params, self.describe()
    )
    bundle.save(path, made)

  def _batches(self, tokenizer) -> Callable[[int], packing.Packed]:
    def batch(step: int) -> packing.Packed:
      problems = self.task.stream(
        "train", _TEXT_SEED + self.train.seed, step * _DRAWS_A_BATCH
      )
      examples = (
        language_model.example(
          tokenizer,
          problems_lib.prompt(problem),
          arithmetic.solution(problem, "terse"),
        )
        for problem in problems
      )
      return packing.pack(examples, self.train.batch_size, self.train.length)

    return batch
