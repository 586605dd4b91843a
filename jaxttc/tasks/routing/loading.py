# SPDX-License-Identifier: Apache-2.0
"""Reads a file of routing data, whatever its layout."""

import csv
import os
import pathlib

from jaxttc.tasks import row_files
from jaxttc.tasks.routing import readers, wide_files
from jaxttc.tasks.routing import table as table_lib


def load(
  path: str | os.PathLike[str], *, prices: readers.Prices | None = None
) -> table_lib.RoutingTable:
  """Reads a file whose layout is told by its name and its first row.

  `.json` is `load_scores`; `.jsonl` is `load_solutions` if its first row holds
  graded solutions, else `load_long`; `.csv` is `load_routerbench` if it names
  total costs, else `load_routellm`; `.parquet` is RouterBench's. (Pickles are
  read by `load_routerbench`, which asks for trust.)

  Args:
    path: the file.
    prices: what a call of each model costs, where the layout has no costs;
      None: as the reader has it.

  Raises:
    ValueError: as those readers, or if the name ends in none of these.
  """
  suffix = pathlib.Path(path).suffix
  if suffix == ".json":
    return readers.load_scores(path, prices=prices)
  if suffix == ".jsonl":
    _, row = next(row_files.rows(path))
    solutions = "ground_truth" in row
    reader = readers.load_solutions if solutions else readers.load_long
    return reader(path, prices=prices)
  if suffix == ".csv" and not _names_costs(path):
    return wide_files.load_routellm([path], prices=prices)
  if suffix in (".csv", ".parquet"):
    return wide_files.load_routerbench(path)
  raise ValueError(
    f"{path}: expected a name that ends in .json, .jsonl, .csv or .parquet"
  )


def _names_costs(path: str | os.PathLike[str]) -> bool:
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      header = next(csv.reader(file), [])
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  return any(column.endswith("|total_cost") for column in header)
