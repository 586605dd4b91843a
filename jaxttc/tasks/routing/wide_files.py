# SPDX-License-Identifier: Apache-2.0
"""Readers of published tables: RouterBench, RouteLLM, Chatbot Arena.

CSV needs nothing. RouterBench is published as a pickle of a data frame, which
needs pandas and, because reading a pickle can run any code, the caller's word
that the file is trusted; parquet needs pandas and pyarrow. Both come with the
extra `tables`.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import json
import os
import pathlib
import sys
from typing import Any, NamedTuple

import numpy as np

from jaxttc.tasks.routing import readers
from jaxttc.tasks.routing import table as table_lib

_Path = str | os.PathLike[str]
_COST = "|total_cost"
_RESPONSE = "|model_response"


class Battles(NamedTuple):
  """Votes between two models on one prompt each.

  Attributes:
    prompts: B prompts.
    models: names of the K models.
    first: i64[B], places in `models` of the first of each pair.
    second: i64[B], those of the second.
    outcome: f64[B], 1 if the first won, 0 if the second did, 0.5 for a tie.
  """

  prompts: tuple[str, ...]
  models: tuple[str, ...]
  first: np.ndarray
  second: np.ndarray
  outcome: np.ndarray


def load_routerbench(
  path: _Path, *, trusted: bool = False
) -> table_lib.RoutingTable:
  """Reads RouterBench's wide table: .csv, .parquet or .pkl.

  Columns: prompt, eval_name, and for each model its score under its name and
  its dollars under "<model>|total_cost"; responses are kept as `answers`.

  Args:
    path: the file.
    trusted: whether a pickle may be read; it can run any code.

  Raises:
    ValueError: naming the file, row and column, if something is missing or no
      number, or the pickle is not trusted.
    ImportError: if pandas is needed and not installed.
  """
  rows = _wide_rows(pathlib.Path(path), trusted)
  columns = list(rows[0])
  models = tuple(c[: -len(_COST)] for c in columns if c.endswith(_COST))
  for name in ("prompt", *models):
    if name not in columns:
      raise ValueError(f"{path}: no column {name!r}")
  if len(models) < 2:
    raise ValueError(
      f"{path}: expected columns '<model>{_COST}' of at least two models"
    )

  def matrix(convert, suffix: str) -> np.ndarray:
    return np.array(
      [
        [
          convert(row[m + suffix], f"{path}, row {n}, column {m + suffix!r}")
          for m in models
        ]
        for n, row in enumerate(rows)
      ]
    )

  responses = all(m + _RESPONSE in columns for m in models)
  return table_lib.RoutingTable(
    prompts=tuple(str(row["prompt"]) for row in rows),
    models=models,
    scores=matrix(readers.score, ""),
    costs=matrix(readers.cost, _COST),
    unit="dollars",
    labels=tuple(str(row.get("eval_name", "")) for row in rows),
    answers=tuple(
      tuple(str(row[m + _RESPONSE]) for m in models) for row in rows
    )
    if responses
    else (),
  )


def load_routellm(
  paths: Sequence[_Path], *, prices: readers.Prices | None = None
) -> table_lib.RoutingTable:
  """Reads RouteLLM's tables: column prompt, and one of True/False per model.

  Args:
    paths: the files, e.g. one a subject of MMLU; their stems become labels.
    prices: what a call of each model costs; None: its billions of parameters,
      as the names tell.

  Raises:
    ValueError: naming the file, row and column, if something is missing or no
      truth value, or two files have other models.
  """
  prompts, labels, scores, models = [], [], [], ()
  for path in paths:
    rows = list(_csv_rows(pathlib.Path(path)))
    # The first column may be an index without a name.
    found = tuple(c for c in rows[0] if c and c != "prompt")
    if "prompt" not in rows[0] or len(found) < 2 or found != (models or found):
      raise ValueError(
        f"{path}: expected columns prompt and {', '.join(models) or '<models>'}"
        f", got {', '.join(rows[0])}"
      )
    models = found
    for number, row in enumerate(rows):
      prompts.append(row["prompt"])
      labels.append(pathlib.Path(path).stem)
      scores.append(
        [
          readers.score(row[m], f"{path}, row {number}, column {m!r}")
          for m in models
        ]
      )
  if not prompts:
    raise ValueError("load_routellm: expected at least one file")
  return table_lib.RoutingTable(
    prompts=tuple(prompts),
    models=models,
    scores=np.array(scores),
    labels=tuple(labels),
    **readers.priced(models, len(prompts), prices),
  )


def load_arena(path: _Path) -> Battles:
  """Reads Chatbot Arena's battles (CSV; prompt is a JSON list of turns).

  Columns: model_a, model_b, prompt, winner_model_a, winner_model_b, winner_tie,
  exactly one of the last three being 1.

  Raises:
    ValueError: naming the file and the row, if something is missing or a battle
      has no outcome, or two.
  """
  rows = list(_csv_rows(pathlib.Path(path)))
  wins = ("winner_model_a", "winner_model_b", "winner_tie")
  for name in ("model_a", "model_b", "prompt", *wins):
    if name not in rows[0]:
      raise ValueError(f"{path}: no column {name!r}")
  prompts, outcome = [], []
  for number, row in enumerate(rows):
    where = f"{path}, row {number}"
    flags = [readers.score(row[name], f"{where}, {name}") for name in wins]
    if sorted(flags) != [0, 0, 1]:
      raise ValueError(f"{where}: expected one outcome to be 1, got {flags}")
    if row["model_a"] == row["model_b"]:
      raise ValueError(f"{where}: {row['model_a']!r} meets itself")
    prompts.append(_turns(row["prompt"], where))
    outcome.append((1.0, 0.0, 0.5)[flags.index(1)])
  models = sorted(
    {row[side] for row in rows for side in ("model_a", "model_b")}
  )
  place = {model: i for i, model in enumerate(models)}
  return Battles(
    tuple(prompts),
    tuple(models),
    np.array([place[row["model_a"]] for row in rows]),
    np.array([place[row["model_b"]] for row in rows]),
    np.array(outcome),
  )


def _turns(text: str, where: str) -> str:
  try:
    turns = json.loads(text)
  except ValueError as error:
    raise ValueError(f"{where}: prompt is not valid JSON: {error}") from None
  if not isinstance(turns, list) or not turns:
    raise ValueError(f"{where}: expected prompt to be a JSON list of turns")
  return "\n".join(turn for turn in turns if isinstance(turn, str))


def _wide_rows(path: pathlib.Path, trusted: bool) -> list[Mapping[str, Any]]:
  if path.suffix == ".csv":
    return list(_csv_rows(path))
  if path.suffix == ".pkl" and not trusted:
    raise ValueError(
      f"{path}: reading a pickle can run any code; say trusted=True if you "
      "trust it, or save it as .csv"
    )
  if path.suffix not in (".pkl", ".parquet"):
    raise ValueError(f"{path}: expected .csv, .parquet or .pkl")
  try:
    import pandas
  except ImportError as error:
    raise ImportError(
      f"{path}: needs pandas; install it with: pip install 'jaxttc[tables]'"
    ) from error
  read = pandas.read_pickle if path.suffix == ".pkl" else pandas.read_parquet
  try:
    frame = read(path)
  except ImportError:
    raise
  except Exception as error:  # both readers raise almost anything
    raise ValueError(f"{path}: cannot be read: {error}") from None
  if not isinstance(frame, pandas.DataFrame) or not len(frame):
    raise ValueError(f"{path}: expected a table with rows")
  return frame.to_dict("records")


def _csv_rows(path: pathlib.Path) -> Iterator[dict[str, str]]:
  """The rows of a CSV file with a header; at least one."""
  csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # answers are long
  found = False
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      for row in csv.DictReader(file):
        if None in row or None in row.values():
          raise ValueError(
            "a row has another number of columns than the header"
          )
        found = True
        yield row
  except (OSError, ValueError, csv.Error) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  if not found:
    raise ValueError(f"{path}: no rows")
