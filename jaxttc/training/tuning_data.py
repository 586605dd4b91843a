# SPDX-License-Identifier: Apache-2.0
"""A file of demonstrations or pairs, as a model's tokens."""

import dataclasses
from typing import TypeVar

from absl import logging

from jaxttc.inference import bundle as bundle_lib
from jaxttc.tasks import row_files
from jaxttc.training import packing, tuning_batches, tuning_rows

T = TypeVar("T")


@dataclasses.dataclass(kw_only=True)
class DataConfig:
  """A file of examples, and how they are cut.

  Attributes:
    path: JSON lines, Parquet or a folder, as `tuning_rows` reads them.
    skip_bad: leave out rows that cannot be trained on, whatever the reason, and
      say how many.
    held_out: examples at the file's end that are evaluated on, not trained.
    longest_prompt: tokens; longer prompts lose their beginning.
  """

  path: str
  skip_bad: bool = False
  held_out: int = 0
  longest_prompt: int = 192

  def validate(self, length: int) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if not 1 <= self.longest_prompt < length:
      raise ValueError(
        f"data.longest_prompt={self.longest_prompt} must be at least 1 and "
        f"below train.length={length}"
      )
    if self.held_out < 0:
      raise ValueError(f"data.held_out must not be negative: {self.held_out}")

  def split(self, loaded: row_files.Loaded[T]) -> tuple[list[T], list[T]]:
    """(what to train on, what to hold out); says what was skipped.

    Raises:
      ValueError: if nothing is left to train on.
    """
    if loaded.skipped:
      logging.warning(
        "%s: left out %d of %d rows; the first: %s",
        self.path,
        loaded.skipped,
        len(loaded) + loaded.skipped,
        loaded.first_skipped,
      )
    kept = len(loaded) - self.held_out
    if kept < 1:
      raise ValueError(
        f"{self.path}: {len(loaded)} rows, of which data.held_out="
        f"{self.held_out} leaves none to train on"
      )
    return loaded[:kept], loaded[kept:]


def demonstrations(
  config: DataConfig, policy: bundle_lib.Bundle, length: int
) -> tuple[list[packing.Example], list[packing.Example]]:
  """Reads demonstrations: (to train on, held out).

  Args:
    config: the file.
    policy: whose tokenizer and chat template are used.
    length: most tokens of an example.

  Raises:
    ValueError: naming file and row, if one cannot be used.
  """
  config.validate(length)
  rows = tuning_rows.demonstrations(config.path, skip=config.skip_bad)
  return config.split(
    rows.then(
      lambda row: _tokenised(config, policy, row, row.answers[0], length),
      skip=config.skip_bad,
    )
  )


def pairs(
  config: DataConfig, policy: bundle_lib.Bundle, length: int
) -> tuple[list[tuning_batches.TokenPair], list[tuning_batches.TokenPair]]:
  """Reads preference pairs: (to train on, held out).

  Args:
    config: the file.
    policy: whose tokenizer and chat template are used.
    length: most tokens of a prompt with an answer.

  Raises:
    ValueError: naming file and row, if one cannot be used, or its answers are
      the same once they are cut.
  """
  config.validate(length)
  rows = tuning_rows.pairs(config.path, skip=config.skip_bad)

  def tokens(row):
    sides = [
      _tokenised(config, policy, row, text, length) for text in row.answers
    ]
    if sides[0].tokens == sides[1].tokens:
      raise ValueError(
        f"chosen and rejected are equal once cut to {length} "
        "tokens; expected a longer train.length"
      )
    return tuning_batches.TokenPair(*sides)

  return config.split(rows.then(tokens, skip=config.skip_bad))


def _tokenised(config, policy, row, answer, length) -> packing.Example:
  """A row's prompt and an answer to it."""
  prompt = tuning_rows.prompt_text(
    row.prompt, policy.chat if policy.chats else None
  )
  return tuning_batches.tokenised(
    policy.tokenizer, prompt, answer, length, config.longest_prompt
  )
