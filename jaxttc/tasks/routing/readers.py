# SPDX-License-Identifier: Apache-2.0
"""Readers of routing data in JSON and JSON lines.

What cannot be used is refused, in one line that names the file and the place.
"""

from collections.abc import Mapping, Sequence
import json
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from jaxttc.tasks import jsonl, row_files
from jaxttc.tasks.routing import table as table_lib

_Path = str | os.PathLike[str]
Prices = Mapping[str, float | int]

_PARAMETERS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", re.I)
_SAMPLES = {"verification": 100}  # a verifier chose among so many solutions
PARAMETERS = "billion parameters"


def parameters(model: str) -> float:
  """Billions of parameters, as a model's name tells: 7 of "qwen2.5-7b".

  Raises:
    ValueError: if the name has no such part, or more than one.
  """
  found = _PARAMETERS.findall(model.replace("_", "-"))
  if len(found) != 1 or float(found[0]) <= 0:
    raise ValueError(
      f"model {model!r}: expected a name with one size, as in 'gemma-2-9b-it'; "
      "else give prices"
    )
  return float(found[0])


def load_scores(
  path: _Path, *, prices: Prices | None = None
) -> table_lib.RoutingTable:
  """Reads a JSON list of {question, scores: {model: number}, cluster_id}.

  The file is one of ulab-uiuc/LLMRouter's. Its cluster_id was made from the
  scores (all questions that hardly any model answers share one), so it is kept
  as a label, for reports: as a feature it would give the answer away.

  Args:
    path: the file.
    prices: what a call of each model costs; None: its billions of parameters,
      as the names tell.

  Raises:
    ValueError: naming the file and the row, if it is not such a list, a row
      lacks a question or scores, or a score is no number in [0, 1].
  """
  rows = _json_list(path)
  models = _models(rows[0], path)
  scores = np.full((len(rows), len(models)), np.nan)
  for number, row in enumerate(rows):
    where = f"{path}, row {number}"
    if not isinstance(row, dict) or not isinstance(row.get("scores"), dict):
      raise ValueError(f"{where}: expected an object with question and scores")
    if not isinstance(row.get("question"), str) or not row["question"].strip():
      raise ValueError(f"{where}: no text in field 'question'")
    for model, value in row["scores"].items():
      if model not in models:
        raise ValueError(f"{where}: model {model!r} is not in row 0")
      column = models.index(model)
      scores[number, column] = score(value, f"{where}, model {model!r}")
  return table_lib.RoutingTable(
    prompts=tuple(row["question"] for row in rows),
    models=models,
    scores=scores,
    labels=tuple(str(row.get("cluster_id", "")) for row in rows),
    **priced(models, len(rows), prices),
  )


def load_solutions(
  path: _Path, *, prices: Prices | None = None
) -> table_lib.RoutingTable:
  """Reads graded solutions as published with GSM8K; the texts are `answers`.

  Rows hold question, ground_truth and, under each system's name, solution and
  is_correct. A system with "verification" in its name draws 100 solutions, and
  costs as much.

  Args:
    path: the file, ".gz" or plain.
    prices: what one solution of each system costs; None: its billions of
      parameters, as the names tell, times its solutions.

  Raises:
    ValueError: as `jsonl.load_labelled_solutions`; or if a question lacks a
      system that another one has.
  """
  solutions = jsonl.load_labelled_solutions(path)
  models = tuple(dict.fromkeys(s.system for s in solutions))
  by_question: dict[str, dict[str, jsonl.LabelledSolution]] = {}
  for solution in solutions:
    by_question.setdefault(solution.question_id, {})[solution.system] = solution
  for question, held in by_question.items():
    for model in models:
      if model not in held:
        raise ValueError(f"{path}: {question} has no solution of {model!r}")
  if prices is None:
    prices = {m: parameters(m) * _solutions_drawn(m) for m in models}
  prompts = tuple(row["question"] for _, row in row_files.rows(path))
  rows = list(by_question.values())
  return table_lib.RoutingTable(
    prompts=prompts,
    models=models,
    scores=np.array(
      [[row[m].is_correct for m in models] for row in rows], float
    ),
    answers=tuple(tuple(row[m].text for m in models) for row in rows),
    **priced(models, len(rows), prices),
  )


