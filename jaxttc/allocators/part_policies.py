# SPDX-License-Identifier: Apache-2.0
"""Plan and decode stages for questions in parts, for `policies.compose`.

A question of several sub-questions is asked under one cap. The plan stage asks
a planner for the sub-questions and their credits, and splits the cap by them
and a schedule (Plan-and-Budget); the decode stage answers one sub-question
after the other, each held to its share by an executor, many questions in one
batch; the verify stage takes what was finished, and asks again, of a dearer
arm, what ran into its cap.

    policy = policies.compose(
      caps, tokens, groups,
      route=forecast,
      plan=part_policies.plan(planner, "constant"),
      decode=part_policies.decode(texts, planner, {"policy": engine}),
      verify=part_policies.unfinished(score),
    )

Reference: Lin et al. (2025), Plan and Budget, arXiv:2505.16122.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses

from jaxtyping import Float
import numpy as np

from jaxttc.allocators import decay_schedules, executors, plans, policies
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import programs

# A step's number, and the outcomes of those before -> its prompt.
Prompt = Callable[[plans.Plan, int, Sequence[executors.StepOutcome]], str]


def plan(
  planner: plans.Planner, schedule: str = "polynomial", *, floor: int = 1
) -> policies.Plan:
  """Splits an arm's cap over the sub-questions of a question's plan.

  What the planner itself spends is taken off first.

  Args:
    planner: question -> plan; asked again for every attempt, so keep its
      answers (`functools.cache`) where asking costs something.
    schedule: of shares over positions, one of `decay_schedules.SCHEDULES`.
    floor: least tokens of a sub-question, where the cap allows it.

  Raises:
    ValueError: for an unknown schedule.
  """
  decay_schedules.allocate_tokens(
    (100.0,), 1, schedule
  )  # an unknown one raises

  def split(question: str, tokens: int) -> tuple[int, ...]:
    made = planner(question)
    total = max(tokens - made.tokens, 0)
    least = min(floor, total // len(made.steps))
    return tuple(made.split(total, schedule, floor=least).tolist())

  return split


def uniform(planner: plans.Planner) -> policies.Plan:
  """Splits an arm's cap into equal shares: the baseline of `plan`."""

  def split(question: str, tokens: int) -> tuple[int, ...]:
    made = planner(question)
    total = max(tokens - made.tokens, 0)
    return tuple(
      decay_schedules.uniform_tokens(len(made.steps), total).tolist()
    )

  return split


def decode(
  questions: Sequence[str],
  planner: plans.Planner,
  engines: Mapping[str, engine_lib.Engine],
  *,
  prompt: Prompt | None = None,
  roll_over: str = "none",
  seed: int = 0,
) -> policies.Decode:
  """Answers sub-questions in order, each under its share.

  An outcome's result is an `executors.Execution`.

  Args:
    questions: all that the policy runs on, in its order.
    planner: question -> plan, as for the plan stage.
    engines: by name; sub-questions are asked of "policy".
    prompt: what a step is asked; None for the question, the steps before and
      their answers, and the step.
    roll_over: who gets what a step leaves, one of `local_budgets.ROLL_OVERS`.
    seed: of all sampling; with a question's place and the attempt's number it
      determines the samples.
  """

  def run(attempts: Sequence[policies.Attempt]) -> Iterator[policies.Outcome]:
    tasks, names, limits = [], [], []
    for attempt in attempts:
      text = questions[attempt.question]
      tasks.append(task(text, planner(text), attempt, prompt, roll_over))
      names.append(f"question {attempt.question}, try {attempt.number}")
      limits.append(budget_lib.Budget(generated_tokens=sum(attempt.shares)))
    for done in programs.serve(tasks, engines, names, budget=limits, seed=seed):
      cost = done.cost
      if attempts[done.index].number == 0:  # it planned for all its tries
        cost = dataclasses.replace(
          cost,
          generated_tokens=cost.generated_tokens + done.value.planner_tokens,
        )
      yield policies.Outcome(done.index, cost, done.value)

  return run


def unfinished(score: Float[np.ndarray, "n K"]) -> policies.Verify:
  """Asks again what ran into a cap; trusts what finished.

  Args:
    score: forecast chances of the arms. What a further try of an arm adds to
      nothing is its chance; the arm that failed, and those that are forecast
      to do no better, add nothing.
  """

  def decide(
    place: int,
    attempt: policies.Attempt,
    outcome: policies.Outcome,
    before: Sequence[policies.Tried],
  ) -> policies.Verdict:
    del before
    if all(outcome.result.finished):
      return policies.Verdict(float(score[place, attempt.arm]))
    better = score[place] > score[place, attempt.arm]
    return policies.Verdict(0.0, np.where(better, score[place], 0.0))

  return decide


def task(
  question: str,
  made: plans.Plan,
  attempt: policies.Attempt,
  prompt: Prompt | None,
  roll_over: str,
) -> programs.Program:
  """A program that carries a plan out, each step held to the attempt's share.

  Args:
    question: to answer.
    made: its plan.
    attempt: whose shares.
    prompt: what a step is asked; None as `decode`.
    roll_over: one of `local_budgets.ROLL_OVERS`.

  Returns:
    An `executors.Execution`.
  """
  ask = None
  if prompt is not None:
    ask = lambda at, before: prompt(made, at, before)  # noqa: E731
  executor = executors.sequential(
    question, made, attempt.shares, roll_over, prompt=ask
  )
  try:
    request = next(executor)
    while True:
      if request.cap < 1:
        outcome = executors.StepOutcome("", 0, False)
      else:
        (reply,) = yield programs.Ask(request.prompt, request.cap)
        outcome = executors.StepOutcome(
          reply.text, reply.tokens, reply.finished
        )
      request = executor.send(outcome)
  except StopIteration as done:
    return done.value
