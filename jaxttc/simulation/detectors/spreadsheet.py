# SPDX-License-Identifier: Apache-2.0
"""Graphs in the layout of the source's spreadsheets, each sheet a CSV file.

A folder holds Detectors.csv, Processors.csv and Global.csv:

* Detectors: Category (the processor that receives), Detector, Data (bytes),
  Sample Rate, Link Efficiency (J/bit), Op Efficiency (J/op), Compression;
* Processors: Name, Output (empty for the root), Data (bytes), Reduction Ratio,
  Classifier, Skill mean, Skill variance, Link Efficiency (J/bit), Op Efficiency
  (J/op), Compression;
* Global: Year.

Further columns are let be, as the release has some.
"""

from collections.abc import Mapping
import csv
import math
import os
import pathlib

from jaxttc.simulation.detectors import classifiers
from jaxttc.simulation.detectors import complexity as complexity_lib
from jaxttc.simulation.detectors import graph as graph_lib

_SHARED = (
  "Data (bytes)",
  "Link Efficiency (J/bit)",
  "Op Efficiency (J/op)",
  "Compression",
)
_DETECTORS = ("Category", "Detector", "Sample Rate", *_SHARED)
_PROCESSORS = (
  "Name",
  "Output",
  "Reduction Ratio",
  "Classifier",
  "Skill mean",
  "Skill variance",
  *_SHARED,
)


def read(
  folder: str | os.PathLike[str],
  *,
  classifier: Mapping[str, classifiers.Classifier] | None = None,
  complexity: Mapping[str, complexity_lib.Complexity] | None = None,
) -> graph_lib.PipelineGraph:
  """Reads the three sheets.

  A reduction ratio of 1 passes everything, whatever the classifier.

  Args:
    folder: that holds them.
    classifier: what a name in the column Classifier stands for, beside Dummy
      and Gaussian (of which Skill variance is the variance).
    complexity: of stages, by name; operations are bytes where it is silent.

  Raises:
    ValueError: if a sheet or column is missing, a cell is not a number, a
      classifier or a stage of `complexity` is unknown, or the graph is not
      valid; file, row and column are named.
  """
  folder = pathlib.Path(folder)
  known = dict(classifier or {})
  stages, links = [], []
  for place, row in _rows(folder / "Detectors.csv", _DETECTORS):
    stages.append(
      graph_lib.Stage(
        name=row["Detector"],
        sample_rate=_number(place, row, "Sample Rate"),
        **_costs(place, row),
      )
    )
    links.append(_link(place, row, row["Detector"], row["Category"]))
  for place, row in _rows(folder / "Processors.csv", _PROCESSORS):
    ratio = _number(place, row, "Reduction Ratio")
    stages.append(
      graph_lib.Stage(
        name=row["Name"],
        reduction=ratio,
        classifier=_classifier(place, row, ratio, known),
        **_costs(place, row),
      )
    )
    if row["Output"]:
      links.append(_link(place, row, row["Name"], row["Output"]))
  stages = _with_complexity(stages, complexity or {})
  (place, row), *_ = _rows(folder / "Global.csv", ("Year",))
  year = _number(place, row, "Year")
  try:
    return graph_lib.create(stages, links, year=year)
  except ValueError as error:
    raise ValueError(f"{folder}: {error}") from None


def _rows(
  path: pathlib.Path, columns: tuple[str, ...]
) -> list[tuple[str, dict[str, str]]]:
  """Rows with the place of each, checked to have the columns."""
  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      reader = csv.DictReader(file)
      missing = [x for x in columns if x not in (reader.fieldnames or ())]
      if missing:
        raise ValueError(f"{path}: there is no column {missing[0]!r}")
      rows = [
        (f"{path}, row {reader.line_num}", {k: _text(row[k]) for k in columns})
        for row in reader
        if any(_text(row[k]) for k in columns)
      ]
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  if not rows:
    raise ValueError(f"{path}: expected at least one row")
  return rows


def _text(cell: str | None) -> str:
  text = (cell or "").strip()
  return "" if text.lower() == "nan" else text


def _number(place: str, row: Mapping[str, str], column: str) -> float:
  try:
    number = float(row[column])
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(
      f"{place}, column {column!r}: expected a number, got {row[column]!r}"
    )
  return number


def _costs(place: str, row: Mapping[str, str]) -> dict[str, float]:
  return {
    "data_bytes": _number(place, row, "Data (bytes)"),
    "op_energy": _number(place, row, "Op Efficiency (J/op)"),
    "compression": _number(place, row, "Compression"),
  }


def _link(
  place: str, row: Mapping[str, str], source: str, target: str
) -> graph_lib.Link:
  energy = _number(place, row, "Link Efficiency (J/bit)")
  return graph_lib.Link(source=source, target=target, energy=energy)


def _classifier(
  place: str,
  row: Mapping[str, str],
  ratio: float,
  known: Mapping[str, classifiers.Classifier],
) -> classifiers.Classifier:
  name = row["Classifier"]
  if name not in ("Dummy", "Gaussian", *known):
    raise ValueError(
      f"{place}, column 'Classifier': {name!r} is none of "
      f"{', '.join(('Dummy', 'Gaussian', *known))}; pass classifier="
    )
  if ratio == 1 or name == "Dummy":
    return classifiers.Pass()
  if name in known:
    return known[name]
  return classifiers.Gaussian(
    skill=_number(place, row, "Skill mean"),
    variance=_number(place, row, "Skill variance"),
  )


def _with_complexity(
  stages: list[graph_lib.Stage],
  complexity: Mapping[str, complexity_lib.Complexity],
) -> list[graph_lib.Stage]:
  unknown = set(complexity) - {stage.name for stage in stages}
  if unknown:
    raise ValueError(f"complexity: there is no stage {min(unknown)!r}")
  return [
    stage.replace(complexity=complexity.get(stage.name, stage.complexity))
    for stage in stages
  ]
