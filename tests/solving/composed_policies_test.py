# SPDX-License-Identifier: Apache-2.0
"""Policies put together from a text, and the arms that only they had not."""

import numpy as np
import pytest

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.solving import (
  composed_policies,
  loading,
  policy_rows,
  policy_solving,
  problem_sets,
  solve_recipe,
  stage_text,
  verify_stages,
)

_SAMPLING = solve_recipe.SamplingOptions(
  temperature=0.7, min_p=0.01, step_tokens=12, max_tokens=40
)
_ALL = (
  "thinks: guided(budget=12)@40",
  "twice: two_speed(tau=0.4, samples=2)@200",
  "twice: adaptive_sc(n=2)@80",
)


@pytest.fixture(scope="module", name="engines")
def _engines():
  return {
    "thinks": loading.load_models("thinking_lm", ""),
    "twice": loading.load_models("two_speed_lm", ""),
  }


def parsed(text, engines=("",), **limits):
  limits = limits or {"generated_tokens": 60}
  return composed_policies.parse(
    text,
    engines,
    budget_lib.Budget(**limits),
    style="free",
    sampling=_SAMPLING,
  )


def solve(problems, engines, policy, tokens=60):
  rows = policy_solving.solve(
    problems,
    engines,
    budget_lib.Budget(generated_tokens=tokens),
    policy=policy,
    sampling=_SAMPLING,
    batch=6,
  )
  spent = sum(row["cost"]["generated_tokens"] for row in rows)
  assert 0 < spent <= tokens * len(problems)
  for row in rows:
    stages = row["stages"]
    assert tuple(stages) == policy_rows.STAGES and min(stages.values()) >= 0
    generated = sum(
      stages[name] for name in ("plan", "think", "answer", "search", "tries")
    )
    assert generated == row["cost"]["generated_tokens"]
  return rows


def test_a_text_says_stages_and_arms():
  made = parsed(
    "plan=linear; decode=small@0.5: best_of_n(n=2)@20 + small@0.5:"
    " best_of_n(n=2)@50+big: parts(roll_over='pool') ;verify=doubt(sure=0.9)",
    ("small@0.5", "big"),
  )
  assert [tuple(arm) for arm in made.arms] == [
    ("best_of_n(n=2)", 20, "small@0.5"),
    ("best_of_n(n=2)", 50, "small@0.5"),
    ("parts(roll_over='pool')", 60, "big"),
  ]
  assert made.ranks == (0, 0, 1)
  assert (made.plan, made.verify) == ("linear", "doubt(sure=0.9)")
  assert made.fingerprint != parsed("decode=greedy").fingerprint
  assert not stage_text.is_composed("runs/mine.npz")
  # A thought's cap is thought and answer, whatever the mean budget is.
  assert parsed("decode=guided(budget=9)").arms[0].cap == 40


@pytest.mark.parametrize(
  "text, message",
  [
    ("verify=doubt", "says no arms"),
    ("decode=greedy; decode=greedy", "decode is said twice"),
    ("decode=greedy; verfy=accept", "did you mean 'verify'|Did you mean 'ver"),
    ("decode=greedy; verify", "not of the form stage=value"),
    ("decode=greedy + ", "is no arm"),
    ("decode=greedy@many", "has the cap 'many'"),
    ("decode=greedy + greedy", "two arms are the same"),
    ("decode=gredy", "did you mean 'greedy'"),
    ("decode=guided", "needs the argument 'budget'"),
    ("decode=guided(budgt=9)", "did you mean 'budget'"),
    ("decode=two_speed(tau=2)", "tau is 2.0"),
    ("decode=two_speed(scorer='oracle')", "Unknown scorer 'oracle'"),
    ("decode=parts(roll_over='all')", "roll-over 'all' is not one of"),
    ("decode=other: greedy", "Unknown model of the policy 'other'"),
    ("decode=greedy; plan=cubic", "Unknown plan 'cubic'"),
    ("decode=greedy; plan=linear", "no arm is carried out in parts"),
    ("decode=greedy; verify=doubt(sur=1)", "did you mean 'sure'"),
    ("decode=greedy; verify=cascade", "needs a fitted route"),
    ("decode=greedy; route=best", "unknown route 'best'"),
    ("route=fitted(policy='none.npz')", "none.npz: no such file"),
    ("route=fitted(policy='auto'); decode=greedy@7", "knows no arm 'greedy, 7"),
  ],
)
def test_what_cannot_be_is_told_in_one_line(text, message):
  with pytest.raises(ValueError, match=message) as caught:
    parsed(text)
  assert "\n" not in str(caught.value)


