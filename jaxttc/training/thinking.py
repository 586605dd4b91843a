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
import jax.numpy as jnp

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import loop, packing, recipe_parts

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
    targets: tokens that prompts of free style name, one of these each
      (`digit_sums.asked`); () for prompts that name none.
    kept: share of those whose text is near the target; what the others write
      has nothing to do with it.
  """

  least_digits: int = 2
  most_digits: int = 4
  concise_share: float = digit_sums.CONCISE_SHARE
  asked: float = 0.3
  at_once: float = 0.05
  targets: tuple[int, ...] = ()
  kept: float = 0.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn from."""
    if not 2 <= self.least_digits <= self.most_digits:
      raise ValueError(
        f"mix: least_digits {self.least_digits} and most_digits "
        f"{self.most_digits}; expected 2 <= least_digits <= most_digits"
      )
    for name in ("concise_share", "asked", "at_once", "kept"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"mix.{name} is {getattr(self, name)}, expected 0..1")
    if self.asked + self.at_once > 1:
      raise ValueError(
        f"mix: asked {self.asked} and at_once {self.at_once} exceed 1"
      )
    if self.targets:
      digit_sums.check_targets(
        "mix.targets", (min(self.targets), max(self.targets))
      )
    elif self.kept:
      raise ValueError(
        f"mix.kept={self.kept} would be ignored: mix.targets is empty"
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
    elif self.targets:
      drawn = digit_sums.asked(drawn, rng.choice(self.targets))
    if "target" in drawn.meta and rng.random() < self.kept:
      lines = digit_sums.kept_lines(drawn)
    else:
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
class ThinkingModelRecipe(recipe_parts.WordModelRun):
  """Trains a language model on sums of digits.

  Attributes:
    model: the transformer's sizes.
    mix: what it reads.
    train: length, rate and bookkeeping of the run.
    start: a model of these sizes to go on from, a file or the name of one that
      ships; None for random parameters.
  """

  model: config_lib.TransformerConfig
  mix: DigitSumMix
  train: loop.TrainConfig
  start: str | None = None

  kind = "thinking_model"

  def validate(self) -> None:
    """Raises ValueError for what cannot be."""
    super().validate()
    self.mix.validate()

  def initial(self) -> Callable[[jax.Array], dict[str, Any]]:
    """Key -> the parameters that training starts from.

    Raises:
      ValueError: if `start` cannot be read, or has other sizes.
    """
    if self.start is None:
      return super().initial()
    found = bundle_lib.load(self.start)
    if found.config != self.model:
      raise ValueError(
        f"start={self.start!r} has other sizes than model: {found.config}"
      )
    return lambda _: jax.tree.map(jnp.array, found.params)

  def batches(
    self, tokenizer: tokenizer_lib.WordTokenizer
  ) -> Callable[[int], packing.Packed]:
    """Step -> batch of thoughts and answers."""
    return self._drawn(tokenizer, self.train.seed)

  def evaluation(
    self, objective: Any, tokenizer: tokenizer_lib.WordTokenizer
  ) -> recipe_parts.Evaluate | None:
    """Loss on questions drawn under another seed."""
    held_out = self._drawn(tokenizer, self.train.seed + 1)(0)
    return recipe_parts.held_out(objective, [held_out])

  def _drawn(self, tokenizer, seed):
    return batches(
      tokenizer, self.mix, self.train.batch_size, self.train.length, seed
    )
