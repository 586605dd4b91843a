# SPDX-License-Identifier: Apache-2.0
"""From answers of several models to the same problems, to a router's file.

Each file of answers (`search_solving.solve_to_file`) says in its first line
which problems it is of, which model wrote it, and by which weights; so a router
that is fitted to some files knows all that it needs to be used, and to refuse
what it was not fitted for.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc.cost import costs
from jaxttc.solving import problem_sets, router_files, served_models
from jaxttc.tasks import routing as tasks


def table_of_answers(
  paths: Sequence[str | os.PathLike[str]], field: str = "flops"
) -> tuple[tasks.RoutingTable, dict[str, str]]:
  """What models scored and spent on problems, and their fingerprints.

  Args:
    paths: files of answers, a model each, all of the same problems.
    field: of the cost, one of `cost.costs.FIELDS`.

  Returns:
    The table of the problems that all files have, as they were asked; and the
    fingerprint of each model's weights, by its name.

  Raises:
    ValueError: if there are fewer than two files, a file cannot be read or is
      no file of answers, or they are of other problems or twice of one model.
  """
  costs.check_field(field, "routers' cost")
  if len(paths) < 2:
    raise ValueError(f"expected files of two models at least, got {len(paths)}")
  read = [_read(pathlib.Path(path)) for path in paths]
  names = [name for name, _, _, _ in read]
  if len(set(names)) < len(names):
    raise ValueError(f"two files are of one model: {', '.join(names)}")
  sources = [source for _, _, source, _ in read]
  for path, source in zip(paths, sources, strict=True):
    if source != sources[0]:
      raise ValueError(
        f"{os.fspath(path)}: is of other problems than {os.fspath(paths[0])}"
      )
  problems = sources[0].load()
  asked = dict(
    zip((p.id for p in problems), sources[0].prompts(problems), strict=True)
  )
  shared = [
    name for name in asked if all(name in rows for _, _, _, rows in read)
  ]
  if not shared:
    raise ValueError("no problem is answered in all of the files")
  scores = [[_score(rows[name]) for _, _, _, rows in read] for name in shared]
  spent = [
    [float(rows[name]["cost"][field]) for _, _, _, rows in read]
    for name in shared
  ]
  table = tasks.RoutingTable(
    prompts=tuple(asked[name] for name in shared),
    models=tuple(names),
    scores=np.array(scores),
    costs=np.array(spent),
    unit=field,
  )
  return table, {name: fingerprint for name, fingerprint, _, _ in read}


def fit_to_file(
  paths: Sequence[str | os.PathLike[str]],
  out: str | os.PathLike[str],
  *,
  head: str = "ridge",
  field: str = "flops",
  seed: int = 0,
) -> router_files.RouterFile:
  """Fits a router to files of answers, by n-grams, and writes it.

  Args:
    paths: as `table_of_answers`; the models are tried in this order where
      scores and costs are equal.
    out: the router's file, which ends in .npz.
    head: names the head (`predictors.routing.head`).
    field: of the cost.
    seed: of the fit.

  Raises:
    ValueError: as `table_of_answers`, `router_files.fit` and `.save`.
  """
  table, models = table_of_answers(paths, field)
  file = router_files.fit(table, models, head, seed=seed)
  router_files.save(file, out)
  return file


def _read(
  path: pathlib.Path,
) -> tuple[str, str, problem_sets.ProblemSource, dict[str, dict[str, Any]]]:
  """Model, fingerprint, problems, and rows by their ids."""
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
    header, *rows = [json.loads(line) for line in lines]
    recipe = header["recipe"]
    policy, width = str(recipe["policy"]), float(recipe["width"])
    known = {
      field.name for field in dataclasses.fields(problem_sets.ProblemSource)
    }
    fields = {k: v for k, v in recipe["problems"].items() if k in known}
    fields["steps"] = tuple(fields["steps"])
    source = problem_sets.ProblemSource(**fields)
    found = {row["id"]: row for row in rows}
    fingerprint = str(header["policy"])
  except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
    raise ValueError(f"{path}: is no file of answers: {error}") from None
  if served_models.is_url(policy) or router_files.is_router(policy):
    raise ValueError(
      f"{path}: is of {policy!r}; expected a model of this process"
    )
  name = policy if width == 1 else f"{policy}@{width:g}"
  return name, fingerprint, source, found


def _score(row: dict[str, Any]) -> float:
  return np.nan if row["correct"] is None else float(row["correct"])
