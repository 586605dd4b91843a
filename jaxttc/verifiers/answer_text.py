# SPDX-License-Identifier: Apache-2.0
r"""The text of an answer: finding it, tidying it, taking it apart.

Pure string work: no evaluation and no computer algebra. `extract` finds the
final answer in a solution, `normal` removes what does not change its meaning
(delimiters, spacing, spellings of a fraction), `parts` splits tuples, sets,
intervals, unions and matrices, and `named` splits "x = 5" into name and value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jaxttc.tasks import boxed_answers

_HASH = re.compile(r"(?m)^[^\S\n]*####[^\S\n]*(\S.*)$")
_LAST_LINE = re.compile(r"A:[^\S\n]*(\S.*)")
_PHRASE = re.compile(
  r"(?:\bfinal\s+answer|\banswer)[*_\s]*(?:\bis\b[*_]*\s*:?|:)[*_]*"
  r"[^\S\n]*(\S.*)",
  re.IGNORECASE,
)
_LAST_NUMBER = re.compile(
  r"-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?|-?\.\d+"
)
_WRAPPER = (
  r"\\(?:text|mbox|mathrm|textrm|textbf|textit|mathbf|operatorname)\s*"
  r"\{([^{}]*)\}"
)

_SYMBOLS = str.maketrans(
  {
    "\0": "",  # used as a mark below
    "\u2212": "-",  # minus sign
    "\u2013": "-",  # en dash
    "\u00a0": " ",  # no-break space
    "\u202f": " ",
    "\u00d7": r"\times ",
    "\u00b7": r"\cdot ",
    "\u03c0": r"\pi ",
    "\u221e": r"\infty ",
    "\u2264": r"\le ",
    "\u2265": r"\ge ",
    "\u222a": r"\cup ",
    "\u2208": r"\in ",
    "\u00b2": "^2",
    "\u00b3": "^3",
    "\u00bd": r"\frac{1}{2}",
    "\u00bc": r"\frac{1}{4}",
    "\u00be": r"\frac{3}{4}",
  }
)
# Rewritten in this order; each keeps the meaning of any answer it matches.
_REWRITES = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r",\s*\\!\s*", ","),  # thousands: 10,\!080
    (r"\{,\}", ","),
    (r"\\(?:left|right|bigl?|bigr?|Bigl?|Bigr?)(?![A-Za-z])\s*\.?", ""),
    (r"\\(?:displaystyle|limits)(?![A-Za-z])", ""),
    (r"\\[!]", ""),
    (r"\\[,;: ]|\\q?quad(?![A-Za-z])|~", " "),
    (r"\\[()\[\]](?![A-Za-z])", ""),
    (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
    (r"\\lbrace(?![A-Za-z])", r"\\{"),
    (r"\\rbrace(?![A-Za-z])", r"\\}"),
    (r"\\leq(?![A-Za-z])", r"\\le"),
    (r"\\geq(?![A-Za-z])", r"\\ge"),
    (r"\+\s*\\infty", r"\\infty"),
    (r"\*\*", "^"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
    (r"\\frac\s*\{([^{}]*)\}\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*\{([^{}]*)\}\s*\{", r"\\frac{\1}{"),
    (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
    (r",?\s*\\(?:text|mbox|mathrm)\s*\{\s*(?:or|and)\s*\}\s*", ","),
    (r",?\s+(?:or|and)\s+", ","),
    (r"\s+", " "),
  )
)
_NAME = re.compile(
  r"\s*(?P<name>[A-Za-z](?:_\{?\w+\}?|\([A-Za-z]\))?|[A-Za-z]{3,}|\\[a-z]+)"
  r"\s*(?:=|\\in(?![A-Za-z]))\s*(?P<value>[^=<>]+)"
)
_RELATIONS = re.compile(r"[=<>]|\\(?:le|ge|ne|neq|in|approx)(?![A-Za-z])")
_MATRIX = re.compile(
  r"\\begin\{([pbB]?matrix|array)\}(?:\{[lcr|]+\})?(.*)\\end\{\1\}", re.DOTALL
)
_TRAILING_UNIT = re.compile(
  r"\s*(?:\\(?:text|mbox|mathrm|textrm)\s*\{[A-Za-z .,/^23-]*\}"
  r"(?:\s*\^\s*\{?[23]\}?)?|\^\s*\{?\s*\\circ\s*\}?|%)\s*$"
)
_MAX_POWER_DIGITS = 4
_MAX_LENGTH = 2000
_MAX_DEPTH = 50


class Parts(NamedTuple):
  """A compound answer: its kind ("()", "{}", "matrix 2x2", ...), its items."""

  kind: str
  items: tuple[str, ...]


def _sentence(text: str) -> str:
  """The first sentence of a line, without emphasis and its full stop."""
  first = re.split(r"\.(?=\s+[A-Z]|\s*$)", text, maxsplit=1)[0]
  return first.strip().strip("*_").strip()


def extract(text: str, *, last_number: bool = False) -> str | None:
  r"""Finds the final answer a solution states.

  The first of these that is present: the last balanced \boxed{...} (braces
  are counted); the last line "#### x"; a last line "A: x"; the last
  "(final) answer is x" or "answer: x", up to the end of its sentence; and,
  only if asked for, the last number of the text.

  Args:
    text: a whole solution.
    last_number: fall back on the last number, which is a guess.

  Returns:
    The answer as written, or None if the solution states none.

  Raises:
    TypeError: if `text` is not a string.
  """
  if not isinstance(text, str):
    raise TypeError(f"extract: text is a str, got {type(text).__name__}")
  boxed = boxed_answers.last_boxed(text)
  if boxed:
    return boxed
  hashes = _HASH.findall(text)
  if hashes:
    return hashes[-1].strip()
  lines = text.strip().splitlines()
  line = _LAST_LINE.fullmatch(lines[-1].strip()) if lines else None
  if line is not None:
    return line[1].strip()
  phrases = _PHRASE.findall(text)
  if phrases and _sentence(phrases[-1]):
    return _sentence(phrases[-1])
  numbers = _LAST_NUMBER.findall(text) if last_number else []
  return numbers[-1] if numbers else None


def normal(answer: str) -> str:
  r"""Removes what never changes an answer's meaning; keeps all that might.

  Args:
    answer: an answer as written, e.g. "$\dfrac12$.".

  Returns:
    The tidied text, e.g. "\frac{1}{2}"; "" if nothing is left.
  """
  text = answer.translate(_SYMBOLS)
  text = boxed_answers.last_boxed(text) or text
  text = text.strip().strip('`"').strip()
  if len(text) > _MAX_LENGTH:
    return text
  text = re.sub(r"^\*\*(.*)\*\*$", r"\1", text)
  # A dollar sign is money when escaped or unpaired, else a math delimiter.
  text = text.replace("\\$", "\0")
  if text.count("$") == 1 and re.match(r"-?\$\s*[\d.-]", text):
    text = text.replace("$", "\0")
  text = text.replace("$", "").replace("\0", "$").replace("\\%", "%")
  text = text.replace(r"\\", "\0")  # row ends of matrices are not spaces
  for pattern, replacement in _REWRITES:
    text = pattern.sub(replacement, text)
  text = text.replace("\0", r"\\").strip()
  while text.endswith((".", ",", ";")):
    text = text[:-1].rstrip()
  return _unwrapped(text)


def _unwrapped(text: str) -> str:
  """Drops round brackets or LaTeX text commands around the whole answer."""
  while True:
    whole = re.fullmatch(_WRAPPER, text)
    if whole is not None:
      text = whole[1].strip()
    elif text[:1] == "(" and text[-1:] == ")" and _closes_at_end(text):
      inner = text[1:-1].strip()
      if len(_split(inner, ",")) > 1:
        return text
      text = inner
    else:
      return text


def without_unit(text: str) -> str:
  r"""Drops a unit set as text, or a degree sign, after an expression.

  Args:
    text: a normal text, e.g. "8\pi \text{ cm}^2".

  Returns:
    The expression alone, "8\pi"; the text itself if nothing would be left.
  """
  return _TRAILING_UNIT.sub("", text).strip() or text


def words(text: str) -> str | None:
  """The lower-case words of a prose answer; None if it may be algebra.

  Args:
    text: a normal text.

  Returns:
    E.g. "no solution"; None for "3x" and for one short unmarked word such as
    "ab", which reads as a product.
  """
  bare = re.sub(_WRAPPER, r" \1 ", text).strip()
  if not re.fullmatch(r"[A-Za-z][A-Za-z' ,.\-]*", bare):
    return None
  tokens = re.findall(r"[a-z']+", bare.lower())
  functions = {"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt"}
  if functions.intersection(tokens) or bare.lower() in ("pi", "infinity"):
    return None
  if bare == text and max(map(len, tokens)) <= 3 and len(bare) > 1:
    return None
  return " ".join(tokens)


def _depths(text: str) -> list[int]:
  """Bracket depth after each character, all kinds of brackets alike."""
  depth, depths = 0, []
  for character in text:
    depth += (character in "([{") - (character in ")]}")
    depths.append(depth)
  return depths


def _closes_at_end(text: str) -> bool:
  """Whether the bracket that opens the text is closed by its last one."""
  depths = _depths(text)
  return bool(depths) and depths[-1] == 0 and 0 not in depths[: len(text) - 1]


def _split(text: str, separator: str) -> list[str]:
  """Splits at the separators outside all brackets."""
  depths, items, start = [0, *_depths(text)], [], 0
  position = text.find(separator)
  while position >= 0:
    if depths[position] == 0:
      items.append(text[start:position].strip())
      start = position + len(separator)
    position = text.find(separator, position + 1)
  return [*items, text[start:].strip()]


def parts(text: str) -> Parts | None:
  r"""Splits a compound answer; bare lists and \{...\} are sets ("{}").

  Args:
    text: a normal text that is not a number (numbers may hold commas).

  Returns:
    Kind and items, or None for a single expression. Kinds: "()", "[]", "(]",
    "[)" (tuples, points and intervals, told apart by brackets only), "{}",
    "union", "matrix <rows>x<columns>".
  """
  matrix = _MATRIX.fullmatch(text)
  if matrix is not None:
    return _matrix(matrix[2])
  union = _split(text, r"\cup")
  if len(union) > 1:
    return Parts("union", tuple(union))
  if text.startswith(r"\{") and text.endswith(r"\}"):
    if _closes_at_end(text[1:-2] + "}"):
      return Parts("{}", _signed(_split(text[2:-2].strip(), ",")))
  if (
    text[:1] in ("(", "[") and text[-1:] in (")", "]") and _closes_at_end(text)
  ):
    items = _split(text[1:-1], ",")
    if len(items) > 1 or text[0] == "[":
      return Parts(text[0] + text[-1], tuple(items))
  items = _signed(_split(text, ","))
  return Parts("{}", items) if len(items) > 1 and all(items) else None


def _signed(items: list[str]) -> tuple[str, ...]:
  """Writes out items with one plus-or-minus sign as two items."""
  written: list[str] = []
  for item in items:
    if item.count(r"\pm") == 1:
      written += [item.replace(r"\pm", sign).strip() for sign in "+-"]
    else:
      written.append(item)
  return tuple(written)


def _matrix(body: str) -> Parts | None:
  rows = [row.split("&") for row in re.split(r"\\\\", body) if row.strip()]
  if not rows or len({len(row) for row in rows}) > 1:
    return None
  cells = tuple(normal(cell) for row in rows for cell in row)
  return Parts(f"matrix {len(rows)}x{len(rows[0])}", cells)


def named(text: str) -> tuple[str | None, str]:
  r"""Splits an assignment: "x = 5" is ("x", "5"), "x \in [1,2]" likewise.

  Args:
    text: a normal text.

  Returns:
    (name, value); (None, text) if the text is not one assignment to a symbol.
  """
  match = _NAME.fullmatch(text)
  if match is None or _RELATIONS.search(match["value"]):
    return None, text
  return match["name"], match["value"].strip()


def unwieldy(text: str) -> bool:
  """Whether a text is too long or too deeply nested to be taken apart.

  Args:
    text: a normal text.

  Returns:
    True above 2,000 characters or 50 levels of brackets.
  """
  return len(text) > _MAX_LENGTH or max(_depths(text), default=0) > _MAX_DEPTH


def explosive(text: str) -> bool:
  r"""Whether evaluating the text could be out of reach: 5^{5^5}, 99999!.

  Towers of powers without letters, literal exponents over four digits, and
  factorials of five digits or of factorials.

  Args:
    text: a normal text.

  Returns:
    True if it should not be evaluated at all.
  """
  if re.search(r"\d{5,}\s*!|!\s*\)?\s*!", text):
    return True
  for match in re.finditer(r"\^\s*", text):
    exponent, after = _exponent(text, match.end())
    if re.search(rf"\d{{{_MAX_POWER_DIGITS + 1},}}", exponent):
      return True
    numeric = re.search(r"[A-Za-z]", exponent) is None
    if numeric and (re.search(r"[\^!]", exponent) or after.startswith("^")):
      return True
  return False


def _exponent(text: str, start: int) -> tuple[str, str]:
  """The exponent that begins at `start`, and what follows it."""
  if text[start : start + 1] in ("{", "("):
    depths = _depths(text[start:])
    end = depths.index(0) + 1 if 0 in depths else len(depths)
  else:
    bare = re.match(r"[+-]?(?:\d+|.?)", text[start:])
    end = bare.end() if bare else 0
  return text[start : start + end], text[start + end :].lstrip()
