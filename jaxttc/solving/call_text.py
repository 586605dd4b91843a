# SPDX-License-Identifier: Apache-2.0
"""Calls written as text, for flags and config files: `name(key=literal, ...)`.

Nothing is evaluated: the text is parsed, and its arguments must be literals.
"""

import ast
from collections.abc import Callable, Mapping
import difflib
import inspect
import types
from typing import Any


def parse(
  text: str, what: str, example: str, setting: str = ""
) -> tuple[str, dict[str, Any]]:
  """Reads a name and its arguments.

  Args:
    text: `name` or `name(key=literal, ...)`.
    what: what the text stands for, for messages ("decoder").
    example: a right text, for messages.
    setting: more arguments, `key=literal, ...`; they go before those of the
      text.

  Raises:
    ValueError: if the text is not of that form.
  """

  def malformed(text: str) -> ValueError:
    return ValueError(
      f"{what} {text!r} is not of the form name(key=value, ...), e.g. {example}"
    )

  def expression(text: str) -> ast.expr:
    try:
      return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
      raise malformed(text) from None

  def arguments(text: str, call: ast.Call) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if call.args:
      raise malformed(text)
    for keyword in call.keywords:
      if keyword.arg is None:
        raise malformed(text)
      try:
        found[keyword.arg] = ast.literal_eval(keyword.value)
      except ValueError:
        raise ValueError(
          f"{what} {text!r}: {keyword.arg} must be a literal such as 4, 0.05 "
          "or 'best'"
        ) from None
    return found

  tree = expression(text)
  call = tree if isinstance(tree, ast.Call) else None
  function = tree if call is None else call.func
  if not isinstance(function, ast.Name):
    raise malformed(text)
  found = {} if call is None else arguments(text, call)
  if setting.strip():
    more = expression(f"_({setting})")
    if not isinstance(more, ast.Call):
      raise malformed(setting)
    found |= arguments(setting, more)
  return function.id, found


def checked(
  name: str,
  arguments: Mapping[str, Any],
  known: Mapping[str, Callable[..., Any]],
  what: str,
  shared: Mapping[str, type] = types.MappingProxyType({}),
) -> dict[str, Any]:
  """The arguments of a call that a known function takes.

  Args:
    name: of the function.
    arguments: for it, by keyword.
    known: functions by name; what they take by keyword alone counts.
    what: what they make, for messages.
    shared: further arguments that may be given, and their types.

  Returns:
    The arguments, integers for floats as floats.

  Raises:
    ValueError: if the name or an argument is unknown (the nearest is named),
      an argument is missing, or of another type than its annotation says.
  """
  if name not in known:
    raise ValueError(
      f"unknown {what} {name!r}, expected one of {', '.join(known)}"
      f"{_nearest(name, known)}"
    )
  parameters = {
    key: parameter
    for key, parameter in inspect.signature(known[name]).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }
  kinds = {key: p.annotation for key, p in parameters.items()} | dict(shared)
  found = {}
  for key, value in arguments.items():
    if key not in kinds:
      raise ValueError(
        f"{what} {name!r} has no argument {key!r}{_nearest(key, kinds)}"
      )
    wanted = kinds[key]
    if wanted is float and type(value) is int:
      value = float(value)
    if type(value) is not wanted:
      raise ValueError(
        f"{what} {name!r}: {key} is {value!r}; expected {wanted.__name__}"
      )
    found[key] = value
  for key, parameter in parameters.items():
    if parameter.default is inspect.Parameter.empty and key not in found:
      raise ValueError(f"{what} {name!r} needs the argument {key!r}")
  return found


def _nearest(name: str, known: Mapping[str, Any]) -> str:
  near = difflib.get_close_matches(name, tuple(known), n=1)
  return f"; did you mean {near[0]!r}?" if near else ""
