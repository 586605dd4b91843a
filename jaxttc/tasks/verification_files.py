# SPDX-License-Identifier: Apache-2.0
"""Sampled solutions and verifications in the published YAML layout.

    solutions/<i>.yaml                       prompt, question, samples,
                                             gt_answer
    verifications/problem_<i>/solution_<j>.yaml
                                             prompt, verifications: a list of
                                             p(yes), p(no), verification

A probability of -1 says that the token was not among those whose probabilities
were returned; it is read as None. What cannot be used is refused, in one line
that names the file and the key.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import re
from typing import Any

import yaml

_Path = str | os.PathLike[str]
_ABSENT = -1  # how the layout writes a probability that nobody returned


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolutionFile:
  """The sampled solutions of one problem.

  Attributes:
    id: the number of its file.
    prompt: what the solver was given.
    question: the question alone.
    samples: solutions, at least one.
    gt_answer: the reference answer.
  """

  id: int
  prompt: str
  question: str
  samples: tuple[str, ...]
  gt_answer: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verification:
  """One sampled verification.

  Attributes:
    text: as written.
    yes: probability of yes at the verdict; None if it was not returned.
    no: likewise of no.
  """

  text: str
  yes: float | None = None
  no: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerificationFile:
  """The sampled verifications of one solution.

  Attributes:
    problem: id of the problem.
    solution: place of the solution among its samples, from 0.
    prompt: what the verifier was given.
    verifications: at least one.
  """

  problem: int
  solution: int
  prompt: str
  verifications: tuple[Verification, ...]


def read_solutions(folder: _Path) -> list[SolutionFile]:
  """Reads `<i>.yaml` files, by rising i.

  Raises:
    ValueError: if the folder has none, two are of one problem, or a file
      lacks a key or holds what cannot be.
  """
  found: dict[int, SolutionFile] = {}
  for path in _numbered(folder, r"(\d+)\.yaml"):
    number = int(path.stem)
    if number in found:
      raise ValueError(f"{path}: problem {number} has another file already")
    row = _row(path, ("prompt", "question", "samples", "gt_answer"))
    samples = row["samples"]
    if not isinstance(samples, list) or not samples:
      raise ValueError(f"{path}: samples must be a list of at least one text")
    gold = row["gt_answer"]
    if gold is None or isinstance(gold, bool | list | dict) or gold == "":
      raise ValueError(f"{path}: gt_answer is {gold!r}, expected an answer")
    found[number] = SolutionFile(
      id=number,
      prompt=_text(path, "prompt", row["prompt"]),
      question=_text(path, "question", row["question"]),
      samples=tuple(
        _text(path, f"samples[{i}]", text) for i, text in enumerate(samples)
      ),
      gt_answer=str(gold),
    )
  return [found[number] for number in sorted(found)]


def write_solutions(folder: _Path, files: Sequence[SolutionFile]) -> None:
  """Writes what `read_solutions` reads.

  Raises:
    ValueError: if two are of one problem.
  """
  ids = [file.id for file in files]
  double = {number for number in ids if ids.count(number) > 1}
  if double:
    raise ValueError(f"write_solutions: problem {min(double)} occurs twice")
  for file in files:
    _dump(
      pathlib.Path(folder) / f"{file.id}.yaml",
      {
        "prompt": file.prompt,
        "question": file.question,
        "samples": list(file.samples),
        "gt_answer": file.gt_answer,
      },
    )


def read_verifications(folder: _Path) -> list[VerificationFile]:
  """Reads `problem_<i>/solution_<j>.yaml` files, by rising i, then j.

  Raises:
    ValueError: if there are none, two are of one solution, or a file lacks a
      key or holds what cannot be.
  """
  found: dict[tuple[int, int], VerificationFile] = {}
  for part in _numbered(folder, r"problem_(\d+)"):
    for path in _numbered(part, r"solution_(\d+)\.yaml"):
      key = (_number(part), _number(path))
      if key in found:
        raise ValueError(f"{path}: solution {key[1]} has another file already")
      row = _row(path, ("prompt", "verifications"))
      rows = row["verifications"]
      if not isinstance(rows, list) or not rows:
        raise ValueError(
          f"{path}: verifications must be a list of at least one"
        )
      found[key] = VerificationFile(
        problem=key[0],
        solution=key[1],
        prompt=_text(path, "prompt", row["prompt"]),
        verifications=tuple(
          _verification(path, i, one) for i, one in enumerate(rows)
        ),
      )
  return [found[key] for key in sorted(found)]


def write_verifications(
  folder: _Path, files: Sequence[VerificationFile]
) -> None:
  """Writes what `read_verifications` reads.

  Raises:
    ValueError: if two are of one solution.
  """
  keys = [(file.problem, file.solution) for file in files]
  double = {key for key in keys if keys.count(key) > 1}
  if double:
    problem, solution = min(double)
    raise ValueError(
      f"write_verifications: problem {problem}, solution {solution} occurs "
      "twice"
    )
  for file in files:
    where = pathlib.Path(folder) / f"problem_{file.problem}"
    rows = [
      {
        "p(yes)": _ABSENT if one.yes is None else one.yes,
        "p(no)": _ABSENT if one.no is None else one.no,
        "verification": one.text,
      }
      for one in file.verifications
    ]
    _dump(
      where / f"solution_{file.solution}.yaml",
      {"prompt": file.prompt, "verifications": rows},
    )


def _verification(path, place: int, row) -> Verification:
  name = f"verifications[{place}]"
  if not isinstance(row, dict) or "verification" not in row:
    raise ValueError(f"{path}: {name} must hold p(yes), p(no), verification")
  return Verification(
    text=_text(path, f"{name}.verification", row["verification"]),
    yes=_probability(path, f"{name}.p(yes)", row.get("p(yes)", _ABSENT)),
    no=_probability(path, f"{name}.p(no)", row.get("p(no)", _ABSENT)),
  )


def _probability(path, name: str, value) -> float | None:
  """None for -1; a probability of 0.0 is one."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ValueError(f"{path}: {name} is {value!r}, expected 0..1 or -1")
  if value == _ABSENT:
    return None
  if not 0 <= value <= 1:
    raise ValueError(f"{path}: {name} is {value}, expected 0..1 or -1")
  return float(value)


