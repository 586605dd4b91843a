# SPDX-License-Identifier: Apache-2.0
"""The rows of a budget policy's run: answers, where the budget went, what next.

`policy_solving` says what is in them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.evaluation import budget_policies, looks, problem_sets, solving
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = "not tried"  # the `stop` of problems that the budget left out
STAGES = ("prompt", "answer", "search", "tries", "verify")
Engine = tuple[bundle_lib.Bundle, bundle_lib.Bundle | None]


class Job(NamedTuple):
  """Everything that a run needs, checked."""

  problems: Sequence[problems_lib.Problem]
  prompts: Sequence[str]
  engine: Engine
  policy: budget_policies.BudgetPolicy
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
  row = solving.answer_row(problem, best.outcome.result)
  total = costs.Cost.sum(one.outcome.cost for one in tried)
  row["cost"] = total.as_dict()
  row["stages"] = _stages(job.engine[0], best.outcome.result, total)
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
  language: bundle_lib.Bundle,
  result: search_lib.SearchResult,
  total: costs.Cost,
) -> dict[str, int]:
  generated = int(result.cost.generated_tokens)
  answer = 0
  if result.completion:
    answer = len(language.tokenizer.encode(result.completion))
  answer = min(answer, generated)
  return {
    "prompt": int(total.prompt_tokens),
    "answer": answer,
    "search": generated - answer,
    "tries": int(total.generated_tokens) - generated,
    "verify": int(total.verifier_tokens),
  }


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
    described["predicted"] = {
      "success": float(work.predicted.success[question, first]),
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
