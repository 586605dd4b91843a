# SPDX-License-Identifier: Apache-2.0
"""Cells of a comparison: one method, setting, budget and seed, on all problems.

A cell is a file, written whole or not at all, named after all that determines
its content. A run that is killed loses at most the cell it was in; a run with
more methods, budgets or seeds finds the old cells and adds to them.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import tempfile
from typing import Any
import zipfile

import numpy as np

from jaxttc.cost import costs
from jaxttc.evaluation import looks


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellId:
  """What determines a cell.

  Attributes:
    method: label of the method.
    setting: its configuration in words.
    budget: generated tokens a problem may take.
    seed: of all sampling.
    decoder: the decoder, spelt out.
    temperature: of the sampler.
    control: the negative control that scored; "" for the reward model.
    experiment: fingerprint of problems, models and sampling.
  """

  method: str
  setting: str
  budget: int
  seed: int
  decoder: str
  temperature: float
  control: str
  experiment: str

  @property
  def file(self) -> str:
    """The name of the cell's file."""
    # Labels may change without changing what was run.
    content = dataclasses.asdict(self)
    del content["method"], content["setting"]
    text = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    words = f"{self.method}-{self.setting}-{self.budget}-{self.seed}"
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', words)[:80]}-{digest}.npz"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
  """What came of one cell; arrays over the N problems.

  Attributes:
    correct: bool[N].
    cost: f64[N, F], fields of `costs.FIELDS`; seconds is each problem's share
      of the wall time of the problems run with it.
    stop: str[N], why each search ended.
    rounds: i32[N].
    copied: bool[N], taken over from a larger budget, which could not have
      made a difference.
    seen: f64[N, L], fields of `looks.FIELDS`; NaN in cells that were run when
      these were not kept.
  """

  correct: np.ndarray
  cost: np.ndarray
  stop: np.ndarray
  rounds: np.ndarray
  copied: np.ndarray
  seen: np.ndarray

  @classmethod
  def empty(cls, problems: int) -> "Cell":
    """Room for so many problems."""
    return cls(
      correct=np.zeros(problems, bool),
      cost=np.zeros((problems, len(costs.FIELDS))),
      stop=np.full(problems, "", "U24"),
      rounds=np.zeros(problems, np.int32),
      copied=np.zeros(problems, bool),
      seen=np.full((problems, len(looks.FIELDS)), np.nan),
    )

  def field(self, name: str) -> np.ndarray:
    """f64[N], one field of the cost."""
    return self.cost[:, costs.FIELDS.index(name)]

  def unbound_at(self, budget: int, wave: int) -> np.ndarray:
    """Which problems would have gone the same under a smaller budget.

    A round is cut if its worst case exceeds what is left. That cannot have
    been if the tokens of all rounds before the last, and one more worst case,
    fit. (The last round asked for is the empty one that ends the search, so
    a search of two rounds had spent nothing when it asked.)

    Args:
      budget: generated tokens, at most those of the cell.
      wave: the worst case of one round, in tokens.

    Returns:
      bool[N]; never true where the budget would have made a difference.
    """
    before = np.where(self.rounds <= 2, 0, self.field("generated_tokens"))
    return before + wave <= budget

  def copy(self, rows: np.ndarray) -> "Cell":
    """A cell that takes over the problems of a mask bool[N]."""
    found = Cell.empty(len(rows))
    for name in ("correct", "cost", "stop", "rounds", "seen"):
      getattr(found, name)[rows] = getattr(self, name)[rows]
    found.copied[rows] = True
    return found


def load(folder: pathlib.Path, name: CellId) -> Cell | None:
  """The cell, if it has been run; None if it is missing or damaged."""
  path = folder / name.file
  try:
    with open(path, "rb") as file:
      stored = np.load(file, allow_pickle=False)
      fields = {f.name: None for f in dataclasses.fields(Cell)}
      if "seen" not in stored:
        fields["seen"] = Cell.empty(len(stored["correct"])).seen
      return Cell(
        **{
          name: stored[name] if value is None else value
          for name, value in fields.items()
        }
      )
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def save(folder: pathlib.Path, name: CellId, cell: Cell) -> None:
  """Writes a cell, whole or not at all.

  Raises:
    ValueError: if it cannot be written.
  """
  fields: dict[str, Any] = {
    f.name: getattr(cell, f.name) for f in dataclasses.fields(cell)
  }
  described = json.dumps(dataclasses.asdict(name))
  try:
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    try:
      with os.fdopen(handle, "wb") as file:
        np.savez_compressed(file, id=np.array(described), **fields)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, folder / name.file)
    except BaseException:
      pathlib.Path(temporary).unlink(missing_ok=True)
      raise
  except OSError as error:
    raise ValueError(
      f"{folder}: cannot be written: {error.strerror}; the cells there are "
      "kept, and the same command goes on from them"
    ) from None
