# SPDX-License-Identifier: Apache-2.0
"""Graphs as JSON and YAML.

    {"year": 2032,
     "stages": [
       {"name": "sensor", "sample_rate": 4e7, "data_bytes": 1e6},
       {"name": "trigger", "reduction": 400, "op_energy": 0.003,
        "classifier": {"kind": "gaussian", "skill": 2.0},
        "complexity": {"kind": "linear", "per_byte": 5e-7}}],
     "links": [{"source": "sensor", "target": "trigger", "energy": 2e-11}]}

Fields are those of `Stage`, `Link` and `PipelineGraph`; what is left out has
its default. Classifiers are of kind pass, gaussian, empirical (scores,
irrelevant, relevant) or roc (false_positives, true_positives); complexities of
kind linear, polynomial or table.
"""

from collections.abc import Callable, Mapping
import dataclasses
import difflib
import inspect
import json
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc.simulation.detectors import classifiers, complexity
from jaxttc.simulation.detectors import graph as graph_lib

_CLASSIFIERS: dict[str, Callable[..., Any]] = {
  "pass": classifiers.Pass,
  "gaussian": classifiers.Gaussian,
  "empirical": classifiers.empirical,
  "roc": classifiers.from_roc,
}
_COMPLEXITIES: dict[str, Callable[..., Any]] = {
  "linear": complexity.Linear,
  "polynomial": complexity.Polynomial,
  "table": complexity.table,
}
_KINDS = {
  classifiers.Pass: "pass",
  classifiers.Gaussian: "gaussian",
  classifiers.Empirical: "empirical",
  complexity.Linear: "linear",
  complexity.Polynomial: "polynomial",
  complexity.Table: "table",
}
_GRAPH_FIELDS = ("stages", "links")


def from_dict(content: Any) -> graph_lib.PipelineGraph:
  """A graph from a mapping of plain values, as JSON or YAML hold them.

  Raises:
    ValueError: if a field is missing, unknown or not a number, or the graph
      is not valid; the stage or link is named.
  """
  _require_mapping(content, "graph")
  rest = {k: v for k, v in content.items() if k not in _GRAPH_FIELDS}
  _check_fields(rest, graph_lib.create, "graph", skip=_GRAPH_FIELDS)
  for field in rest:
    _require_number(rest[field], f"graph: {field}", none=field == "prevalence")
  stages = [
    _stage(entry, f"stages[{row}]")
    for row, entry in enumerate(_entries(content, "stages"))
  ]
  links = [
    _link(entry, f"links[{row}]")
    for row, entry in enumerate(_entries(content, "links"))
  ]
  return graph_lib.create(stages, links, **rest)


def to_dict(graph: graph_lib.PipelineGraph) -> dict[str, Any]:
  """A graph as plain values; `from_dict` of them is the same graph."""
  return _plain(graph) | {
    "stages": [_plain(stage) for stage in graph.stages],
    "links": [_plain(link) for link in graph.links],
  }


def read(path: str | os.PathLike[str]) -> graph_lib.PipelineGraph:
  """A graph from a .json, .yaml or .yml file.

  Raises:
    ValueError: if the file is missing, of another kind, not well formed, or
      its graph is not valid; the file is named, and the line if it is known.
  """
  path = pathlib.Path(path)
  try:
    text = path.read_text(encoding="utf-8")
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  if path.suffix == ".json":
    parse = _parse_json
  elif path.suffix in (".yaml", ".yml"):
    parse = _parse_yaml
  else:
    raise ValueError(f"{path}: expected a .json, .yaml or .yml file")
  try:
    return from_dict(parse(text))
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from None


def write(graph: graph_lib.PipelineGraph, path: str | os.PathLike[str]) -> None:
  """Writes a graph as JSON."""
  text = json.dumps(to_dict(graph), indent=1, allow_nan=False)
  pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


def _parse_json(text: str) -> Any:
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    raise ValueError(
      f"line {error.lineno}, column {error.colno}: expected JSON: {error.msg}"
    ) from None


def _parse_yaml(text: str) -> Any:
  import yaml  # Not at the top: only this format needs it.

  try:
    return yaml.safe_load(text)
  except yaml.YAMLError as error:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or "not well formed"
    raise ValueError(f"{place}expected YAML: {problem}") from None


def _entries(content: Mapping[str, Any], field: str) -> list[Any]:
  entries = content.get(field, [])
  if not isinstance(entries, list):
    raise ValueError(f"{field}: expected a list, got {entries!r}")
  return entries


