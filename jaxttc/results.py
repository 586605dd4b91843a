# SPDX-License-Identifier: Apache-2.0
"""Results are files: what was run, what came out, and what it claims.

An experiment ends with one call of `write`, which leaves a JSON file that holds
the command, the environment, the seeds, the data behind each figure, and its
claims. A claim that misses its bar stays in the file, as missed. Documents show
a claim between a pair of markers, which `fill` keeps up to date:

    <!-- claim:decoders.json:accuracy -->0.71 [0.68, 0.74]<!-- /claim -->

This module imports JAX only to describe the environment.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import difflib
import json
import math
import operator
import os
import pathlib
import platform
import re
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from rich import table as rich_table

_COMPARISONS = {
  ">=": operator.ge,
  ">": operator.gt,
  "<=": operator.le,
  "<": operator.lt,
}
_FIELDS = ("command", "environment", "seeds", "data", "claims")
_MARKED = re.compile(
  r"(<!-- claim:(?P<file>[^:\s]+):(?P<name>\S+) -->)"
  r"(?P<figure>.*?)(<!-- /claim -->)",
  re.DOTALL,
)
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/[^\s,:;=]*")


@dataclasses.dataclass(frozen=True)
class Claim:
  """One figure, its interval, and the bar it is held to.

  Attributes:
    name: what the figure is, unique in its file; no spaces.
    value: the figure.
    low: lower end of its interval; None if there is no interval.
    high: upper end of its interval; None if there is no interval.
    bar: what `value` is held to; None for a figure that is only reported.
    comparison: how `value` must compare with `bar`: ">=", ">", "<=" or "<".

  Raises:
    ValueError: if a number is not finite, the interval does not contain the
      value or has one end only, or the name or the comparison is not valid.
  """

  name: str
  value: float
  low: float | None = None
  high: float | None = None
  bar: float | None = None
  comparison: str = ">="

  def __post_init__(self) -> None:
    if not re.fullmatch(r"[^\s:<>]+", self.name):
      raise ValueError(
        f"claim {self.name!r}: the name must be non-empty, without spaces, "
        "colons or angle brackets"
      )
    if self.comparison not in _COMPARISONS:
      raise ValueError(
        f"claim {self.name!r}: comparison {self.comparison!r} is not one of "
        f"{', '.join(_COMPARISONS)}"
      )
    for field in ("value", "low", "high", "bar"):
      self._check_number(field)
    if (self.low is None) != (self.high is None):
      raise ValueError(f"claim {self.name!r}: give both low and high, or none")
    if self.low is not None and not self.low <= self.value <= self.high:
      raise ValueError(
        f"claim {self.name!r}: value {self.value} lies outside its interval "
        f"[{self.low}, {self.high}]"
      )

  def _check_number(self, field: str) -> None:
    number = getattr(self, field)
    if number is None and field != "value":
      return
    try:
      finite = math.isfinite(number)
    except TypeError:
      finite = False
    if not finite:
      raise ValueError(
        f"claim {self.name!r}: {field} is {number!r}, not a finite number"
      )
    object.__setattr__(self, field, float(number))

  @property
  def holds(self) -> bool | None:
    """Whether the value meets the bar; None if there is no bar."""
    if self.bar is None:
      return None
    return _COMPARISONS[self.comparison](self.value, self.bar)

  @property
  def crosses(self) -> bool:
    """Whether the interval has ends on both sides of the bar."""
    if self.bar is None or self.low is None:
      return False
    meets = _COMPARISONS[self.comparison]
    return meets(self.low, self.bar) != meets(self.high, self.bar)

  @property
  def figure(self) -> str:
    """The value, with its interval if it has one, as documents show it."""
    if self.low is None:
      return _short(self.value)
    return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


@dataclasses.dataclass(frozen=True)
class Results:
  """The content of one results file.

  Attributes:
    command: the command that wrote the file.
    environment: versions, platform, processor and accelerator of the run.
    seeds: the seeds that the figures were taken over.
    data: the tidy data behind each figure, by the figure's name.
    claims: the claims, in the order in which they were written.
  """

  command: str
  environment: dict[str, Any]
  seeds: tuple[int, ...]
  data: dict[str, Any]
  claims: tuple[Claim, ...]


def claim_over(
  name: str,
  numbers: Any,
  bar: float | None = None,
  comparison: str = ">=",
  middle: Callable[[Any], Any] = np.mean,
) -> Claim:
  """A claim of several runs' figure: the middle one, from least to most.

  Args:
    name: as in `Claim`.
    numbers: f[S], a figure of each seed or repeat.
    bar: as in `Claim`.
    comparison: as in `Claim`.
    middle: of the numbers; their mean.

  Raises:
    ValueError: as `Claim`, or if there are no numbers.
  """
  least, most = float(np.min(numbers)), float(np.max(numbers))
  value = float(np.clip(middle(numbers), least, most))  # despite rounding
  return Claim(name, value, least, most, bar, comparison)


def write(
  path: str | os.PathLike[str],
  *,
  command: str,
  seeds: Sequence[int],
  data: Mapping[str, Any],
  claims: Sequence[Claim],
) -> None:
  """Writes a results file, whole or not at all.

  Args:
    path: the file; its folder is made if need be.
    command: the command that was run; `command_line()` gives it.
    seeds: the seeds that the figures were taken over.
    data: the tidy data behind each figure; NumPy and JAX arrays are written as
      lists.
    claims: the claims; their names must differ.

  Raises:
    ValueError: if a number is NaN or infinite (its place is named), if two
      claims have one name, or if `data` holds what JSON cannot.
  """
  path = pathlib.Path(path)
  _check_names(path, claims)
  content = {
    "command": command,
    "environment": environment(),
    "seeds": [int(seed) for seed in seeds],
    "data": _plain(data, f"{path.name}: data"),
    "claims": [
      dataclasses.asdict(claim) | {"holds": claim.holds} for claim in claims
    ],
  }
  text = json.dumps(content, indent=1, allow_nan=False) + "\n"
  path.parent.mkdir(parents=True, exist_ok=True)
  _replace(path, text)


def read(path: str | os.PathLike[str]) -> Results:
  """Reads a results file.

  Raises:
    ValueError: if the file is missing, is not JSON, lacks a field, or holds a
      claim whose `holds` is not what its figures say.
  """
  path = pathlib.Path(path)
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{path}: expected a JSON results file: {error}"
    ) from error
  if not isinstance(content, dict):
    raise ValueError(f"{path}: expected a JSON object of {', '.join(_FIELDS)}")
  missing = [field for field in _FIELDS if field not in content]
  if missing:
    raise ValueError(f"{path}: results lack {', '.join(missing)}")
  results = Results(
    command=content["command"],
    environment=content["environment"],
    seeds=tuple(content["seeds"]),
    data=content["data"],
    claims=tuple(_claim(path, entry) for entry in content["claims"]),
  )
  _check_names(path, results.claims)
  return results


def claims(folder: str | os.PathLike[str]) -> dict[str, tuple[Claim, ...]]:
  """Returns the claims of each results file of a folder, by file name.

  Raises:
    ValueError: if the folder is missing or one of its files is not valid.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise ValueError(f"{folder}: expected a folder of results files")
  return {
    path.name: read(path).claims for path in sorted(folder.glob("*.json"))
  }