def test_a_fitted_route_takes_its_arms_and_its_cascade():
  whole = parsed("route=fitted(policy='auto')")
  assert whole.arms == whole.fitted.arms and whole.verify == "cascade"
  some = whole.fitted.arms[-1]
  model = parsed(
    f"route=fitted(policy='auto'); decode={some.decoder}@{some.cap}"
  )
  problems = problem_sets.ProblemSource(count=3, steps=(4,)).load()
  fields = ("generated_tokens",)
  predicted, composed = model.compose(problems, fields, lambda _: ())
  every, reference = whole.fitted.compose(problems, fields, lambda _: ())
  np.testing.assert_array_equal(predicted.success[:, 0], every.success[:, -1])
  np.testing.assert_array_equal(
    composed.route(problems).cost[:, 0], reference.route(problems).cost[:, -1]
  )
  assert model.limits(0, fields).as_dict() == {"generated_tokens": some.cap}


def test_thoughts_two_speeds_and_searches_are_arms_of_one_policy(engines):
  sums = problem_sets.ProblemSource(family="digit_sums", count=6).load()
  chains = problem_sets.ProblemSource(family="digit_chains", count=6).load()
  thought = solve(sums, engines, f"decode={_ALL[0]}")
  assert sum(row["correct"] for row in thought) >= 4
  assert all(0 < row["stages"]["think"] <= 12 for row in thought)
  fast = solve(chains, engines, f"decode={_ALL[1]}; verify=accept", tokens=200)
  assert sum(row["correct"] for row in fast) >= 3
  assert all(row["stages"]["plan"] > 0 for row in fast)
  # All three, one after the other, as long as there is no sure answer.
  rows = solve(chains[:2], engines, f"decode={' + '.join(_ALL)}", tokens=300)
  assert {row["arm"]["decoder"] for row in rows} <= {
    arm.decoder
    for arm in parsed(f"decode={' + '.join(_ALL)}", tuple(engines)).arms
  }


def test_parts_are_held_to_their_shares_of_the_plan(engines):
  chains = problem_sets.ProblemSource(family="digit_chains", count=6).load()
  text = "decode=twice: parts(roll_over='none', style='terse')@{}; plan={}"
  whole = solve(chains, engines, text.format(180, "constant"), tokens=200)
  assert sum(row["correct"] for row in whole) >= 4
  # The last step has next to nothing of a plan that decays.
  late = solve(chains, engines, text.format(60, "polynomial"), tokens=200)
  assert sum(row["correct"] for row in late) <= 1
  assert {row["stop"] for row in late} >= {"length"}


def test_what_verifying_costs_is_charged(engines, monkeypatch):
  price = costs.Cost(generated_tokens=5)

  def asked(arms, *, tries: int = 1):
    assert set(arms.engines) == set(engines) and tries == 2

    def verify(place, attempt, outcome, before):
      assert arms.problems[place].id and arms.models[attempt.arm] == "thinks"
      gains = np.array([0.5 * (len(before) < tries - 1)])
      return policies.Verdict(0.5, gains, spent=price)

    return verify_stages.Stage(verify, most=price)

  monkeypatch.setitem(verify_stages.STAGES, "asked", asked)
  sums = problem_sets.ProblemSource(family="digit_sums", count=3).load()
  rows = policy_solving.solve(
    sums,
    engines,
    budget_lib.Budget(generated_tokens=100),
    policy="decode=thinks: guided(budget=12)@40; verify=asked(tries=2)",
    sampling=_SAMPLING,
    batch=6,
  )
  assert {len(row["tries"]) for row in rows} == {2}
  for row in rows:
    assert row["stages"]["verify"] == 10
    assert (
      sum(row["stages"].values()) - row["stages"]["prompt"]
      == (row["cost"]["generated_tokens"])
    )


@pytest.mark.parametrize(
  "policy, message",
  [
    ("decode=thinks: guided(budget=60)", "budget is 60; expected 1..39"),
    ("decode=thinks: rejection(budget=9, tries=30)@40", "the cap is 40"),
    ("decode=twice: best_of_n(n=1)", "needs rewards"),
  ],
)
def test_arms_that_do_not_fit_their_model_are_refused(engines, policy, message):
  sums = problem_sets.ProblemSource(family="digit_sums", count=2).load()
  with pytest.raises(ValueError, match=message):
    solve(sums, engines, policy)
