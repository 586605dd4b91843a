# SPDX-License-Identifier: Apache-2.0
"""A language model that thinks in short lines or in long ones: its recipe.

It learns sums of digits (`tasks.digit_sums`). What way each line of its
thinking takes is left to chance, so that a budget can bend the choice.
"""

from collections.abc import Callable, Iterator
import dataclasses
import random
from typing import Any

import jax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import language_model, loop, packing, recipe_parts

_ASKED = {"terse": 1.0, "verbose": 0.0}  # share of concise lines


@dataclasses.dataclass(kw_only=True)
class DigitSumMix:
  """What training text is made of.

  Attributes:
    least_digits: of a question.
    most_digits: of a question.
    concise_share: of lines where no style is asked for.
    asked: share of prompts that ask for a style, terse or verbose.
    at_once: share of prompts whose thinking span is empty.
  """

  least_digits: int = 2
  most_digits: int = 4
  concise_share: float = digit_sums.CONCISE_SHARE
  asked: float = 0.3
  at_once: float = 0.05

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn from."""
    if not 2 <= self.least_digits <= self.most_digits:
      raise ValueError(
        f"mix: least_digits {self.least_digits} and most_digits "
        f"{self.most_digits}; expected 2 <= least_digits <= most_digits"
      )
    for name in ("concise_share", "asked", "at_once"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"mix.{name} is {getattr(self, name)}, expected 0..1")
    if self.asked + self.at_once > 1:
      raise ValueError(
        f"mix: asked {self.asked} and at_once {self.at_once} exceed 1"
      )

  def example(self, index: int, seed: int) -> tuple[str, str]:
    """One (prompt, completion) pair, a pure function of its arguments."""
    rng = random.Random(f"digit-sums-{seed}-{index}")
    drawn = self.problem(rng)
    way = rng.random()
    if way < self.at_once:
      asked = digit_sums.prompt(drawn, mode="at_once")
      return asked, digit_sums.answer_line(drawn)
    style, share = "free", self.concise_share
    if way < self.at_once + self.asked:
      style, share = rng.choice(sorted(_ASKED.items()))
    lines = digit_sums.thinking_lines(drawn, rng, share)
    return digit_sums.prompt(drawn, style), digit_sums.completion(drawn, lines)

  def problem(self, rng: random.Random) -> problems_lib.Problem:
    """A question of uniformly many digits."""
    return digit_sums.generate(
      rng, rng.randint(self.least_digits, self.most_digits)
    )


def batches(
  tokenizer: tokenizer_lib.WordTokenizer,
  mix: DigitSumMix,
  rows: int,
  length: int,
  seed: int,
) -> Callable[[int], packing.Packed]:
  """Batches of freshly drawn worked questions.

  Returns:
    batch(step) -> `packing.Packed` of B=`rows` by T=`length`: a pure function
    of the step. The completion's tokens are the targets.
  """

  def examples(step: int) -> Iterator[packing.Example]:
    index = step * rows * length  # more than a step can use
    while True:
      prompt, completion = mix.example(index, seed)
      yield example(tokenizer, prompt, completion)
      index += 1

  def batch(step: int) -> packing.Packed:
    return packing.pack(examples(step), rows, length)

  return batch


def example(
  tokenizer: tokenizer_lib.WordTokenizer, prompt: str, completion: str
) -> packing.Example:
  """`<bos> prompt completion <eos>`; the completion's tokens are targets."""
  head = [tokenizer.bos_id, *tokenizer.encode(prompt, specials=True)]
  tail = [*tokenizer.encode(completion, specials=True), tokenizer.eos_id]
  return packing.Example(
    tokens=head + tail, weights=[0.0] * len(head) + [1.0] * len(tail)
  )


@dataclasses.dataclass(kw_only=True)
class ThinkingModelRecipe:
  """Trains a language model on sums of digits.

  Attributes:
    model: the transformer's sizes.
    mix: what it reads.
    train: length, rate and bookkeeping of the run.
  """

  model: config_lib.TransformerConfig
  mix: DigitSumMix
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
    self.mix.validate()
    self.train.validate()
    tokenizer = tokenizer_lib.WordTokenizer()
    recipe_parts.check_vocabulary(self.model, tokenizer)
    model = transformer.Transformer(self.model, **self.train.compute())
    objective = language_model.objective(model)
    state = loop.fit(
      self.train,
      objective,
      lambda key: transformer.init(key, model),
      self._batches(tokenizer, self.train.seed),
      workdir,
      tx=loop.optimizer(self.train, transformer.matrix_axes),
      evaluate=self._evaluate(objective, tokenizer),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )
    return state.params

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("thinking_model", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model, with this recipe, as one .safetensors file."""
    made = recipe_parts.word_model(
      "language_model", self.model, params, self.describe()
    )
    bundle.save(path, made)

  def _batches(self, tokenizer, seed):
    return batches(
      tokenizer, self.mix, self.train.batch_size, self.train.length, seed
    )

  def _evaluate(self, objective, tokenizer):
    """Loss on questions drawn under another seed."""
    held_out = self._batches(tokenizer, self.train.seed + 1)(0)
    return recipe_parts.held_out(objective, [held_out])
