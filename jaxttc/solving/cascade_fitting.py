# SPDX-License-Identifier: Apache-2.0
"""Fits cascades on calibration questions, and says whether one is worth it.

Candidates are replayed on forecasts of questions by fits that never saw them:
the router alone; and the router with a cascade, with or without the arms whose
searches were looked at but that it had not chosen, with further tries counting
for more or less. The best by mean score over the budgets is taken, so that a
policy gets a cascade only where that solves more of its own questions.
"""

from collections.abc import Iterator
import dataclasses
from typing import NamedTuple

from jaxtyping import Bool, Int
import numpy as np

from jaxttc.predictors import answer_trust
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  cost_laws,
  policy_cascades,
  policy_replay,
)

CHOICES = ("best", "never", "always")


@dataclasses.dataclass(kw_only=True)
class CascadeOptions:
  """Which cascades are tried.

  Attributes:
    choose: "best" of all candidates, "never" a cascade or "always" one.
    tries: most tries of a question; at most one a recorded seed.
    discounts: what a forecast gain of a further try may count for.
    budgets: means a question at which candidates are judged, of the field
      that the policy's budgets limit.
    wave: most questions of a wave.
    enough: least rise of the mean score that a cascade must bring.
  """

  choose: str = "best"
  tries: int = 3
  discounts: tuple[float, ...] = (1.0, 0.3, 0.1)
  budgets: tuple[float, ...] = (60.0, 120.0, 240.0)
  wave: int = 32
  enough: float = 0.0

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if self.choose not in CHOICES:
      raise ValueError(
        f"cascade.choose={self.choose!r} is not one of {', '.join(CHOICES)}"
      )
    if self.tries < 2 or self.wave < 1 or not self.enough >= 0:
      raise ValueError(
        "expected cascade.tries >= 2, wave >= 1 and enough >= 0, got "
        f"{self.tries}, {self.wave} and {self.enough}"
      )
    if not self.discounts or not all(0 < d <= 1 for d in self.discounts):
      raise ValueError(
        f"cascade.discounts={self.discounts} must lie in (0, 1], at least one"
      )
    if not self.budgets or not min(self.budgets) >= 1:
      raise ValueError(f"cascade.budgets={self.budgets} must be >= 1")


class Choice(NamedTuple):
  """The arms of a policy, and how it looks at their answers.

  Attributes:
    arms: i64[k], places in the table.
    cascade: of these arms; None for none.
    scores: mean score of each candidate, by a name in words.
  """

  arms: Int[np.ndarray, " k"]
  cascade: policy_cascades.Cascade | None
  scores: dict[str, float]


def choose(
  table: arm_tables.ArmTable,
  guess: budget_policies.Predicted,
  arms: Int[np.ndarray, " k"],
  options: CascadeOptions,
  *,
  field: str = "generated_tokens",
  laws: cost_laws.CostLaws | None = None,
) -> Choice:
  """The best candidate.

  Args:
    table: what the arms did on the calibration questions.
    guess: forecasts f64[N, K] by fits without each question.
    arms: of the router alone.
    options: what is tried.
    field: of the cost, that the options' budgets limit.
    laws: what the table's arms cost on it.

  Raises:
    ValueError: if a cascade is asked for and no two arms were looked at.
  """
  found = [Choice(arms, None, {})] if options.choose != "always" else []
  if options.choose != "never":
    found += _candidates(table, guess, arms, options)
  if not found:
    raise ValueError(
      "cascade: expected searches that say what they showed, and two seeds"
    )
  if len(found) == 1:
    return found[0]
  scores = [_score(table, guess, one, options, field, laws) for one in found]
  margin = [0.0 if one.cascade is None else options.enough for one in found]
  best = found[int(np.argmax(np.array(scores) - margin))]
  names = {_name(one): score for one, score in zip(found, scores, strict=True)}
  return best._replace(scores=names)


def _name(choice: Choice) -> str:
  if choice.cascade is None:
    return "router"
  count, discount = len(choice.arms), choice.cascade.discount
  return f"cascade, {count} arms, gains by {discount:g}"


def _candidates(table, guess, arms, options) -> Iterator[Choice]:
  looked = table.looked
  if len(table.seeds) < 2 or not looked.any():
    return
  wider = np.union1d(arms, np.flatnonzero(looked))
  for chosen in [arms] if len(wider) == len(arms) else [arms, wider]:
    seen = looked[chosen]
    if not seen.any():
      continue
    model = _fitted(table, guess, chosen[seen])
    tries = min(options.tries, len(table.seeds))
    for discount in options.discounts:
      yield Choice(
        chosen, policy_cascades.Cascade(model, seen, tries, discount), {}
      )


def _fitted(table, guess, arms) -> answer_trust.Trust:
  part, caps = table.only(arms), table.caps[arms]
  return answer_trust.fit(
    part.right,
    part.tokens / caps,
    part.seen,
    guess.success[:, arms],
    guess.tokens[:, arms] / caps,
  )


def _score(table, guess, choice: Choice, options, field, laws) -> float:
  """Mean score over budgets, seeds and questions, by replay."""
  rows = len(table.questions)
  replayed = policy_replay.replay(
    budget_policies.Predicted(*(part[:, choice.arms] for part in guess)),
    table.only(choice.arms),
    [{field: budget} for budget in options.budgets],
    options.wave,
    laws=None if laws is None else laws.take(choice.arms),
    cascades=[choice.cascade] * rows,
  )
  return float(replayed.right.mean())


def widened(
  cascade: policy_cascades.Cascade | None,
  arms: Int[np.ndarray, " k"],
  count: int,
) -> policy_cascades.Cascade | None:
  """A cascade of some arms as one of all `count` arms of their table."""
  if cascade is None:
    return None
  looked: Bool[np.ndarray, " K"] = np.zeros(count, bool)
  looked[arms] = cascade.looked
  return cascade._replace(looked=looked)
