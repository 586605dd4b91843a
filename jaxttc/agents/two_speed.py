# SPDX-License-Identifier: Apache-2.0
"""SCALE: easy steps answered at once, hard ones thought through.

A problem is outlined (`outlines`), each step's difficulty is scored
(`difficulty`), a policy picks its mode (`allocators.step_modes`), and the
steps are carried out in order; each is shown the answers of those before it,
never their reasoning.

Reference:
  Xiao et al. (2025), SCALE: Selective Resource Allocation for Overcoming
  Performance Bottlenecks in Mathematical Test-time Scaling.
"""

from collections.abc import Callable, Generator, Sequence
import functools
from typing import NamedTuple

import numpy as np

from jaxttc.agents import difficulty, outline_choice, outlines
from jaxttc.allocators import step_modes
from jaxttc.runtime import programs

REGIMES = ("with_solutions", "text_only")
"""What a scorer is shown: earlier steps with answers, or their texts alone."""


class Solved(NamedTuple):
  """A step that was carried out: its text, and the answer carried on."""

  step: str
  content: str


Query = Callable[[str, Sequence[Solved], str], str]


class System(NamedTuple):
  """One way to answer a step.

  Attributes:
    instruction: put after the query.
    limit: most tokens.
    content: completion -> what of it is carried on; None if there is nothing.
    model: which engine.
    stage: under what name its tokens are counted.
    samples: drawn of a step; their majority is carried on.
  """

  instruction: str
  limit: int
  content: Callable[[str], str | None]
  model: str = "policy"
  stage: str = "answer"
  samples: int = 1

  def ask(self, query: str) -> programs.Ask:
    """What it asks its engine."""
    return programs.Ask(
      query + self.instruction,
      self.limit,
      self.samples,
      self.model,
      self.stage,
    )

  def settle(self, replies: programs.Replies) -> tuple[str, str]:
    """The answer that most samples give, and the first text that gives it.

    Ties go to the answer sampled first; samples without an answer do not
    vote. "" if none has one.

    Raises:
      programs.GaveUp: if there is no sample: lost, or not paid for.
    """
    if all(reply.error for reply in replies):
      raise programs.GaveUp(f"{self.stage}: {replies[0].error}")
    found = [self.content(reply.text) for reply in replies]
    answers = [answer for answer in found if answer is not None]
    if not answers:
      return "", next(r.text for r in replies if not r.error)
    best = max(answers, key=answers.count)
    return best, replies[found.index(best)].text


class Run(NamedTuple):
  """What came of a problem.

  Attributes:
    steps: of the outline.
    scores: difficulties; of policies that need none, 0.
    slow: modes.
    contents: answers carried on; "" where a step had none.
    texts: whole completions.
    tokens: sampled for each step, all samples together; not those of scoring.
  """

  steps: tuple[str, ...]
  scores: tuple[float, ...]
  slow: tuple[bool, ...]
  contents: tuple[str, ...]
  texts: tuple[str, ...]
  tokens: tuple[int, ...]

  @property
  def answer(self) -> str:
    """Of the last step."""
    return self.contents[-1]


def plain_query(problem: str, solved: Sequence[Solved], step: str) -> str:
  """Conditions, process so far and the present step, in plain words."""
  lines = [problem, ""]
  for number, one in enumerate(solved, start=1):
    lines += [f"{number}. {one.step}", one.content.strip() or "(not solved)"]
  lines.append(f"{len(solved) + 1}. {step}")
  return "\n".join(lines) + "\n"


