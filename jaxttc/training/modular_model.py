# SPDX-License-Identifier: Apache-2.0
"""A small model of worked modular problems, for reinforcement to start from."""

from collections.abc import Callable
import dataclasses

from jaxttc.models import config as config_lib
from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import language_model, loop, packing, recipe_parts

_DRAWS_A_BATCH = 100_000  # index space of one step; never used up
_TEXT_SEED = 1_000_003  # streams of the text and of the problems differ


@dataclasses.dataclass(kw_only=True)
class ModularModelRecipe(recipe_parts.WordModelRun):
  """Trains a model on terse solutions of modular problems.

  Attributes:
    model: the transformer's sizes.
    task: what the text is about.
    train: length, rate and bookkeeping of the run.
  """

  model: config_lib.TransformerConfig
  task: prompt_sets.ModularTask
  train: loop.TrainConfig

  kind = "modular_model"

  def validate(self) -> None:
    """Raises ValueError for what cannot be."""
    super().validate()
    self.task.validate()

  def batches(
    self, tokenizer: tokenizer_lib.WordTokenizer
  ) -> Callable[[int], packing.Packed]:
    """Step -> batch of worked problems."""

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
