# SPDX-License-Identifier: Apache-2.0
"""What kind of question a text is, by rules: a stand-in for its data set.

Collections for routing are put together from several data sets and often do
not say which one a question came from. Most of these have a form of their own,
which is what the rules go by; no score is looked at. The first that holds
decides.
"""

from collections.abc import Callable, Sequence
import re

_CODE = re.compile(r"write a (python )?function|from typing|import |def ", re.I)
_LATEX = re.compile(
  r"\$[^$\n]*[\\^_=<>a-zA-Z][^$\n]*\$|\\\[|\\[dt]?frac|\\sqrt"
)
_WORDS = re.compile(r"(\w+, ){8,}\w+")
_PUZZLE = re.compile(r"(Q: )?There (are|is) \d+ houses?\b")
_NUMBER = re.compile(r"\d+")
_LONG = 600  # characters

_RULES: tuple[tuple[str, Callable[[str], object]], ...] = (
  ("puzzles", _PUZZLE.match),
  ("code", lambda text: _CODE.match(text) or "\ndef " in text),
  ("word lists", _WORDS.fullmatch),
  ("queries", lambda text: text[:1].islower() and text[-1:].isalnum()),
  ("sums in words", lambda text: text.endswith("\\boxed{...}.")),
  ("passages", lambda text: len(text) > _LONG),
  ("formulas", _LATEX.search),
  ("sums in words", lambda text: len(_NUMBER.findall(text)) > 1),
  ("plain questions", lambda text: True),
)
KINDS = tuple(dict.fromkeys(name for name, _ in _RULES))


def kind(text: str) -> str:
  """One of `KINDS`."""
  text = text.strip()
  return next(name for name, holds in _RULES if holds(text))


def kinds(texts: Sequence[str]) -> tuple[str, ...]:
  """The kind of each text."""
  return tuple(map(kind, texts))
