# SPDX-License-Identifier: Apache-2.0
"""What splits of compute were worth on pilot pools, in one JSON file.

A solver's votes and a verifier's choices among S solutions of V verifications
each, measured once (`verification_curves`), tell how to split later budgets of
the same two models. The study of voting against verifying writes one
(scripts/study_verification.py --export).
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc.allocators import solve_or_verify
from jaxttc.cost import tariff as tariff_lib
from jaxttc.cost import verification_tariff
from jaxttc.evaluation import verification_curves
from jaxttc.solving import solve_recipe

_KIND = "measured_splits"
_SHIPPED = pathlib.Path(__file__).parent.parent / "pretrained"
_TOKENS = ("solution_tokens", "verification_tokens", "read_tokens")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSplits:
  """Success rates of splits, means over pilot problems.

  Attributes:
    models: fingerprints of the solver and of the verifier.
    style: how solutions are asked for, one of `tasks.problems.STYLES`.
    sampling: how both are sampled.
    solution_tokens: T_s, mean of a solution.
    verification_tokens: T_v, mean of a verification.
    read_tokens: mean that a verifier reads: problem, solution and request.
    voted: of plain votes, one row.
    surfaces: by method (`verification_curves.METHODS`), one row each.
    origin: in words, what it was measured on.

  Raises:
    ValueError: if a number of tokens is not positive, or there is no surface.
  """

  models: tuple[str, str]
  style: str
  sampling: solve_recipe.SamplingOptions
  solution_tokens: float
  verification_tokens: float
  read_tokens: float
  voted: verification_curves.Votes
  surfaces: Mapping[str, verification_curves.Surface]
  origin: str = ""

  def __post_init__(self) -> None:
    for name in _TOKENS:
      if not 0 < getattr(self, name) < np.inf:
        raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
    if not self.surfaces or not set(self.surfaces) <= set(
      verification_curves.METHODS
    ):
      raise ValueError(
        f"surfaces of {sorted(self.surfaces)}: expected some of "
        f"{', '.join(verification_curves.METHODS)}"
      )

  def costs(
    self, policy: tariff_lib.Tariff, verifier: tariff_lib.Tariff
  ) -> solve_or_verify.SplitCosts:
    """FLOPs of solutions and verifications of mean length, as parameters.

    Args:
      policy: price list of the solver's tokens.
      verifier: of the verifier's model.
    """
    written, checked = round(self.solution_tokens), self.verification_tokens
    read = round(self.read_tokens)
    once = verification_tariff.VerificationTariff(
      model=verifier, samples=1, limit=round(checked)
    )
    both = once.spent(read, [round(checked)]).flops
    reading = once.spent(read, []).flops
    writing = both - reading
    solution = policy.price(written, max(read - written, 0)).flops
    each = writing / (2 * checked)
    return solve_or_verify.SplitCosts(
      solution_tokens=self.solution_tokens,
      verification_tokens=checked,
      solver_parameters=solution / (2 * self.solution_tokens),
      verifier_parameters=each,
      prefix_tokens=reading / (2 * each),
      prefill="cached",
    )

  def described(self) -> dict[str, Any]:
    """All fields, JSON-ready."""
    return {
      "kind": _KIND,
      "models": list(self.models),
      "style": self.style,
      "sampling": self.sampling.identity(),
      **{name: float(getattr(self, name)) for name in _TOKENS},
      "voted": _listed(self.voted),
      "surfaces": {name: _listed(each) for name, each in self.surfaces.items()},
      "origin": self.origin,
    }


def _listed(found: verification_curves.Votes | verification_curves.Surface):
  grids = {name: grid.tolist() for name, grid in found._asdict().items()}
  # Means only: what is kept of the problems is how many were right.
  return grids | {"values": np.round(found.values.mean(0), 6).tolist()}


def save(measured: MeasuredSplits, path: str | os.PathLike[str]) -> None:
  """Writes one JSON file.

  Raises:
    ValueError: if it cannot be written.
  """
  file = pathlib.Path(path)
  text = json.dumps(measured.described(), indent=1) + "\n"
  try:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
  except OSError as error:
    raise ValueError(f"{file}: cannot be written: {error.strerror}") from None


def load(name: str | os.PathLike[str]) -> MeasuredSplits:
  """Reads what `save` wrote.

  Args:
    name: a file, or the name of one that ships.

  Raises:
    ValueError: if it is missing, damaged, or something else.
  """
  file = pathlib.Path(name)
  if not file.suffix:
    file = _SHIPPED / f"{file.name}.json"
  try:
    about = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{file}: expected a JSON file of measured splits: {error}"
    ) from None
  if not isinstance(about, dict) or about.get("kind") != _KIND:
    raise ValueError(
      f"{file}: holds no measured splits; expected a file of "
      "scripts/study_verification.py --export"
    )
  try:
    solver, verifier = about["models"]
    return MeasuredSplits(
      models=(str(solver), str(verifier)),
      style=str(about["style"]),
      sampling=solve_recipe.SamplingOptions.from_identity(about["sampling"]),
      voted=verification_curves.Votes(
        *_arrays(about["voted"], ("solutions",)),
      ),
      surfaces={
        name: verification_curves.Surface(
          *_arrays(each, ("solutions", "verifications"))
        )
        for name, each in about["surfaces"].items()
      },
      origin=str(about["origin"]),
      **{name: float(about[name]) for name in _TOKENS},
    )
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(f"{file}: damaged measured splits: {error}") from None


def _arrays(about: Mapping[str, Any], grids: tuple[str, ...]):
  """The grids, and the values of one row."""
  found = [np.asarray(about[name], np.int64) for name in grids]
  values = np.asarray(about["values"], np.float64)[None]
  shape = (1, *(grid.size for grid in found))
  if values.shape != shape or not ((values >= 0) & (values <= 1)).all():
    raise ValueError(
      f"expected success rates of shape {shape}, got {values.shape}"
    )
  for grid in found:
    if not grid.size or grid[0] != 1 or (np.diff(grid) <= 0).any():
      raise ValueError(f"expected a grid that rises from 1, got {grid}")
  return *found, values
