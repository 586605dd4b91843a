# SPDX-License-Identifier: Apache-2.0
"""Fits a budget policy to what decoders did on calibration questions.

What it learns from is a table: for each arm (a decoder with a cap), question
and seed, whether the answer was right and how many tokens it took. Inner folds
of these questions choose the kind of head, and then the decoders: one after
the other, the one that adds most to what the budgets buy, until none adds
enough. Each decoder that is left out is one less to compile. At last they say
whether the policy gets a cascade (`cascade_fitting`).

A question unlike all of the fit gets one fixed decoder: the one that was best
for all questions alike, with mean forecasts.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int
import numpy as np

from jaxttc.allocators import routing as allocation
from jaxttc.allocators.routing import rungs
from jaxttc.evaluation import routing_curves
from jaxttc.predictors import routing as predictors
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  cascade_fitting,
  cost_laws,
  policy_cascades,
)
from jaxttc.tasks import routing as tasks

_PRICES = 96


@dataclasses.dataclass(kw_only=True)
class FitOptions:
  """How a policy is fitted.

  Attributes:
    heads: texts of heads to choose from; see `predictors.routing.head`.
    field: of the cost that budgets limit.
    budgets: its means a question at which a policy is judged.
    decoders: most decoders of a policy.
    strange: share of the questions that may count as unlike the others; such
      ones get mean forecasts (`predictors.routing.familiar`).
    fixed: whether these get the best fixed decoder alone, not the best by mean
      forecasts of all arms.
    cascade: whether answers are looked at, and how.
    enough: least rise of the mean score that a further decoder must bring.
    folds: inner folds.
    bits: of the hashed n-grams.
    rank: singular vectors of the hashed n-grams.
    seed: of folds and fits.
  """

  heads: tuple[str, ...] = ("knn(k=10)", "knn(k=20)", "forest(trees=60)")
  field: str = "generated_tokens"
  budgets: tuple[float, ...] = (40.0, 60.0, 80.0, 120.0, 160.0, 240.0)
  decoders: int = 4
  strange: float = 0.01
  fixed: bool = True
  cascade: cascade_fitting.CascadeOptions = dataclasses.field(
    default_factory=cascade_fitting.CascadeOptions
  )
  enough: float = 0.003
  folds: int = 4
  bits: int = 9
  rank: int = 16
  seed: int = 0

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.cascade.check()
    if not self.heads:
      raise ValueError("heads: expected at least one")
    for text in self.heads:
      predictors.head(text)
    if not self.budgets or not min(self.budgets) > 0:
      raise ValueError(f"budgets={self.budgets} must be positive, at least one")
    if not 0 <= self.strange < 1:
      raise ValueError(f"strange={self.strange} must lie in [0, 1)")
    if self.decoders < 1 or self.folds < 2 or not self.enough >= 0:
      raise ValueError(
        "expected decoders >= 1, folds >= 2 and enough >= 0, got "
        f"{self.decoders}, {self.folds} and {self.enough}"
      )


class Fitted(NamedTuple):
  """What was learnt from a table.

  Attributes:
    arms: i64[k], places of the arms that are left in the table.
    embed: questions to vectors.
    success: head of the probability of a right answer, of these arms.
    share: head of tokens over caps, of these arms.
    head: text of the head that the inner folds chose.
    score: mean score over the budgets, by inner folds.
    laws: what these arms cost on other fields; None if that is not known.
    cascade: how their answers are looked at; None for not at all.
    candidates: mean scores of the cascades that were tried, by inner folds.
  """

  arms: Int[np.ndarray, " k"]
  embed: predictors.hashed_ngrams.HashedNgrams
  success: predictors.Head
  share: predictors.Head
  head: str
  score: float
  laws: cost_laws.CostLaws | None
  cascade: policy_cascades.Cascade | None
  candidates: dict[str, float]

  def predict(
    self, questions: Sequence[str], caps: Int[np.ndarray, " K"]
  ) -> budget_policies.Predicted:
    """Forecasts of the arms that are left, given the caps of all."""
    x = self.embed(questions)
    return budget_policies.bounded(
      predictors.predict(self.success, x),
      predictors.predict(self.share, x),
      caps[self.arms],
    )


def fit(
  table: arm_tables.ArmTable, groups: Int[np.ndarray, " N"], options: FitOptions
) -> Fitted:
  """Chooses head and decoders by inner folds, and fits them on everything.

  Args:
    table: the calibration questions.
    groups: i64[N]; questions of one group are never on both sides of a fold.
    options: how.

  Raises:
    ValueError: if the options cannot be, or there are fewer groups than folds.
  """
  options.check()
  right, tokens = table.right.mean(0), table.tokens.mean(0)
  spent, laws = table.spent(options.field).mean(0), fitted_laws(table)
  folds = list(tasks.folds(groups, options.folds, options.seed))
  judge = _Judge(right, spent, table.groups, options.budgets)
  best = None
  for text in options.heads:
    guess = _out_of_fold(text, table, folds, options)
    priced = _priced(guess, laws, table, options)
    score = judge.score(priced, judge.groups >= 0)
    if best is None or score > best[0]:
      best = score, text, guess
  assert best is not None  # check() saw that there are heads
  _, text, guess = best
  priced = _priced(guess, laws, table, options)
  chosen, score = _choose_decoders(judge, priced, options)
  arms = np.flatnonzero(np.isin(table.groups, chosen))
  arms = arms[_different(right[:, arms], tokens[:, arms])]
  found = cascade_fitting.choose(
    table, guess, arms, options.cascade, field=options.field, laws=laws
  )
  arms = found.arms
  embed = _embedder(table.questions, options)
  success, share = _fit_heads(
    text, embed(table.questions), table, arms, options
  )
  if options.fixed:
    only = _fixed_decoder(table.only(arms), options)
    success = success.replace(means=jnp.where(only, success.means, 0.0))
  return Fitted(
    arms,
    embed,
    success,
    share,
    text,
    score,
    fitted_laws(table.only(arms)),
    found.cascade,
    found.scores,
  )


def fitted_laws(table: arm_tables.ArmTable) -> cost_laws.CostLaws | None:
  """What the arms of a table cost on other fields; None if it says nothing."""
  if table.costs is None:
    return None
  arms, fields = table.costs.shape[2:]
  return cost_laws.fit(
    arm_tables.FIELDS,
    table.tokens.reshape(-1, arms),
    table.costs.reshape(-1, arms, fields),
  )


def _priced(guess, laws, table, options) -> budget_policies.Predicted:
  """Forecasts of success and of the field that budgets limit."""
  if options.field == "generated_tokens":
    return guess
  cost = cost_laws.expected(laws, (options.field,), guess.tokens, table.caps)
  return budget_policies.Predicted(guess.success, cost[..., 0])


def _fixed_decoder(table, options) -> Bool[np.ndarray, " k"]:
  """The arms of the decoder that is best for all questions alike."""
  right = table.right.mean((0, 1))
  spent = table.spent(options.field).mean((0, 1))

  def worth(group: int) -> float:
    mask = table.groups == group
    odds = [rungs.mixture(right, spent, mask, each) for each in options.budgets]
    return float(np.mean([each @ right for each in odds]))

  return table.groups == max(np.unique(table.groups).tolist(), key=worth)


def _embedder(questions, options):
  return predictors.hashed_ngrams.fit(
    questions, bits=options.bits, rank=options.rank, surface=0.5
  )


def _fit_heads(text, x, table, arms, options):
  """Heads of success and of the share of the cap, of some arms."""
  key = jax.random.key(options.seed)
  targets = table.right.mean(0), table.tokens.mean(0) / table.caps
  return [
    predictors.familiar.fit_familiar(
      predictors.head(text),
      x,
      target[:, arms],
      jax.random.fold_in(key, number),
      strange=options.strange,
    )
    for number, target in enumerate(targets)
  ]


def _out_of_fold(text, table, folds, options) -> budget_policies.Predicted:
  """Forecasts of each question by a fit that never saw it."""
  shape = table.right.shape[1:]
  success, tokens = np.full(shape, np.nan), np.full(shape, np.nan)
  arms = np.arange(shape[1])
  for train, held_out in folds:
    part = table.take(train)
    embed = _embedder(part.questions, options)
    heads = _fit_heads(text, embed(part.questions), part, arms, options)
    x = embed([table.questions[row] for row in held_out])
    success[held_out], tokens[held_out] = budget_policies.bounded(
      *(predictors.predict(head, x) for head in heads), table.caps
    )
  return budget_policies.Predicted(success, tokens)


class _Judge:
  """Scores forecasts by what budgets buy with them."""

  def __init__(self, right, spent, groups, budgets):
    none = np.zeros((len(right), 1))
    self._right = np.concatenate([right, none], 1)
    self._spent = np.concatenate([spent, none], 1)
    self._budgets = np.asarray(budgets, np.float64)
    self._prices = routing_curves.prices(self._spent, _PRICES)
    self.groups = groups

  def score(
    self, guess: budget_policies.Predicted, arms: Bool[np.ndarray, " K"]
  ) -> float:
    """Mean over the budgets of the score that they buy, with some arms."""
    none = np.zeros((len(guess.success), 1), np.float32)
    forecast = predictors.Forecast(
      *(np.concatenate([part, none], 1).astype(np.float32) for part in guess)
    )
    chosen = allocation.sweep(forecast, self._prices, np.append(arms, True))
    curve = routing_curves.curve(chosen, self._right, self._spent, self._prices)
    hull = routing_curves.hull(curve.cost, curve.score)
    return float(np.mean(hull.at(self._budgets)))


def _choose_decoders(judge, guess, options) -> tuple[list[int], float]:
  """Forward selection; returns places of decoders and the score."""
  chosen: list[int] = []
  reached = 0.0
  while len(chosen) < options.decoders:
    left = sorted(set(judge.groups.tolist()) - set(chosen))
    scores = [
      judge.score(guess, np.isin(judge.groups, [*chosen, one])) for one in left
    ]
    if not left or (chosen and max(scores) < reached + options.enough):
      break
    chosen.append(left[int(np.argmax(scores))])
    reached = max(scores)
  return chosen, reached


def _different(right, tokens) -> Bool[np.ndarray, " K"]:
  """Which arms are not the same, question by question, as one before."""
  both = np.concatenate([right, tokens])
  seen: set[bytes] = set()
  kept = []
  for column in both.T:
    kept.append(column.tobytes() not in seen)
    seen.add(column.tobytes())
  return np.array(kept)
