# SPDX-License-Identifier: Apache-2.0
"""Decoders written as calls, for flags and config files.

    decoder_text.build("astar(children=4, f_tolerance=0.05)")

Nothing is evaluated: the text is parsed, and its arguments must be literals.
"""

import ast
from typing import Any

from jaxttc.decoders import base, registry

# The engine's controller makes these what they are; a name alone does not.
_NEED_CONTROLLER = ("budget_forcing",)


def parse(text: str, setting: str = "") -> tuple[str, dict[str, Any]]:
  """Reads a decoder's name and arguments.

  Args:
    text: `name` or `name(key=literal, ...)`.
    setting: more arguments, `key=literal, ...`; they go before those of the
      text.

  Returns:
    The name and its arguments. Neither is checked: `build` does.

  Raises:
    ValueError: if the text is not of that form.
  """
  tree = _expression(text)
  call = tree if isinstance(tree, ast.Call) else None
  function = tree if call is None else call.func
  if not isinstance(function, ast.Name):
    raise _malformed(text)
  arguments = {} if call is None else _arguments(text, call)
  if setting.strip():
    more = _expression(f"_({setting})")
    if not isinstance(more, ast.Call):
      raise _malformed(setting)
    arguments |= _arguments(setting, more)
  return function.id, arguments


def build(text: str, setting: str = "") -> base.Decoder:
  """The decoder that a text describes; see `parse`.

  Raises:
    ValueError: if the text is malformed, the name or an argument is unknown
      (the nearest is named), a value is refused, or the decoder is one that
      only a controller makes different from `sample`.
  """
  name, arguments = parse(text, setting)
  if name in _NEED_CONTROLLER:
    raise ValueError(
      f"decoder {name!r} needs a controller, which a text cannot name; call "
      "runtime.search.solve with one"
    )
  try:
    return registry.make(name, arguments)
  except TypeError as error:
    first = str(error).splitlines()[0]
    raise ValueError(f"decoder {text!r}: {first}") from None


def _expression(text: str) -> ast.expr:
  try:
    return ast.parse(text.strip(), mode="eval").body
  except (SyntaxError, ValueError):
    raise _malformed(text) from None


def _arguments(text: str, call: ast.Call) -> dict[str, Any]:
  found: dict[str, Any] = {}
  if call.args:
    raise _malformed(text)
  for keyword in call.keywords:
    if keyword.arg is None:
      raise _malformed(text)
    try:
      found[keyword.arg] = ast.literal_eval(keyword.value)
    except ValueError:
      raise ValueError(
        f"decoder {text!r}: {keyword.arg} must be a literal such as 4, 0.05 "
        "or 'best'"
      ) from None
  return found


def _malformed(text: str) -> ValueError:
  return ValueError(
    f"decoder {text!r} is not of the form name(key=value, ...), e.g. "
    "astar(children=4)"
  )
