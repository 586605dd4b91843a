# SPDX-License-Identifier: Apache-2.0
"""What each of several models scored on each question, and what it cost."""

from collections.abc import Sequence
import dataclasses
import difflib
from typing import Any

from jaxtyping import Float
import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingTable:
  """Questions by models: the data that a router learns from.

  Attributes:
    prompts: the N questions.
    models: the names of the K models, K >= 2, all different.
    scores: f64[N, K], how good each answer was; NaN where it is not known.
    costs: f64[N, K], what each answer cost, in `unit`; finite, not negative.
    unit: what costs are counted in, e.g. "dollars".
    labels: N names that say where a question comes from, or (). They are for
      reports and splits; no router sees them.
    embeddings: f32[N, D] that came with the data, or None.
    answers: N rows of K answer texts, or ().

  Raises:
    ValueError: if there are no questions, fewer than two models, shapes that
      disagree, a model without any score, or a cost that cannot be.
  """

  prompts: tuple[str, ...]
  models: tuple[str, ...]
  scores: Float[np.ndarray, "N K"]
  costs: Float[np.ndarray, "N K"]
  unit: str
  labels: tuple[str, ...] = ()
  embeddings: Float[np.ndarray, "N D"] | None = None
  answers: tuple[tuple[str, ...], ...] = ()

  def __post_init__(self) -> None:
    shape = (len(self.prompts), len(self.models))
    if shape[0] == 0:
      raise ValueError("routing table: expected at least one question, got 0")
    if shape[1] < 2:
      raise ValueError(
        f"routing table: expected at least 2 models, got {shape[1]}"
      )
    if len(set(self.models)) < shape[1]:
      raise ValueError("routing table: two models have one name")
    object.__setattr__(self, "scores", self._matrix("scores", shape))
    object.__setattr__(self, "costs", self._matrix("costs", shape))
    self._check_values()
    for name in ("labels", "embeddings", "answers"):
      rows = getattr(self, name)
      if rows is not None and len(rows) not in (0, shape[0]):
        raise ValueError(
          f"routing table: {len(rows)} rows of {name} for {shape[0]} questions"
        )

  def _matrix(self, name: str, shape: tuple[int, int]) -> np.ndarray:
    values = np.asarray(getattr(self, name), np.float64)
    if values.shape != shape:
      raise ValueError(
        f"routing table: expected {name} of shape {list(shape)} "
        f"[questions, models], got {list(values.shape)}"
      )
    return values

  def _check_values(self) -> None:
    unknown = np.isnan(self.scores).all(0)
    if unknown.any():
      name = self.models[int(unknown.argmax())]
      raise ValueError(f"routing table: no question has a score of {name!r}")
    for name, bad in (
      ("score", np.isinf(self.scores)),
      ("cost", ~np.isfinite(self.costs) | (self.costs < 0)),
    ):
      if bad.any():
        row, column = np.argwhere(bad)[0]
        value = getattr(self, f"{name}s")[row, column]
        raise ValueError(
          f"routing table: {name} {value} of model {self.models[column]!r} on "
          f"question {row}; expected a finite number"
          + (" that is not negative" if name == "cost" else "")
        )

  def __len__(self) -> int:
    return len(self.prompts)

  def index(self, model: str) -> int:
    """The column of a model.

    Raises:
      ValueError: if there is no such model.
    """
    if model not in self.models:
      near = difflib.get_close_matches(model, self.models, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else ""
      raise ValueError(
        f"unknown model {model!r}{hint} (known: {', '.join(self.models)})"
      )
    return self.models.index(model)

  def take(self, rows: Any) -> "RoutingTable":
    """The table of some questions, by their places i64[M] or bool[N]."""
    places = np.arange(len(self))[np.asarray(rows)]

    def pick(values: Any) -> tuple[Any, ...]:
      return tuple(values[place] for place in places) if values else ()

    kept = None if self.embeddings is None else self.embeddings[places]
    return dataclasses.replace(
      self,
      prompts=pick(self.prompts),
      scores=self.scores[places],
      costs=self.costs[places],
      labels=pick(self.labels),
      embeddings=kept,
      answers=pick(self.answers),
    )

  def only(self, models: Sequence[str]) -> "RoutingTable":
    """The table of some models, in the order asked for.

    Raises:
      ValueError: if a model is unknown, or fewer than two are left.
    """
    columns = [self.index(model) for model in models]
    return dataclasses.replace(
      self,
      models=tuple(models),
      scores=self.scores[:, columns],
      costs=self.costs[:, columns],
      answers=tuple(tuple(row[c] for c in columns) for row in self.answers),
    )
