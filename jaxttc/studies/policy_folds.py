# SPDX-License-Identifier: Apache-2.0
"""Budget policies by cross-fitting: each problem by a fit that never saw it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Int
import numpy as np

from jaxttc.solving import (
  arm_tables,
  budget_policies,
  cascade_fitting,
  policy_cascades,
  policy_fitting,
)


class Crossed(NamedTuple):
  """Policies of the folds, each for the problems that it never saw.

  Attributes:
    predicted: f64[N, K] forecasts.
    cascades: how each problem's answers are looked at.
    heads: the head of each fit.
    candidates: scores of the cascades that each fit tried.
  """

  predicted: budget_policies.Predicted
  cascades: list[policy_cascades.Cascade | None]
  heads: list[str]
  candidates: list[dict[str, float]]


def cross_fitted(
  table: arm_tables.ArmTable,
  groups: Int[np.ndarray, " N"],
  splits: Sequence[tuple[np.ndarray, np.ndarray]],
  options: policy_fitting.FitOptions,
  advance: Callable[[], None] = lambda: None,
) -> Crossed:
  """What is said of each problem by a fit without it.

  Args:
    table: what the arms did.
    groups: i64[N], of near-duplicates.
    splits: (training side, test side); the test sides make up all problems.
    options: how to fit.
    advance: called after each fit.
  """
  rows, arms = table.right.shape[1:]
  # An arm that a fold leaves out is worth nothing there, so never chosen.
  success = np.zeros((rows, arms))
  tokens = np.tile(table.caps.astype(np.float64), (rows, 1))
  cascades: list[policy_cascades.Cascade | None] = [None] * rows
  heads, candidates = [], []
  for train, test in splits:
    fitted = policy_fitting.fit(table.take(train), groups[train], options)
    found = fitted.predict([table.questions[r] for r in test], table.caps)
    success[np.ix_(test, fitted.arms)] = found.success
    tokens[np.ix_(test, fitted.arms)] = found.tokens
    wide = cascade_fitting.widened(fitted.cascade, fitted.arms, arms)
    for row in test:
      cascades[row] = wide
    heads.append(fitted.head)
    candidates.append(fitted.candidates)
    advance()
  return Crossed(
    budget_policies.Predicted(success, tokens), cascades, heads, candidates
  )
