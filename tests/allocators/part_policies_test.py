# SPDX-License-Identifier: Apache-2.0
"""Plan-and-Budget as the plan stage of a policy, on a model that needs it."""

import functools
import random

import numpy as np
import pytest

from jaxttc.allocators import part_policies, plans, policies
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import bundle, controllers, local_engine
from jaxttc.tasks import digit_chains

_CAPS = np.array([60, 76, 96])
_SLOW = digit_chains.INSTRUCTIONS["slow"]


def _planner(question):
  """A line is a sub-question; the more it adds up, the more credit it gets."""
  steps = tuple(question.split())
  terms = np.array([len(step.split("+")) for step in steps], float)
  return plans.Plan(steps=steps, credits=tuple(100 * terms / terms.sum()))


def _problems(count=12):
  """Independent sums of 1 to 4 additions, in any order."""
  rng = random.Random("part policies")
  made = []
  for _ in range(count):
    chains = [digit_chains.draw(rng, 1, (n,)) for n in (1, 2, 3, 4)]
    rng.shuffle(chains)
    made.append(chains)
  return made


@pytest.fixture(scope="module", name="engine")
def _engine():
  return local_engine.LocalEngine(
    bundle.load("two_speed_lm"),
    sampler=controllers.Sampler(temperature=0.0),
    groups=12,
    rows=1,
    slots=64,
    steps=8,
  )


def _run(engine, plan, *, amount, verify=policies.accept, score=None):
  problems = _problems()
  texts = ["".join(chain.text for chain in problem) for problem in problems]
  if score is None:
    score = np.tile([0.0, 0.9, 0.0], (len(texts), 1))
  policy = policies.compose(
    _CAPS[:, None],
    _CAPS,
    [0, 1, 2],
    route=lambda asked: policies.Forecast(
      score, np.tile(0.9 * _CAPS[:, None], (len(asked), 1, 1))
    ),
    plan=plan,
    decode=part_policies.decode(
      texts,
      _planner,
      {"policy": engine},
      prompt=lambda made, at, before: f"{made.steps[at]}\n{_SLOW}",
    ),
    verify=verify,
  )
  run = policies.Run(
    policy, texts, budget_lib.Budget(generated_tokens=amount), wave=12
  )
  for question in run:
    last = run.tried[question][-1]
    assert sum(last.attempt.shares) <= _CAPS[last.attempt.arm]
    tokens = last.outcome.result.tokens
    assert all(np.array(tokens) <= last.attempt.shares)
    assert sum(tokens) == last.outcome.cost.generated_tokens
  right = [
    best is not None and _said(best) == [str(c.answers[0]) for c in problem]
    for best, problem in zip(
      map(run.best, range(len(texts))), problems, strict=True
    )
  ]
  assert run.pool.meter.spent.generated_tokens <= amount
  return run, np.array(right)


def _said(tried):
  done = tried.outcome.result
  return [
    digit_chains.content(text) if finished else None
    for text, finished in zip(done.texts, done.finished, strict=True)
  ]


def test_shares_by_credit_solve_what_equal_shares_cannot(engine):
  _, weighted = _run(
    engine, part_policies.plan(_planner, "constant"), amount=12 * 76
  )
  _, equal = _run(engine, part_policies.uniform(_planner), amount=12 * 76)
  # The longest sum takes more than a quarter of the cap, every time.
  assert weighted.mean() >= 0.7 and equal.mean() == 0


def test_what_ran_into_its_cap_is_asked_again_of_a_dearer_arm(engine):
  # The router sees no use in the dear arm; who looks at a failure does.
  score = np.tile([0.6, 0.0, 0.6], (12, 1))
  plan = part_policies.plan(_planner, "constant")
  amount = 60 * 12 + 96 * 6
  once, first = _run(engine, plan, amount=amount, score=score)
  assert max(map(len, once.tried)) == 1
  run, right = _run(
    engine,
    plan,
    amount=amount,
    score=score,
    verify=part_policies.unfinished(np.tile([0.6, 0.0, 0.9], (12, 1))),
  )
  again = [tried for tried in run.tried if len(tried) == 2]
  assert len(again) >= 6 and right.sum() >= first.sum() + 4
  for tried in again:
    assert not all(tried[0].outcome.result.finished)
    assert [one.attempt.arm for one in tried] == [0, 2]
    assert run.best(tried[0].attempt.question) is tried[1]


def test_a_planner_that_costs_is_paid_from_the_cap():
  def dear(question):
    made = _planner(question)
    return plans.Plan(steps=made.steps, credits=made.credits, tokens=20)

  split = part_policies.plan(functools.cache(dear), "constant")
  assert sum(split("1+2\n3+4+5\n", 60)) == 40
  assert split("1+2\n3+4+5\n", 20) == (0, 0)
  assert sum(part_policies.uniform(dear)("1+2\n3+4+5\n", 60)) == 40
  with pytest.raises(ValueError, match="schedule"):
    part_policies.plan(dear, "cubic")
