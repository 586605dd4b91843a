# SPDX-License-Identifier: Apache-2.0
"""What a simulation study finds, and how it becomes files."""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
from typing import Any, NamedTuple, Protocol

from jaxttc import results


class Study(NamedTuple):
  """What a study finds.

  Attributes:
    seeds: the seeds that its figures were taken over.
    data: the tidy data behind each figure.
    claims: its claims.
    draw: writes the picture of it to a path.
  """

  seeds: Sequence[int]
  data: Mapping[str, Any]
  claims: Sequence[results.Claim]
  draw: Callable[[str | os.PathLike[str]], None]


class Recipe(Protocol):
  """What a config of scripts/simulate.py returns: a dataclass of settings."""

  def run(self) -> Study:
    """Simulates, with progress bars where it takes long.

    Raises:
      ValueError: if the recipe cannot be, or a file that it reads is not valid.
    """
    ...


def write(study: Study, out: str | os.PathLike[str]) -> tuple[str, str]:
  """Writes a study as `out`.json and `out`.png, and returns both paths.

  The picture is left out, and its path "", if matplotlib is not installed.
  """
  stem = os.fspath(out)
  results.write(
    f"{stem}.json",
    command=results.command_line(),
    seeds=study.seeds,
    data=study.data,
    claims=study.claims,
  )
  pathlib.Path(stem).parent.mkdir(parents=True, exist_ok=True)
  try:
    study.draw(f"{stem}.png")
  except ImportError:
    return f"{stem}.json", ""
  return f"{stem}.json", f"{stem}.png"


def publish(study: Study, out: str | os.PathLike[str]) -> None:
  """Writes a study as `write` does, and prints its claims and its files.

  Raises:
    OSError: if a file cannot be written.
  """
  files = write(study, out)
  name = f"{pathlib.Path(out).name}.json"
  results.show({name: study.claims})
  for path in files:
    print(path or "no picture: pip install 'jaxttc[plot]'")
