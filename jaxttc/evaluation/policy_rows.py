# SPDX-License-Identifier: Apache-2.0
"""The rows of a budget policy's run: answers, where the budget went, what next.

`policy_solving` says what is in them.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.evaluation import (
  answer_rows,
  budget_policies,
  looks,
  plain_policies,
  problem_sets,
  served_models,
)
from jaxttc.runtime import search as search_lib
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = "not tried"  # the `stop` of problems that the budget left out
STAGES = ("prompt", "answer", "search", "tries", "verify")
Engine = plain_policies.Engine
Policy = budget_policies.BudgetPolicy | plain_policies.PlainPolicy


class Job(NamedTuple):
  """Everything that a run needs, checked; engines by the names of arms."""

  problems: Sequence[problems_lib.Problem]
  prompts: Sequence[str]
  engines: Mapping[str, Engine]
  policy: Policy
  budget: budget_lib.Budget
  seed: int
  batch: int
  mesh: jax.sharding.Mesh | None


class Work(NamedTuple):
  """A job under way.

  Attributes:
    job: the job.
    left: places of the problems that are not done.
    predicted: of these.
    run: the policy at work on them.
  """

  job: Job
  left: Sequence[int]
  predicted: budget_policies.Predicted
  run: policies.Run


def row(work: Work, question: int) -> dict[str, Any]:
  """The row of a problem, as it stands."""
  job, best = work.job, work.run.best(question)
  problem = job.problems[work.left[question]]
  if best is None:
    return _untried(problem) | _routed(work, question)
  tried = work.run.tried[question]
  row = answer_rows.answer_row(problem, best.outcome.result)
  total = costs.Cost.sum(one.outcome.cost for one in tried)
  row["cost"] = total.as_dict()
  engine = job.engines[job.policy.arms[best.attempt.arm].model]
  row["stages"] = _stages(engine, best.outcome.result, total)
  row["tries"] = [
    {
      "arm": job.policy.arms[one.attempt.arm]._asdict(),
      "tokens": int(one.outcome.cost.generated_tokens),
      "seen": looks.look(one.outcome.result)._asdict(),
      "trust": float(one.verdict.trust),
    }
    for one in tried
  ]
  return row | _routed(work, question)


def _stages(
  engine: Engine, result: search_lib.SearchResult, total: costs.Cost
) -> dict[str, int]:
  generated = int(result.cost.generated_tokens)
  answer = 0
  if result.completion:
    answer = len(_encode(engine)(result.completion))
  answer = min(answer, generated)
  return {
    "prompt": int(total.prompt_tokens),
    "answer": answer,
    "search": generated - answer,
    "tries": int(total.generated_tokens) - generated,
    "verify": int(total.verifier_tokens),
  }


def _encode(engine: Engine) -> Callable[[str], Sequence[int]]:
  if isinstance(engine, served_models.Served):
    return engine.engine.encode
  return engine[0].tokenizer.encode


def _routed(work: Work, question: int) -> dict[str, Any]:
  """What the policy had to say about a problem.

  The arm is that of the answer, the prediction that of the first try.
  """
  policy, run = work.job.policy, work.run
  best, rung = run.best(question), run.pool.next_rung(question)
  described: dict[str, Any] = {
    "arm": None,
    "predicted": {"success": 0.0, "tokens": 0.0},
    "price": float(run.pool.prices[question]),
    "next": None,
  }
  if best is not None:
    first = run.tried[question][0].attempt.arm
    described["arm"] = policy.arms[best.attempt.arm]._asdict()
    success = float(work.predicted.success[question, first])
    described["predicted"] = {
      "success": None if math.isnan(success) else success,
      "tokens": float(work.predicted.tokens[question, first]),
    }
  if rung is not None:
    tokens = rung.cost
    if run.pool.fields[0] != "generated_tokens":
      tokens = float(work.predicted.tokens[question, rung.arm])
    described["next"] = policy.arms[rung.arm]._asdict() | {
      "gain": rung.gain,
      "tokens": tokens,
      "gain_of_100_tokens": 100 * rung.gain / tokens,
    }
  return described


def _untried(problem: problems_lib.Problem) -> dict[str, Any]:
  return {
    "id": problem.id,
    "answer": None,
    "correct": problem_sets.is_right(problem, None),
    "completion": None,
    "stop": NOT_TRIED,
    "rounds": 0,
    "cost": costs.Cost().as_dict(),
    "assumed": {},
    "tree": None,
    "stages": dict.fromkeys(STAGES, 0),
    "tries": [],
  }
