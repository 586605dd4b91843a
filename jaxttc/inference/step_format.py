# SPDX-License-Identifier: Apache-2.0
"""How a published reward model is shown the steps of a solution."""

import dataclasses
import re

from jaxttc.tasks import pretrained_tokenizer

_BLANK_LINES = re.compile(r"\n\s*\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepFormat:
  """Steps, each followed by a separator at which its reward is read.

  Qwen2.5-Math-PRM is `StepFormat(separator="<extra_0>")`. Math-Shepherd, a
  language model that says + or - after its step tag, is
  `StepFormat(separator="ки", between="\\n")`.

  Attributes:
    separator: a token of the vocabulary, or text of which the last token
      counts.
    between: text that goes before every step but the first.
    good: of a language model, the token that says that the step is right.
    bad: the token that says that it is wrong.
  """

  separator: str
  between: str = ""
  good: str = "+"
  bad: str = "-"

  def encode(
    self,
    tokenizer: pretrained_tokenizer.PretrainedTokenizer,
    text: str,
    first: bool,
  ) -> tuple[list[int], list[bool]]:
    """Token ids of steps with their separators, and where rewards are read.

    Args:
      tokenizer: the reward model's.
      text: steps, with blank lines between them.
      first: whether the solution begins with them.
    """
    steps = [step.strip() for step in _BLANK_LINES.split(text)]
    separator = self.separator_ids(tokenizer)
    ids: list[int] = []
    ends: list[bool] = []
    for step in [step for step in steps if step] or [""]:
      before = "" if first and not ids else self.between
      ids += tokenizer.encode(before + step) + separator
      ends += [False] * (len(ids) - len(ends) - 1) + [True]
    return ids, ends

  def separator_ids(
    self, tokenizer: pretrained_tokenizer.PretrainedTokenizer
  ) -> list[int]:
    """The separator's token ids.

    Raises:
      ValueError: if the vocabulary cannot write it.
    """
    return self._ids(tokenizer, self.separator)

  def verdict_ids(
    self, tokenizer: pretrained_tokenizer.PretrainedTokenizer
  ) -> tuple[int, int]:
    """Ids of the tokens that say good and bad.

    Raises:
      ValueError: if the vocabulary has no such tokens.
    """
    good, bad = (self._ids(tokenizer, name) for name in (self.good, self.bad))
    return good[-1], bad[-1]

  def _ids(self, tokenizer, name: str) -> list[int]:
    """A token by its name in the vocabulary, or else a text's tokens."""
    for spelling in (name, f"▁{name}"):  # SentencePiece's sign for a space
      try:
        return [tokenizer.id_of(spelling)]
      except ValueError:
        continue
    ids = tokenizer.encode(name)
    if not ids:
      raise ValueError(f"the vocabulary cannot write the step mark {name!r}")
    return ids