def table(claims_by_file: Mapping[str, Sequence[Claim]]) -> "rich_table.Table":
  """Returns claims as a table to print, a row a claim.

  Its last column says whether the figure meets its bar, and whether the
  interval has ends on both sides of it: then other seeds might say otherwise.
  """
  from rich import table as rich_table  # Not at the top: writers need none.

  made = rich_table.Table("file", "claim", "figure", "bar", "holds")
  words = {None: "-", True: "yes", False: "[red]no[/red]"}
  crossing = ", interval crosses"
  for file, held in claims_by_file.items():
    for claim in held:
      bar = "-" if claim.bar is None else f"{claim.comparison} {claim.bar:g}"
      holds = words[claim.holds] + (crossing if claim.crosses else "")
      made.add_row(file, claim.name, claim.figure, bar, holds)
  return made


def show(claims_by_file: Mapping[str, Sequence[Claim]]) -> None:
  """Prints claims as a table, as wide as it needs: no name is cut."""
  from rich import console as rich_console

  wide = rich_console.Console(width=10_000)
  made = table(claims_by_file)
  width = wide.measure(made).maximum
  rich_console.Console(width=width).print(made)


def fill(text: str, claims_by_file: Mapping[str, Sequence[Claim]]) -> str:
  """Returns a document with the figure of each marked claim brought up to date.

  A marker whose file has not been written yet reads "not measured yet".

  Args:
    text: the document.
    claims_by_file: what `claims` returns.

  Raises:
    ValueError: if a marker names a claim that its file does not hold, or a
      marker is not closed.
  """
  opened, marked = text.count("<!-- claim:"), _MARKED.findall(text)
  if opened != len(marked):
    raise ValueError(
      f"{opened} claim markers, of which {len(marked)} are well formed: "
      "expected <!-- claim:file.json:name -->figure<!-- /claim -->"
    )

  def figure(match: re.Match[str]) -> str:
    file, name = match["file"], match["name"]
    found = {claim.name: claim for claim in claims_by_file.get(file, ())}
    if file not in claims_by_file:
      return f"{match[1]}not measured yet{match[5]}"
    if name not in found:
      near = difflib.get_close_matches(name, found, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else ""
      raise ValueError(f"{file} holds no claim {name!r}{hint}")
    return f"{match[1]}{found[name].figure}{match[5]}"

  return _MARKED.sub(figure, text)


def environment() -> dict[str, Any]:
  """Returns versions, platform, processor and accelerator of this process."""
  import jax  # Not at the top: readers of results need no JAX.
  import jaxlib

  devices = jax.devices()
  return {
    "python": platform.python_version(),
    "jax": jax.__version__,
    "jaxlib": jaxlib.__version__,
    "numpy": np.__version__,
    "platform": f"{platform.system()} {platform.machine()}",
    "processor": _processor(),
    "cores": os.cpu_count(),
    "accelerator": f"{len(devices)} x {devices[0].device_kind}",
  }


def _processor() -> str:
  """The processor's name, where the system tells it; speed depends on it."""
  try:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
  except OSError:  # not Linux
    lines = []
  names = (line.partition(":") for line in lines)
  found = (name for key, _, name in names if key.strip() == "model name")
  return next(found, platform.processor()).strip()


def command_line(argv: Sequence[str] | None = None) -> str:
  """Returns the running command as typed, without this machine's paths.

  Paths inside the repository are written relative to its root, other absolute
  paths as ".../<last part>".

  Args:
    argv: the interpreter and its arguments; `sys.orig_argv` if None.
  """
  argv = sys.orig_argv if argv is None else argv
  root = pathlib.Path(__file__).resolve().parents[1]
  if not (root / "setup.py").exists():  # Installed: there is no repository.
    root = pathlib.Path.cwd()
  arguments = [_portable(argument, root) for argument in argv[1:]]
  return shlex.join(["python", *arguments])


def _portable(argument: str, root: pathlib.Path) -> str:
  here = pathlib.Path.cwd()
  if "/" in argument and (here / argument).exists():
    argument = str((here / argument).resolve())

  def shorten(match: re.Match[str]) -> str:
    path = pathlib.Path(os.path.normpath(match[0]))
    if path.is_relative_to(root):
      return path.relative_to(root).as_posix()
    return f".../{path.name}"

  return _ABSOLUTE.sub(shorten, argument)


def _plain(value: Any, place: str) -> Any:
  """Returns `value` as JSON types; refuses what JSON cannot say."""
  if isinstance(value, Mapping):
    return {str(k): _plain(v, f"{place}.{k}") for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v, f"{place}[{i}]") for i, v in enumerate(value)]
  if value is None or isinstance(value, str | bool | int):
    return value
  if isinstance(value, float):
    if not math.isfinite(value):
      raise ValueError(f"{place} is {value}, not a finite number")
    return float(value)
  if hasattr(value, "tolist"):
    return _plain(value.tolist(), place)
  raise ValueError(f"{place}: cannot write a {type(value).__name__} as JSON")


