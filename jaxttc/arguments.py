# SPDX-License-Identifier: Apache-2.0
"""A script's arguments: parsed, or refused in one line and with status 2.

A recipe comes from a Python file, and its fields are flags of their own. What
is wrong with either (no such file, no Python, no such field) is found here, on
the way to ml_collections, which would end in a traceback.
"""

from collections.abc import Callable, Sequence
import dataclasses
import difflib
import inspect
import os
import pathlib
import re
import runpy
import sys
import traceback
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

_MADE_BY_NAME = ("build", "true", "1", "none", "false", "0")
"""What a field that holds a dataclass may be set to."""

flags.disclaim_key_flags()  # --help shows what is defined here as the script's


def define_config(
  name: str,
  default: str | None,
  help_string: str,
) -> flags.FlagHolder[Any]:
  """Defines a flag that names a recipe's file, and those of its fields.

  Args:
    name: of the flag, "config" for one.
    default: a file, or None.
    help_string: what --help says of it.

  Raises:
    SystemExit: with status 2, if the arguments of this process name a file or
      a field that cannot be.
  """
  try:
    check_config(name, default, sys.argv[1:])
  except ValueError as error:
    refuse(error)
  return config_flags.DEFINE_config_file(
    name, default, help_string, lock_config=True
  )


def check_config(
  name: str, default: str | None, arguments: Sequence[str]
) -> None:
  """Refuses arguments whose recipe, or field of a recipe, is not there.

  Values of fields are not looked at.

  Args:
    name: of the flag.
    default: its file, where the arguments name none.
    arguments: the process's, without the script's name.

  Raises:
    ValueError: naming the argument and what was expected.
  """
  given, overrides = _given(name, arguments)
  given = default if given is None else given
  if given is None:
    if overrides:
      raise ValueError(f"--{name}.{overrides[0][0]}: --{name} is required")
    return
  recipe = _recipe(name, given)
  for place, (field, value) in enumerate(overrides):
    before = [earlier for earlier, _ in overrides[:place]]
    _check_field(name, recipe, field, value, before)


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags and calls `main`, as `absl.app.run` does.

  Args:
    main: gets what is left of the arguments, the script's name first; an
      `app.UsageError` of its is told in a line.
  """

  def refusing(argv: list[str]) -> None:
    try:
      main(argv)
    except app.UsageError as error:
      refuse(error)

  app.run(refusing, flags_parser=_parsed)


def refuse(error: object) -> NoReturn:
  """Tells in one line what is wrong with the arguments; ends with status 2."""
  line = " ".join(str(error).split())
  script = os.path.basename(sys.argv[0])
  print(f"{script}: {line} (--help says more)", file=sys.stderr)
  raise SystemExit(2)


def _parsed(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    refuse(error)
  except SystemExit:  # of --help, which absl ends as it does an error
    raise SystemExit(0) from None


def _given(
  name: str, arguments: Sequence[str]
) -> tuple[str | None, list[tuple[str, str | None]]]:
  """The file that is named last, and (field, value) of each override."""
  file, overrides = None, []
  for place, argument in enumerate(arguments):
    if argument == "--":
      break
    match = re.fullmatch(
      rf"--?(?:no)?{name}(?:\.([^=]+))?(?:=(.*))?", argument, re.DOTALL
    )
    if match is None:
      continue
    field, value = match.groups()
    if field is not None:
      overrides.append((field, value))
    elif value is not None:
      file = value
    elif place + 1 < len(arguments):
      file = arguments[place + 1]
  return file, overrides


def _recipe(name: str, given: str) -> Any:
  """What the file's get_config() returns."""
  path, *which = given.split(":", 1)
  told = f"--{name}={path}"
  file = pathlib.Path(path)
  if not file.is_file():
    what = "is a folder" if file.is_dir() else "no such file"
    raise ValueError(
      f"{told}: {what}; expected a Python file with get_config(){_near(file)}"
    )
  try:
    get_config = runpy.run_path(path).get("get_config")
  except Exception as error:
    raise ValueError(
      f"{told}{_line(error, path)}: {_words(error)}; expected a Python file "
      "with get_config()"
    ) from error
  if not callable(get_config):
    raise ValueError(f"{told}: expected a function get_config() in it")
  try:
    inspect.signature(get_config).bind(*which)
  except TypeError:
    variant = f"no variant, got :{which[0]}" if which else f"{path}:VARIANT"
    raise ValueError(f"{told}: expected {variant}") from None
  try:
    return get_config(*which)
  except Exception as error:
    at = "" if isinstance(error, ValueError) else _line(error, path)
    raise ValueError(f"--{name}={given}{at}: {_words(error)}") from error


def _near(file: pathlib.Path) -> str:
  """A hint at a file that may be meant."""
  names = [other.name for other in file.parent.glob("*.py")]
  near = difflib.get_close_matches(f"{file.stem}.py", names, n=1)
  return f"; did you mean {file.parent / near[0]}?" if near else ""


def _line(error: Exception, path: str) -> str:
  """Where in the file an error is from; "" if it does not say."""
  if isinstance(error, SyntaxError) and error.filename == path:
    return f", line {error.lineno}"
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == path]
  return f", line {lines[-1]}" if lines else ""


def _words(error: Exception) -> str:
  if isinstance(error, SyntaxError):
    return f"no Python: {error.msg}"
  if isinstance(error, ValueError):
    return str(error)
  return f"{type(error).__name__}: {error}"


def _check_field(
  name: str, recipe: Any, field: str, value: str | None, before: Sequence[str]
) -> None:
  """Refuses an override whose field is not there, or is made of fields."""
  told = f"--{name}.{field}"
  inner = recipe
  for part in field.split("."):
    if not dataclasses.is_dataclass(inner) or not part.isidentifier():
      break  # nothing, which ml_collections can make, or a part of a list
    names = [known.name for known in dataclasses.fields(inner)]
    if part not in names:
      near = difflib.get_close_matches(part, names, n=3)
      raise ValueError(
        f"{told}: {type(inner).__name__} has no field {part!r}; "
        + (f"did you mean {' or '.join(near)}? " if near else "")
        + f"It has {', '.join(names)}"
      )
    inner = getattr(inner, part)
  try:
    config_path.initialize_missing_parent_fields(recipe, field, before)
    kind = config_path.get_type(field, recipe)
  except (ValueError, TypeError, LookupError, AttributeError) as error:
    raise ValueError(f"{told}: {_words(error)}") from error
  if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
    return
  if value is not None and value.lower() not in _MADE_BY_NAME:
    names = [f".{known.name}" for known in dataclasses.fields(kind)]
    raise ValueError(
      f"{told}={value}: expected one of its fields, {', '.join(names)}"
    )
