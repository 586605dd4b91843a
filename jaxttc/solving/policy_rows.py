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
from jaxttc.evaluation import looks
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  answer_rows,
  budget_policies,
  composed_policies,
  problem_sets,
  served_models,
  split_policies,
  told_answers,
)
from jaxttc.tasks import problems as problems_lib

NOT_TRIED = "not tried"  # the `stop` of problems that the budget left out
STAGES = ("prompt", "plan", "think", "answer", "search", "tries", "verify")
"""Where tokens go: those of prompts, read; outlines and ratings; the thought
before the answer returned; that answer; the rest of its search, or the steps
before it; other tries; and what verifiers read, or wrote to judge."""
Policy = (
  budget_policies.BudgetPolicy
  | composed_policies.ComposedPolicy
  | split_policies.SplitPolicy
)


class Job(NamedTuple):
  """Everything that a run needs, checked.

  Attributes:
    problems: the problems.
    put: problems and a style -> what is asked.
    engines: by the names of arms.
    policy: the policy.
    budget: of all problems.
    seed: of all sampling.
    batch: problems answered at once.
    mesh: devices to spread searches over; None for one device.
  """

  problems: Sequence[problems_lib.Problem]
  put: Callable[[list[problems_lib.Problem], str], list[str]]
  engines: Mapping[str, served_models.Engine]
  policy: Policy
  budget: budget_lib.Budget
  seed: int
  batch: int
  mesh: jax.sharding.Mesh | None

  @property
  def prompts(self) -> list[str]:
    """What is asked of each problem by a search."""
    return self.put(list(self.problems), self.policy.style)


def put_plainly(problems: list[problems_lib.Problem], style: str) -> list[str]:
  """Questions, and the line that asks for a style."""
  return [problems_lib.prompt(problem, style) for problem in problems]


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
  looked = costs.Cost.sum(one.verdict.spent for one in tried)
  total = costs.Cost.sum(one.outcome.cost for one in tried) + looked
  row["cost"] = total.as_dict()
  engine = job.engines[job.policy.arms[best.attempt.arm].model]
  row["stages"] = _stages(engine, best.outcome.result, total, looked)
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
  engine: served_models.Engine,
  result: search_lib.SearchResult,
  total: costs.Cost,
  looked: costs.Cost,
) -> dict[str, int]:
  generated = int(result.cost.generated_tokens)
  if isinstance(result, told_answers.Told):
    own = dict(result.stages)
  else:
    answer = 0
    if result.completion:
      answer = len(_encode(engine)(result.completion))
    answer = min(answer, generated)
    own = {"answer": answer, "search": generated - answer}
  rest = total.generated_tokens - looked.generated_tokens - generated
  return (
    dict.fromkeys(STAGES, 0)
    | own
    | {
      "prompt": int(total.prompt_tokens),
      "tries": int(rest),
      "verify": int(total.verifier_tokens + looked.generated_tokens),
    }
  )


def _encode(engine: served_models.Engine) -> Callable[[str], Sequence[int]]:
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
