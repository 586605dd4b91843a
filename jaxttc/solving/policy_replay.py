# SPDX-License-Identifier: Apache-2.0
"""Runs budget policies on recorded searches: the policy's code, another decode.

A search is a function of its problem, key and budget, so a table of what arms
did (`arm_tables`) says what an attempt would find, whoever asks for it. A
further try has the next seed, as in `policy_solving`.
"""

from collections.abc import Sequence
import itertools
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.predictors import answer_trust
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  cost_laws,
  policy_cascades,
)

_TOKENS = "generated_tokens"
NONE = -1
Limits = dict[str, int | float]


class Replay(NamedTuple):
  """What a policy did at each of B budgets, with each of S seeds.

  Attributes:
    right: f64[B, S, N].
    spent: f64[B, S, N], generated tokens.
    arms: i64[B, S, N], places in the table of the last arm asked; -1 for
      problems not tried.
    expected: f64[B, S, N], the success that was predicted when the problem was
      first routed.
    tries: i64[B, S, N], how often each problem was asked.
    overspent: largest share of any limited field that any run spent.
  """

  right: Float[np.ndarray, "B S N"]
  spent: Float[np.ndarray, "B S N"]
  arms: Int[np.ndarray, "B S N"]
  expected: Float[np.ndarray, "B S N"]
  tries: Int[np.ndarray, "B S N"]
  overspent: float


Cascades = Sequence[policy_cascades.Cascade | None]


def replay(
  predicted: budget_policies.Predicted,
  table: arm_tables.ArmTable,
  budgets: Sequence[float | int | Limits],
  wave: int,
  sides: Sequence[np.ndarray] = (),
  *,
  cascades: Cascades = (),
  laws: cost_laws.CostLaws | None = None,
) -> Replay:
  """Runs a policy on looked-up searches, for each budget and seed.

  Args:
    predicted: f64[N, K], of the table's questions and arms.
    table: what the arms did.
    budgets: mean generated tokens a problem, or the mean of several fields of
      `cost.Cost` by name.
    wave: most problems of a wave.
    sides: rows of problems that share a pool, each with the same mean budget;
      none for one pool of all.
    cascades: how each question's answers are looked at, its arms those of the
      table; none for not at all.
    laws: of the table's arms; for budgets on other fields.
  """
  seeds, rows, _ = table.right.shape
  shape = len(budgets), seeds, rows
  right, spent, expected = np.zeros(shape), np.zeros(shape), np.zeros(shape)
  arms, tries = np.full(shape, NONE), np.zeros(shape, np.int64)
  worst = 0.0
  places = sides or [np.arange(rows)]
  cascades = cascades or [None] * rows
  runs = itertools.product(enumerate(budgets), range(seeds), places)
  for (place, budget), seed, side in runs:
    mean = budget if isinstance(budget, dict) else {_TOKENS: budget}
    limits = {name: int(each * len(side)) for name, each in mean.items()}
    run = _run(
      predicted,
      table,
      seed,
      side,
      [cascades[row] for row in side],
      laws,
      limits,
      wave,
    )
    for _ in run:
      pass
    at = place, seed, side
    arms[at] = run.pool.arms
    tries[at] = run.pool.attempts
    for number, question in enumerate(side):
      tried, best = run.tried[number], run.best(number)
      if best is None:
        continue
      first = tried[0].attempt.arm
      expected[place, seed, question] = predicted.success[question, first]
      right[place, seed, question] = best.outcome.result[0]
      spent[place, seed, question] = sum(
        one.outcome.cost.generated_tokens for one in tried
      )
    used = run.pool.meter.spent
    worst = max(
      [worst, *(getattr(used, n) / max(v, 1e-9) for n, v in limits.items())]
    )
  return Replay(right, spent, arms, expected, tries, float(worst))


def _run(predicted, table, seed, side, cascades, laws, limits, wave):
  """A run of one side, not yet iterated over."""
  fields = tuple(
    name for name in costs.FIELDS if name in limits
  )  # in the order of a budget
  caps = table.caps
  success = predicted.success[side]
  tokens = np.clip(predicted.tokens[side], 1.0, caps)
  most = cost_laws.limits(laws, fields, caps)

  def expected(amount):
    return cost_laws.expected(laws, fields, amount, caps)

  def decode(attempts):
    for number, one in enumerate(attempts):
      yield policies.Outcome(
        number, *_found(table, seed, side, one, fields, most)
      )

  def look_of(attempt, outcome):
    del attempt
    return answer_trust.Look(*outcome.result[1])

  policy = policies.compose(
    most,
    caps,
    table.groups,
    route=lambda _: policies.Forecast(success, expected(tokens)),
    decode=decode,
    verify=policy_cascades.verify(
      cascades, success, tokens, caps, look_of, expected
    ),
  )
  return policies.Run(
    policy,
    side,
    budget_lib.Budget(**limits),
    wave=wave,
  )


def _found(table, seed, side, attempt, fields, most):
  """Cost and (right, seen) of a recorded search."""
  place = (
    (seed + attempt.number) % len(table.seeds),
    side[attempt.question],
    attempt.arm,
  )
  right = float(table.right[place])
  spent = {_TOKENS: int(table.tokens[place])}
  if table.costs is not None:
    spent |= {
      name: float(table.costs[place][i])
      if name == "flops"
      else int(table.costs[place][i])
      for i, name in enumerate(arm_tables.FIELDS)
    }
  for name, cap in zip(fields, most[attempt.arm], strict=True):
    if spent[name] > cap:
      # The arm's limit would have cut this search: count it as lost, in full.
      right, spent[name] = 0.0, type(spent[name])(cap)
  seen = np.zeros(4) if table.seen is None else table.seen[place]
  return costs.Cost(**spent), (right, seen)
