# SPDX-License-Identifier: Apache-2.0
"""Tries every arm of a policy on problems: what budget policies are fitted to.

For arms of any kind and of several models; `arm_tables.arm_table` reads those
of a comparison of decoders.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.evaluation import looks
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  composed_policies,
  loading,
  policy_decoding,
  policy_fitting,
  policy_rows,
  problem_sets,
  served_models,
)
from jaxttc.tasks import problems as problems_lib


def tried(
  policy: composed_policies.ComposedPolicy,
  problems: Sequence[problems_lib.Problem],
  engines: Mapping[str, served_models.Engine],
  *,
  seeds: Sequence[int] = (0,),
  batch: int = 32,
  told: Callable[[str, int], None] | None = None,
) -> arm_tables.ArmTable:
  """Asks every problem of every arm, each under its cap.

  Args:
    policy: whose arms, style and sampling.
    problems: with answers.
    engines: models by name.
    seeds: of all sampling; problems are asked once with each.
    batch: problems answered at once.
    told: is told each arm and seed that was tried.

  Raises:
    ValueError: if an arm cannot be carried out, or a problem has no answer.
  """
  for problem in problems:
    problems_lib.gold(problem)
  job = policy_rows.Job(
    problems,
    policy_rows.put_plainly,
    engines,
    policy,
    budget_lib.Budget(),
    0,
    batch,
    None,
  )
  answered_by = policy_decoding.answerers(job)
  shape = len(seeds), len(problems), len(policy.arms)
  right, tokens = np.zeros(shape), np.zeros(shape)
  costs = np.zeros((*shape, len(arm_tables.FIELDS)))
  seen = np.zeros((*shape, len(looks.FIELDS)))
  for place, arm in enumerate(policy.arms):
    for turn, seed in enumerate(seeds):
      for result in answered_by[arm.search].solve(
        range(len(problems)),
        [budget_lib.Budget(generated_tokens=arm.cap)] * len(problems),
        seed,
        [(arm.cap,)] * len(problems),
      ):
        at = turn, result.problem, place
        right[at] = bool(
          problem_sets.is_right(problems[result.problem], result.completion)
        )
        tokens[at] = result.cost.generated_tokens
        costs[at] = [
          float(getattr(result.cost, name)) for name in arm_tables.FIELDS
        ]
        seen[at] = looks.look(result)
      if told is not None:
        told(arm.label, seed)
  questions = tuple(problem.text for problem in problems)
  return arm_tables.ArmTable(
    policy.arms, questions, right, tokens, tuple(seeds), costs, seen
  )


def policy_of(
  policy: composed_policies.ComposedPolicy,
  table: arm_tables.ArmTable,
  fitted: policy_fitting.Fitted,
  engines: Mapping[str, served_models.Engine],
) -> budget_policies.BudgetPolicy:
  """What was fitted to a table, for the models that its arms ask.

  Args:
    policy: whose arms were tried.
    table: as `tried` makes it.
    fitted: to it.
    engines: models by name.
  """
  arms = tuple(table.arms[place] for place in fitted.arms)
  return budget_policies.BudgetPolicy(
    arms=arms,
    embed=fitted.embed,
    success=fitted.success,
    share=fitted.share,
    style=policy.style,
    sampling=policy.sampling,
    models={
      name: tuple(
        map(
          loading.weights_fingerprint,
          (None, None) if isinstance(engine, served_models.Served) else engine,
        )
      )
      for name, engine in engines.items()
      if any(arm.model == name for arm in arms)
    },
    origin=f"{len(table.questions)} problems, {fitted.head}",
    laws=fitted.laws,
    cascade=fitted.cascade,
  )