def _numbered(folder: _Path, pattern: str) -> list[pathlib.Path]:
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise ValueError(f"{folder}: no such folder")
  found = [p for p in folder.iterdir() if re.fullmatch(pattern, p.name)]
  if not found:
    shown = pattern.replace(r"(\d+)", "<i>").replace("\\", "")
    raise ValueError(f"{folder}: holds no {shown}")
  return sorted(found, key=lambda p: (_number(p), p.name))


def _number(path: pathlib.Path) -> int:
  return int(re.findall(r"\d+", path.name)[-1])


def _row(path: pathlib.Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
  try:
    row = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
  except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
    line = str(error).splitlines()[0]
    raise ValueError(f"{path}: cannot be read as YAML: {line}") from None
  if not isinstance(row, dict):
    raise ValueError(f"{path}: expected a mapping of {', '.join(keys)}")
  missing = [key for key in keys if key not in row]
  if missing:
    found = ", ".join(map(str, row)) or "none"
    raise ValueError(f"{path}: no {missing[0]}; keys found: {found}")
  return row


def _text(path, name: str, value) -> str:
  if not isinstance(value, str):
    raise ValueError(f"{path}: {name} is {value!r}, expected a text")
  return value


def _dump(path: pathlib.Path, row: Mapping[str, Any]) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  text = yaml.dump(dict(row), sort_keys=False, allow_unicode=True)
  path.write_text(text, encoding="utf-8")


# libyaml's, where it is there: pools are large.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