def _stage(entry: Any, place: str) -> graph_lib.Stage:
  _require_mapping(entry, place)
  if not isinstance(entry.get("name"), str):
    raise ValueError(f"{place}: expected a name, got {entry.get('name')!r}")
  place = f"stage {entry['name']!r}"
  _check_fields(entry, graph_lib.Stage, place)
  fields = dict(entry)
  for field, kinds in (
    ("classifier", _CLASSIFIERS),
    ("complexity", _COMPLEXITIES),
  ):
    if field in fields:
      fields[field] = _of_kind(fields[field], kinds, f"{place}: {field}")
  for field in set(fields) - {"name", "classifier", "complexity", "loading"}:
    _require_number(
      fields[field], f"{place}: {field}", none=field == "sample_rate"
    )
  if "loading" in fields:
    fields["loading"] = _loading(fields["loading"], place)
  return graph_lib.Stage(**fields)


def _loading(value: Any, place: str) -> tuple[float, float]:
  if not isinstance(value, list) or len(value) != 2:
    raise ValueError(f"{place}: loading: expected two numbers, got {value!r}")
  for number in value:
    _require_number(number, f"{place}: loading")
  return float(value[0]), float(value[1])


def _link(entry: Any, place: str) -> graph_lib.Link:
  _require_mapping(entry, place)
  for end in ("source", "target"):
    if not isinstance(entry.get(end), str):
      raise ValueError(f"{place}: expected a {end}, got {entry.get(end)!r}")
  _check_fields(entry, graph_lib.Link, place)
  for field in set(entry) - {"source", "target"}:
    _require_number(entry[field], f"{place}: {field}")
  return graph_lib.Link(**entry)


def _of_kind(
  entry: Any, kinds: Mapping[str, Callable[..., Any]], place: str
) -> Any:
  _require_mapping(entry, place)
  kind = entry.get("kind")
  if kind not in kinds:
    raise ValueError(
      f"{place}: expected a kind among {', '.join(kinds)}, got {kind!r}"
    )
  fields = {k: v for k, v in entry.items() if k != "kind"}
  _check_fields(fields, kinds[kind], place)
  for field, value in fields.items():
    for number in value if isinstance(value, list) else [value]:
      if not (field == "extrapolate" and isinstance(number, bool)):
        _require_number(number, f"{place}: {field}")
    if isinstance(value, list):
      fields[field] = np.asarray(value, np.float64)
  try:
    return kinds[kind](**fields)
  except (TypeError, ValueError) as error:  # TypeError: a field is missing.
    raise ValueError(f"{place}: {error}") from None


def _check_fields(
  entry: Mapping[str, Any],
  maker: Callable[..., Any],
  place: str,
  skip: tuple[str, ...] = (),
) -> None:
  known = [x for x in inspect.signature(maker).parameters if x not in skip]
  for field in entry:
    if field not in known:
      near = difflib.get_close_matches(str(field), known, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else ""
      raise ValueError(f"{place}: unknown field {field!r}{hint}")


def _require_mapping(entry: Any, place: str) -> None:
  if not isinstance(entry, Mapping):
    raise ValueError(f"{place}: expected fields and values, got {entry!r}")


def _require_number(value: Any, place: str, none: bool = False) -> None:
  if none and value is None:
    return
  if isinstance(value, bool) or not isinstance(value, int | float):
    hint = ""
    if isinstance(value, str) and _is_number(value):
      hint = " (YAML reads 4e7 as text: write 4.0e+7)"
    raise ValueError(f"{place}: expected a number, got {value!r}{hint}")


def _is_number(text: str) -> bool:
  try:
    float(text)
  except ValueError:
    return False
  return True


def _plain(part: Any) -> dict[str, Any]:
  """The fields of a dataclass of numbers as JSON types."""
  fields = {}
  for field in dataclasses.fields(part):
    value = getattr(part, field.name)
    if field.name in _GRAPH_FIELDS:
      continue
    if isinstance(value, tuple):
      fields[field.name] = [float(x) for x in value]
    elif dataclasses.is_dataclass(value):
      fields[field.name] = {"kind": _KINDS[type(value)], **_plain(value)}
    elif isinstance(value, str | bool | int) or value is None:
      fields[field.name] = value
    else:
      fields[field.name] = np.asarray(value).tolist()
  return fields
