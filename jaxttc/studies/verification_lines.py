# SPDX-License-Identifier: Apache-2.0
"""A study's pools on disk: a JSON line a problem, of one recipe."""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from jaxttc.inference import bundle as bundle_lib
from jaxttc.studies import verification_recipe


class Files:
  """Pools on disk, a JSON line a problem, of one recipe."""

  def __init__(
    self, folder: pathlib.Path, recipe: verification_recipe.StudyRecipe
  ):
    self._folder = folder
    folder.mkdir(parents=True, exist_ok=True)
    mark, own = folder / "recipe.txt", _fingerprint(recipe)
    if mark.exists() and mark.read_text(encoding="utf-8") != own:
      raise ValueError(
        f"{folder}: holds pools of another recipe; expected an empty folder"
      )
    mark.write_text(own, encoding="utf-8")

  def read(self, name: str) -> dict[str, dict[str, Any]]:
    """Rows by id; a torn last line is cut off."""
    path = self._folder / name
    if not path.exists():
      return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
      path.write_text(whole, encoding="utf-8")
    rows = {}
    for number, line in enumerate(whole.splitlines(), 1):
      try:
        row = json.loads(line)
        rows[row["id"]] = row
      except (ValueError, KeyError, TypeError):
        raise ValueError(
          f"{path}, line {number}: expected a JSON object of a problem's "
          "samples; delete the file to sample anew"
        ) from None
    return rows

  def add(self, name: str, rows: list[dict[str, Any]]) -> None:
    """Appends rows to a file."""
    with (self._folder / name).open("a", encoding="utf-8") as file:
      file.write("".join(json.dumps(row) + "\n" for row in rows))


def _fingerprint(recipe: verification_recipe.StudyRecipe) -> str:
  """Changes with whatever changes a pool's samples.

  Not with the number of problems, or what only the report reads.
  """
  settings = dataclasses.asdict(recipe)
  for name in (
    "problems",
    "more_verifiers",
    "reader",
    "checks",
    "chunk",
    "grid",
    "small_budget",
    "fit_budgets",
    "test_budgets",
    "resamples",
  ):
    del settings[name]
  digest = hashlib.sha256(repr(sorted(settings.items())).encode())
  for name in (recipe.policy, recipe.verifier):
    bundle = bundle_lib.load(name)
    digest.update(json.dumps(bundle.recipe, sort_keys=True).encode())
  return digest.hexdigest()
