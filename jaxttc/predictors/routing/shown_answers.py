# SPDX-License-Identifier: Apache-2.0
"""What answers show of themselves, for a cascade to trust them by.

Models are asked one after the other, so of each answer only what came before
it is known: how it is written, and whether earlier models gave the same one.
A regression of scores on this, beside the question's vector, is a learned
scorer (Chen et al., 2023, FrugalGPT, arXiv:2305.05176).
"""

from collections.abc import Sequence
import re

from jaxtyping import Float
import numpy as np

from jaxttc.verifiers import answer_text, answers

FIELDS = (
  "answered",
  "log_words",
  "lines",
  "numbers",
  "whole",
  "negative",
  "agreeing",
  "agreeing_share",
  "leads",
)
"""Of each answer: whether there is one; logarithm of its words; its lines;
numbers in it; whether the final one is a whole number, or begins with a minus;
how many earlier answers are the same, which share of them, and whether no
other answer has been given as often."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def features(
  solutions: Sequence[Sequence[str]], order: Sequence[int]
) -> Float[np.ndarray, "N K F"]:
  """What each answer shows when it comes, f32[N, K, F], fields of `FIELDS`.

  Args:
    solutions: of each of N questions, the text of each model.
    order: columns in the order of asking; K of them. The result's are in it.

  Raises:
    ValueError: if there are no questions, or the order names none or one twice.
  """
  if not solutions or not order or len(set(order)) < len(order):
    raise ValueError(
      "shown_answers: expected questions, and an order of different models, "
      f"got {len(solutions)} and {list(order)}"
    )
  found = np.zeros((len(solutions), len(order), len(FIELDS)), np.float32)
  for row, texts in enumerate(solutions):
    before: list[str] = []
    for place, column in enumerate(order):
      text = texts[column]
      final = answer_text.normal(answers.extract_answer(text) or "")
      found[row, place] = _one(text, final, before)
      before.append(final)
  return found


def _one(text: str, final: str, before: Sequence[str]) -> list[float]:
  same = before.count(final) if final else 0
  others = [before.count(each) for each in set(before) - {final, ""}]
  return [
    float(bool(final)),
    float(np.log1p(len(text.split()))),
    float(text.count("\n") + 1),
    float(len(_NUMBER.findall(text))),
    float(final.lstrip("-").isdigit()),
    float(final.startswith("-")),
    float(same),
    same / max(len(before), 1),
    float(bool(final) and same + 1 > max(others, default=0)),
  ]