def carry_out(
  problem: str,
  outline: outlines.Outline,
  fast: System,
  slow: System,
  policy: step_modes.ModePolicy,
  scorer: difficulty.Scorer | None = None,
  *,
  regime: str = "with_solutions",
  query: Query = plain_query,
  carry: bool = True,
) -> Generator[programs.Ask | programs.Measure, programs.Replies, Run]:
  """A program that solves an outlined problem, step by step.

  Args:
    problem: what all steps are about.
    outline: of it; `Outline.ending_in` makes its last step the question.
    fast: System 1.
    slow: System 2.
    policy: which steps are slow.
    scorer: of difficulties; None where the policy looks at none of them.
    regime: one of `REGIMES`. Published descriptions show the scorer earlier
      solutions, the released program only texts; a policy that needs all
      difficulties at once can have the second only.
    query: how a step is asked; instructions follow it.
    carry: whether steps are shown earlier answers; False is an ablation.

  Returns:
    What came of it. Tokens of scoring are counted under the stage "rating".

  Raises:
    ValueError: for an unknown regime, or one that the policy cannot have,
      before anything is asked; or a difficulty that cannot be.
    programs.GaveUp: if a step, or its difficulty, could not be had; the
      steps after it would be asked in vain.
  """
  if regime not in REGIMES:
    raise ValueError(f"regime {regime!r} is not one of {', '.join(REGIMES)}")
  if regime == "with_solutions" and scorer is not None and not policy.stepwise:
    raise ValueError(
      "this policy needs all difficulties at once; expected regime='text_only'"
    )
  count = len(outline.steps)
  return _carry_out(
    problem, outline, (fast, slow), policy, scorer, regime, query, carry, count
  )


def _carry_out(
  problem, outline, systems, policy, scorer, regime, query, carry, count
):
  solved: list[Solved] = []
  scores: list[float] = []
  modes = None
  if scorer is None:
    scores = [0.0] * count
    modes = policy.modes(np.zeros(count))
  elif regime == "text_only":
    for number, step in enumerate(outline.steps):
      earlier = [Solved(text, "") for text in outline.steps[:number]]
      asked = query(problem, earlier, step) + systems[0].instruction
      scores.append((yield from scorer(asked)))
    modes = policy.modes(np.array(scores))
  slow, texts, tokens = [], [], []
  for number, step in enumerate(outline.steps):
    earlier = solved if carry else [Solved(one.step, "") for one in solved]
    shown = query(problem, earlier, step)
    if modes is None:
      scores.append((yield from scorer(shown + systems[0].instruction)))
      last = number == count - 1
      mode = bool(policy.modes(np.array(scores), complete=last)[-1])
    else:
      mode = bool(modes[number])
    system = systems[mode]
    replies = yield system.ask(shown)
    try:
      content, text = system.settle(replies)
    except programs.GaveUp as why:
      raise programs.GaveUp(f"step {number + 1} of {count}, {why}") from None
    solved.append(Solved(step, content))
    slow.append(mode)
    texts.append(text)
    tokens.append(sum(reply.tokens for reply in replies))
  return Run(
    outline.steps,
    tuple(scores),
    tuple(slow),
    tuple(one.content for one in solved),
    tuple(texts),
    tuple(tokens),
  )


def scale(
  problem: str,
  question: str,
  fast: System,
  slow: System,
  policy: step_modes.ModePolicy,
  scorer: difficulty.Scorer,
  *,
  versions: int = 8,
  regime: str = "with_solutions",
  planner: str = "policy",
  choose: outline_choice.Chooser | None = None,
  plan: outlines.Planner | None = None,
) -> Generator[programs.Ask | programs.Measure, programs.Replies, Run]:
  """The whole of it: outline, choose, score, carry out.

  Args:
    problem: all that is given.
    question: what is asked; it becomes the last step, as published.
    fast: System 1.
    slow: System 2.
    policy: which steps are slow.
    scorer: of difficulties.
    versions: outlines sampled.
    regime: one of `REGIMES`.
    planner: which engine outlines.
    choose: picks among outlines; None asks the planner about all at once.
    plan: where outlines come from instead; `versions`, `planner` and `choose`
      are then not looked at.

  Raises:
    ValueError: as `outline_choice.decompose` and `carry_out`.
  """
  if plan is None:
    plan = functools.partial(
      outline_choice.decompose, versions=versions, model=planner, choose=choose
    )
  outline = yield from plan(problem)
  return (
    yield from carry_out(
      problem,
      outline.ending_in(question),
      fast,
      slow,
      policy,
      scorer,
      regime=regime,
    )
  )


def answer_at_once(
  prompt: str, system: System
) -> Generator[programs.Ask, programs.Replies, str]:
  """The baseline: the whole problem by one system, voting if it samples."""
  return system.settle((yield system.ask(prompt)))[0]