def load_long(
  path: _Path, *, prices: Prices | None = None
) -> table_lib.RoutingTable:
  """Reads JSON lines of one (query, model) pair each.

  Fields: query, model_name, performance, and if present cost, task_name and
  embedding_id (kept out: it points into another file). Pairs that no line
  gives have no score; their cost is the model's mean.

  Args:
    path: the file, ".gz" or plain.
    prices: what a call of each model costs; None: field cost of each line.

  Raises:
    ValueError: naming the file and the line, if a field is missing or not
      valid, or a pair comes twice.
  """
  scores: dict[tuple[str, str], float] = {}
  costs: dict[tuple[str, str], float] = {}
  labels: dict[str, str] = {}
  for number, row in row_files.rows(path):
    where = f"{path}, line {number}"
    pair = _field(row, "query", where), _field(row, "model_name", where)
    if pair in scores:
      raise ValueError(f"{where}: model {pair[1]!r} has this query twice")
    scores[pair] = score(row.get("performance"), f"{where}, performance")
    if prices is None:
      costs[pair] = cost(row.get("cost"), f"{where}, cost")
    labels.setdefault(pair[0], str(row.get("task_name", "")))
  prompts = tuple(labels)
  models = tuple(dict.fromkeys(model for _, model in scores))
  money = (
    priced(models, len(prompts), prices)
    if prices is not None
    else {"costs": _filled(prompts, models, costs), "unit": "dollars"}
  )
  return table_lib.RoutingTable(
    prompts=prompts,
    models=models,
    scores=np.array(
      [[scores.get((p, m), math.nan) for m in models] for p in prompts]
    ),
    labels=tuple(labels.values()),
    **money,
  )


def priced(
  models: Sequence[str], rows: int, prices: Prices | None
) -> dict[str, Any]:
  """Fields `costs` and `unit` of a table whose models have one price each.

  Raises:
    ValueError: if a price is missing or cannot be, or names tell no size.
  """
  if prices is None:
    each, unit = [parameters(model) for model in models], PARAMETERS
  else:
    missing = [model for model in models if model not in prices]
    if missing:
      raise ValueError(f"no price of model {missing[0]!r}")
    each = [cost(prices[m], f"price of {m!r}") for m in models]
    unit = "price"
  return {"costs": np.tile(each, (rows, 1)), "unit": unit}


def score(value: Any, where: str) -> float:
  """A score in [0, 1], from a number, a truth value or its text.

  Raises:
    ValueError: if it is none.
  """
  words = {"true": 1.0, "false": 0.0}
  if isinstance(value, str) and value.strip().casefold() in words:
    return words[value.strip().casefold()]
  return _number(value, where, "a score in [0, 1]", 1.0)


def cost(value: Any, where: str) -> float:
  """A cost, finite and not negative.

  Raises:
    ValueError: if it is none.
  """
  return _number(value, where, "a cost that is not negative", math.inf)


def _number(value: Any, where: str, what: str, most: float) -> float:
  try:
    number = float(value)
  except (TypeError, ValueError):
    number = math.nan
  if not (0 <= number <= most and math.isfinite(number)):
    raise ValueError(f"{where}: expected {what}, got {value!r}")
  return number


def _filled(prompts, models, costs) -> np.ndarray:
  """f64[N, K]; pairs without a cost have the mean of their model."""
  means = {}
  for model in models:
    means[model] = np.mean([c for (_, m), c in costs.items() if m == model])
  return np.array(
    [[costs.get((p, m), means[m]) for m in models] for p in prompts]
  )


def _field(row: Mapping[str, Any], name: str, where: str) -> str:
  value = row.get(name)
  if not isinstance(value, str) or not value.strip():
    raise ValueError(
      f"{where}: no text in field {name!r}; fields found: {', '.join(row)}"
    )
  return value


def _json_list(path: _Path) -> list[Any]:
  try:
    rows = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
  except ValueError as error:
    raise ValueError(f"{path}: not valid JSON: {error}") from None
  if not isinstance(rows, list) or not rows:
    raise ValueError(f"{path}: expected a JSON list of questions")
  return rows


def _models(row: Any, path: _Path) -> tuple[str, ...]:
  scores = row.get("scores") if isinstance(row, dict) else None
  if not isinstance(scores, dict) or len(scores) < 2:
    raise ValueError(f"{path}, row 0: expected scores of at least two models")
  return tuple(sorted(scores))


def _solutions_drawn(model: str) -> int:
  return next((n for word, n in _SAMPLES.items() if word in model), 1)
