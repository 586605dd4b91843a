# SPDX-License-Identifier: Apache-2.0
r"""The answer in a \boxed{...}, as solutions of the MATH data set end."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")


def last_boxed(text: str) -> str | None:
  r"""What the last \boxed or \fbox of a text holds; None if there is none.

  Braces are counted, escaped ones left out; a box that never closes is passed
  over. Without braces it holds what follows up to a space or a dollar sign.
  """
  for match in reversed(list(_BOX.finditer(text))):
    start = match.end()
    if text[start : start + 1] == "{":
      end = _balanced(text, start)
      if end is not None:
        return text[start + 1 : end - 1].strip()
    else:
      bare = re.match(r"[^\s$\\{}]+", text[start:])
      if bare is not None:
        return bare.group()
  return None


def _balanced(text: str, start: int) -> int | None:
  """Index just past the group that the brace at `start` opens."""
  depth, position = 0, start
  while position < len(text):
    character = text[position]
    if character == "\\":
      position += 1  # an escaped brace is not a brace
    elif character == "{":
      depth += 1
    elif character == "}":
      depth -= 1
      if depth == 0:
        return position + 1
    position += 1
  return None
