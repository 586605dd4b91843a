# SPDX-License-Identifier: Apache-2.0
"""Carrying a plan out: who may spend how much, and what is asked.

An executor is a generator, as agents are: it yields a `StepRequest`, and is
sent the `StepOutcome` when the step was decoded. It never touches a model, so
any engine serves it, and many can be served at once.

*  sequential: a decode a step, under a hard cap, with a rule for what is left
   over (`local_budgets`); `thought_steps` keeps the cap by guidance,
*  prompt_hint: one decode, the shares only written into its prompt, which
   models follow loosely; the cap is on the whole,
*  vote_samples: tokens buy samples of each step, for a vote.

`VARIANTS` are the published baselines, as which of these numbers a prompt
tells.
"""

from collections.abc import Callable, Generator, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Int
import numpy as np

from jaxttc.allocators import decay_schedules, local_budgets, plans


class StepRequest(NamedTuple):
  """One decode that is asked for.

  Attributes:
    step: its number in the plan, from 0; -1 for the whole question.
    prompt: text to decode from.
    cap: most tokens that it may spend.
  """

  step: int
  prompt: str
  cap: int


class StepOutcome(NamedTuple):
  """What came of it.

  Attributes:
    text: that was decoded.
    tokens: spent, at most the request's cap.
    finished: whether it ended by itself, not at its cap.
  """

  text: str
  tokens: int
  finished: bool


class Execution(NamedTuple):
  """A plan carried out.

  Attributes:
    texts: of each decode, in order.
    finished: of each decode.
    tokens: of each decode.
    planner_tokens: what the plan itself cost.
  """

  texts: tuple[str, ...]
  finished: tuple[bool, ...]
  tokens: tuple[int, ...]
  planner_tokens: int

  @property
  def all_in(self) -> int:
    """Tokens of the answer and of the plan."""
    return sum(self.tokens) + self.planner_tokens


Executor = Generator[StepRequest, StepOutcome, Execution]


@dataclasses.dataclass(frozen=True)
class Variant:
  """What a prompt tells of a plan.

  Attributes:
    plan: the steps.
    total: the budget of the whole.
    shares: the budget of each step; "" for none, "uniform", or "weighted" by
      credits and a schedule.
  """

  plan: bool = False
  total: bool = False
  shares: str = ""


VARIANTS = {
  "vanilla": Variant(),
  "planned": Variant(plan=True),
  "global_budget": Variant(total=True),
  "planned_global": Variant(plan=True, total=True),
  "planned_local_uniform": Variant(plan=True, shares="uniform"),
  "planned_local_weighted": Variant(plan=True, shares="weighted"),
}


def shares_of(
  variant: str, plan: plans.Plan, total: int, schedule: str = "polynomial"
) -> Int[np.ndarray, " m"]:
  """Tokens of each step by a variant; those without shares have none: i64[0].

  Raises:
    ValueError: for an unknown variant or schedule.
  """
  kind = _variant(variant).shares
  if kind == "uniform":
    return decay_schedules.uniform_tokens(len(plan.steps), total)
  if kind == "weighted":
    return plan.split(total, schedule)
  return np.zeros(0, np.int64)


def prompt_hint(
  question: str,
  plan: plans.Plan,
  total: int,
  cap: int,
  variant: str = "planned_local_weighted",
  schedule: str = "polynomial",
) -> Executor:
  """One decode of the whole question, its budget requested in words.

  Args:
    question: to answer.
    plan: of it.
    total: tokens, as the prompt tells them.
    cap: tokens that the decode is held to.
    variant: one of `VARIANTS`: what the prompt tells.
    schedule: of weighted shares.

  Raises:
    ValueError: for an unknown variant or schedule, or an outcome above its
      cap.
  """
  told, lines = _variant(variant), [question]
  shares = shares_of(variant, plan, total, schedule)
  if told.plan:
    lines.append("\nAnswer these sub-questions in order:")
    for at, step in enumerate(plan.steps):
      limit = f" (use up to {shares[at]} words)" if shares.size else ""
      lines.append(f"{at + 1}. {step}{limit}")
  if told.total:
    lines.append(f"\nUse fewer than {total} words in all.")
  outcome = yield StepRequest(-1, "\n".join(lines) + "\n", cap)
  _check_spent(StepRequest(-1, "", cap), outcome)
  spent = plan.tokens if told.plan else 0
  return Execution(
    (outcome.text,), (outcome.finished,), (outcome.tokens,), spent
  )