def _claim(path: pathlib.Path, entry: Any) -> Claim:
  names = {field.name for field in dataclasses.fields(Claim)} | {"holds"}
  if not isinstance(entry, dict) or set(entry) != names:
    raise ValueError(f"{path}: a claim must have exactly {sorted(names)}")
  claim = Claim(**{k: v for k, v in entry.items() if k != "holds"})
  if claim.holds != entry["holds"]:
    raise ValueError(
      f"{path}: claim {claim.name!r} says holds={entry['holds']}, but its "
      f"figures say {claim.holds}"
    )
  return claim


def _check_names(path: pathlib.Path, claims: Sequence[Claim]) -> None:
  names = [claim.name for claim in claims]
  double = sorted({name for name in names if names.count(name) > 1})
  if double:
    raise ValueError(f"{path}: more than one claim is named {double[0]!r}")


def _replace(path: pathlib.Path, text: str) -> None:
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    with os.fdopen(handle, "w", encoding="utf-8") as file:
      file.write(text)
    os.chmod(name, 0o644)  # mkstemp makes files that only their owner reads.
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise


def _short(number: float) -> str:
  """Three significant digits, whole parts in full."""
  if number and (abs(number) < 1e-3 or abs(number) >= 1e6):
    return f"{number:.3g}"
  digits = 2 - math.floor(math.log10(abs(number))) if number else 0
  text = f"{number:,.{max(digits, 0)}f}"
  return text.rstrip("0").rstrip(".") if "." in text else text
