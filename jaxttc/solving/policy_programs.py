# SPDX-License-Identifier: Apache-2.0
"""The decode stage of arms that take a question apart: programs of asks.

`two_speed` rates each step, answers easy ones at once and works hard ones out
(SCALE); `parts` works every step out within its share of the plan
(Plan-and-Budget). A program never spends more than its attempt's budget: asks
that it cannot pay for are shortened, or refused.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools

from jaxttc.agents import difficulty, outlines, two_speed
from jaxttc.allocators import part_policies, policies, step_modes
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import local_engine
from jaxttc.runtime import programs
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  arm_text,
  budget_policies,
  line_steps,
  policy_rows,
  served_models,
  told_answers,
)
from jaxttc.tasks import problems as problems_lib

_PLANNING = ("outline", "selection", "rating")  # stages of programs


class Programs:
  """Carries out programs for the problems of one arm."""

  def __init__(self, job: policy_rows.Job, arm: budget_policies.Arm):
    """Opens an engine, or takes the served one.

    Args:
      job: whose problems.
      arm: a program.

    Raises:
      ValueError: if the model does not fit.
    """
    said = arm_text.program(arm.decoder)
    self._job, self._said = job, said
    engine = job.engines[arm.model]
    if isinstance(engine, served_models.Served):
      self._engine = engine.engine
    else:
      settings = job.policy.sampling.build()
      samples = said.samples if isinstance(said, arm_text.TwoSpeed) else 1
      self._engine = local_engine.LocalEngine(
        engine[0],
        sampler=settings.sampler,
        hardware=settings.hardware,
        groups=job.batch,
        rows=samples,
      )

  def solve(
    self,
    which: Sequence[int],
    budgets: Sequence[budget_lib.Budget],
    seed: int,
    shares: Sequence[Sequence[int]],
  ) -> Iterator[search_lib.SearchResult]:
    """Carries some problems out; see `policy_decoding.Answerer`."""
    problems = [self._job.problems[place] for place in which]
    tasks = [
      self._task(problem, share)
      for problem, share in zip(problems, shares, strict=True)
    ]
    served = programs.serve(
      tasks,
      {"policy": self._engine},
      [problem.id for problem in problems],
      budget=list(budgets),
      seed=seed,
    )
    for done in served:
      cost = dataclasses.replace(done.cost, seconds=0.0)
      if done.error:
        yield told_answers.untold(done.index, f"gave up: {done.error}", cost)
      elif isinstance(self._said, arm_text.TwoSpeed):
        yield _two_speed_told(done, cost)
      else:
        yield _parts_told(done, cost)

  def _task(
    self, problem: problems_lib.Problem, shares: Sequence[int]
  ) -> programs.Program:
    said = self._said
    if isinstance(said, arm_text.TwoSpeed):
      return _two_speed(said, problem)
    made = line_steps.by_lines(problem.text)
    if len(shares) != len(made.steps):  # a plan of one part: equal shares
      shares = part_policies.uniform(line_steps.by_lines)(
        problem.text, sum(shares)
      )
    return part_policies.task(
      problem.text,
      made,
      policies.Attempt(0, 0, 0, tuple(shares), 0.0),
      lambda plan, at, before: (
        line_steps.that_query(
          plan.steps[at],
          line_steps.content(before[-1].text) if before else None,
        )
        + problems_lib.request(said.style)
      ),
      said.roll_over,
    )


def _two_speed(
  said: arm_text.TwoSpeed, problem: problems_lib.Problem
) -> programs.Program:
  def system(style: str, limit: int, stage: str) -> two_speed.System:
    return two_speed.System(
      problems_lib.request(style), limit, line_steps.content, stage=stage
    )

  fast = system(said.fast, said.fast_tokens, "fast")
  scorer = difficulty.rating()
  if said.scorer == "disagreement":
    scorer = difficulty.disagreement(
      line_steps.content, samples=said.samples, limit=said.fast_tokens
    )
  carry_out = functools.partial(
    two_speed.carry_out,
    problem.text,
    fast=fast,
    slow=system(said.slow, said.slow_tokens, "slow"),
    policy=step_modes.threshold(said.tau, said.last_step_floor),
    scorer=scorer,
    regime=said.regime,
  )
  if said.outline == "lines":
    return carry_out(
      outlines.Outline(line_steps.by_lines(problem.text).steps),
      query=_line_query,
    )
  return _outlined(problem.text, carry_out)


def _line_query(
  problem: str, solved: Sequence[two_speed.Solved], step: str
) -> str:
  del problem  # the step says all
  return line_steps.that_query(
    step, solved[-1].content or None if solved else None
  )


def _outlined(text: str, carry_out: Callable[..., programs.Program]):
  outline = yield from outlines.decompose(text)
  return (yield from carry_out(outline.ending_in(text)))


def _two_speed_told(done: programs.Done, cost) -> told_answers.Told:
  run: two_speed.Run = done.value
  plan = sum(done.tokens.get(stage, 0) for stage in _PLANNING)
  last = run.tokens[-1]
  return told_answers.told(
    done.index,
    run.texts,
    run.texts[-1] or None,
    finished=True,
    cost=cost,
    stages={
      "plan": plan,
      "answer": last,
      "search": int(cost.generated_tokens) - plan - last,
    },
  )


def _parts_told(done: programs.Done, cost) -> told_answers.Told:
  found = done.value
  whole = all(found.finished)
  last = found.tokens[-1]
  return told_answers.told(
    done.index,
    found.texts,
    found.texts[-1] if whole else None,
    finished=whole,
    cost=cost,
    stages={
      "answer": last,
      "search": int(cost.generated_tokens) - last,
    },
    stop="done" if whole else "length",
  )