def sequential(
  question: str,
  plan: plans.Plan,
  shares: Sequence[Any] | np.ndarray,
  roll_over: str = "next",
  prompt: Callable[[int, Sequence[StepOutcome]], str] | None = None,
) -> Executor:
  """A decode a step, each held to its cap, with all that came before as text.

  Args:
    question: to answer.
    plan: of it.
    shares: tokens of each step, whole and not negative.
    roll_over: one of `local_budgets.ROLL_OVERS`.
    prompt: a step's number, from 0, and the outcomes before it -> what is
      asked; by default question, steps and texts in plain words.

  Raises:
    ValueError: if there is not one share a step, a share cannot be, the rule
      is unknown, or an outcome spent more than its cap.
  """
  local_budgets.check_roll_over(roll_over)
  held = np.asarray(shares)
  if held.shape != (len(plan.steps),):
    raise ValueError(f"{held.size} shares for {len(plan.steps)} steps")
  if ((held < 0) | (held != np.floor(held))).any():
    raise ValueError(f"shares are {held.tolist()}; expected whole tokens >= 0")
  budgets = local_budgets.start(jnp.asarray(held, jnp.int32))
  outcomes: list[StepOutcome] = []
  for at in range(len(plan.steps)):
    cap = int(local_budgets.cap(budgets, roll_over))
    asked = (
      _step_prompt(question, plan, at, outcomes)
      if prompt is None
      else prompt(at, outcomes)
    )
    request = StepRequest(at, asked, cap)
    outcome = yield request
    _check_spent(request, outcome)
    budgets = local_budgets.charge(budgets, jnp.int32(outcome.tokens))
    outcomes.append(outcome)
  texts, tokens, finished = zip(*outcomes, strict=True)
  return Execution(texts, finished, tokens, plan.tokens)


def vote_samples(
  shares: Sequence[Any] | np.ndarray,
  tokens_per_sample: Sequence[Any] | np.ndarray,
) -> Int[np.ndarray, " m"]:
  """How many samples of each step its share buys, rounded down.

  Raises:
    ValueError: if a sample costs less than one token, or lengths differ.
  """
  held, each = np.asarray(shares), np.asarray(tokens_per_sample)
  if held.shape != each.shape:
    raise ValueError(f"{each.size} prices for {held.size} shares")
  if (each < 1).any():
    raise ValueError(f"a sample costs {each.min()} tokens; expected at least 1")
  return (held // each).astype(np.int64)


def carry_out(
  executor: Executor, decode: Callable[[StepRequest], StepOutcome]
) -> Execution:
  """Runs one executor with one engine, a decode at a time."""
  try:
    request = next(executor)
    while True:
      request = executor.send(decode(request))
  except StopIteration as done:
    return done.value


def carry_out_together(
  executors: Sequence[Executor],
  decode: Callable[[Sequence[int], Sequence[StepRequest]], list[StepOutcome]],
) -> list[Execution]:
  """Runs many executors step by step, so that an engine can batch them.

  Args:
    executors: that have not begun.
    decode: places of the executors that ask, and what they ask -> outcomes.
  """
  asked = {place: next(one) for place, one in enumerate(executors)}
  found: dict[int, Execution] = {}
  while asked:
    places, requests = list(asked), list(asked.values())
    asked = {}
    outcomes = decode(places, requests)
    for place, outcome in zip(places, outcomes, strict=True):
      try:
        asked[place] = executors[place].send(outcome)
      except StopIteration as done:
        found[place] = done.value
  return [found[place] for place in range(len(executors))]


def _step_prompt(question, plan, at, outcomes):
  lines = [question, ""]
  for number, outcome in enumerate(outcomes):
    lines += [f"{number + 1}. {plan.steps[number]}", outcome.text.strip()]
  lines.append(f"{at + 1}. {plan.steps[at]}")
  if plan.hints and plan.hints[at]:
    lines.append(f"Hint: {plan.hints[at]}")
  return "\n".join(lines) + "\n"


def _check_spent(request, outcome):
  if not 0 <= outcome.tokens <= request.cap:
    where = f"step {request.step + 1}" if request.step >= 0 else "the question"
    raise ValueError(
      f"{where} spent {outcome.tokens} tokens of a cap of {request.cap}"
    )


def _variant(name):
  if name not in VARIANTS:
    raise ValueError(f"variant {name!r} is not one of {', '.join(VARIANTS)}")
  return VARIANTS[name]
