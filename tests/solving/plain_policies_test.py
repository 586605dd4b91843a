# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest
import scipy.integrate

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import tree as tree_lib
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  loading,
  plain_policies,
  policy_report,
  policy_solving,
  problem_sets,
  search_solving,
  solve_recipe,
  verify_stages,
)
from jaxttc.testing import fault_server

_SOURCE = problem_sets.ProblemSource(
  count=8, family="modular", steps=(2, 3), style="terse"
)
_SAMPLING = solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16)


@pytest.fixture(scope="module")
def engine(models):
  return loading.load_models(
    str(models / "policy.safetensors"), str(models / "verifier.safetensors")
  )


def result(answers, chosen, reward=0.4):
  """A search of whole solutions, of which the chosen one is returned."""
  count = len(answers) + 1
  tree = search_lib.TreeRecord(
    parent=np.array([-1] + [0] * len(answers), np.int32),
    reward=np.full(count, reward, np.float32),
    status=np.array(
      [tree_lib.Status.OPEN] + [tree_lib.Status.FINISHED] * len(answers),
      np.int8,
    ),
    answer=np.array([-1, *answers], np.int32),
    expanded_at=np.zeros(count, np.int32),
    weight=np.ones(count, np.float32),
    text=[""] + [f"#### {each}" for each in answers],
    chosen=chosen,
  )
  return search_lib.SearchResult(
    problem=0,
    completion=tree.completion(chosen) if chosen > 0 else None,
    cost=costs.Cost(generated_tokens=9),
    rounds=1,
    stop="done",
    tree=tree,
  )


@pytest.mark.parametrize("votes", [(1, 0), (2, 0), (3, 1), (2, 2), (5, 4)])
def test_votes_are_trusted_by_the_chance_that_they_lead(votes):
  first, second = votes
  found = result([7] * first + [8] * second, 1)

  def likelihood(p):
    return p**first * (1 - p) ** second

  above, _ = scipy.integrate.quad(likelihood, 0.5, 1)
  whole, _ = scipy.integrate.quad(likelihood, 0, 1)
  assert verify_stages.trusted(found, False) == pytest.approx(above / whole)
  assert verify_stages.trusted(found, True) == pytest.approx(0.4)


def test_no_answer_is_not_trusted():
  assert verify_stages.trusted(result([], -1), False) == 0.0
  assert verify_stages.trusted(result([], -1), True) == 0.0


def made(engines, **limits):
  return plain_policies.make(
    engines,
    budget_lib.Budget(**limits),
    style="terse",
    sampling=_SAMPLING,
  )


def verdict(policy, arms, results):
  """What is thought of the last of some tries."""
  _, composed = policy.compose(
    _SOURCE.load()[:1], tuple(policy.each.as_dict()), lambda attempts: ()
  )
  before = []
  for number, (arm, found) in enumerate(zip(arms, results, strict=True)):
    attempt = policies.Attempt(0, arm, number, (9,), 0.0)
    outcome = policies.Outcome(0, found.cost, found)
    said = composed.verify(0, attempt, outcome, before)
    before.append(policies.Tried(attempt, outcome, said))
  return said


def test_what_another_try_is_worth(engine):
  policy = made({"small": engine, "large": engine}, generated_tokens=12)
  assert [arm.cap for arm in policy.arms] == [16, 12, 16, 12, 48, 24, 12]
  assert policy.ranks == (0, 0, 1, 1, 2, 2, 2)
  greedy, search = policy.arms[0], policy.arms[4]
  assert "temperature=0" in greedy.decoder and "astar" in search.decoder
  doubtful, sure = result([7], 1, 0.4), result([7], 1, 0.96)
  once = verdict(policy, [0], [doubtful])
  # What is greedy is not asked twice. Of every later rank a half of what may
  # be wrong; narrower arms stand in, at half the worth a token.
  np.testing.assert_allclose(
    once.gains, [0, 0, 0.3, 0.1125, 0.3, 0.075, 0.0375], rtol=1e-6
  )
  twice = verdict(policy, [0, 4], [doubtful, doubtful])
  np.testing.assert_allclose(
    twice.gains, [0, 0, 0, 0, 0.15, 0.0375, 0.01875], rtol=1e-6
  )
  assert not verdict(policy, [0], [sure]).gains.any()
  many = [doubtful] * 8
  assert not verdict(policy, [4] * 8, many).gains.any()
  # All get the first arm, or what stands in for it.
  _, composed = policy.compose(
    _SOURCE.load()[:1], ("generated_tokens",), lambda attempts: ()
  )
  np.testing.assert_allclose(
    composed.route(_SOURCE.load()[:1]).score[0], [0.5, 0.1875, 0, 0, 0, 0, 0]
  )


def test_a_budget_below_a_solution_still_buys_a_try(engine):
  (row,) = policy_solving.solve(
    _SOURCE.load()[:1],
    engine,
    budget_lib.Budget(generated_tokens=10),
    policy="plain",
    style="terse",
    sampling=_SAMPLING,
  )
  assert row["tries"] and 0 < row["cost"]["generated_tokens"] <= 10


def test_votes_without_an_answer_get_twice_the_share(engine):
  policy = made({"": (engine[0], None)}, generated_tokens=12)
  assert [arm.cap for arm in policy.arms] == [12, 24]
  lost = verdict(policy, [0], [result([], -1)])
  np.testing.assert_allclose(lost.gains, [0.0625, 0.25], rtol=1e-6)


def test_without_a_reward_model_tries_vote(engine):
  policy = made({"": (engine[0], None)}, flops=1e9)
  assert policy.arms[0].decoder == "adaptive_sc(n=16)"
  assert policy.limits(1, ("flops",)).flops == 2e9
  agreed = verdict(policy, [0], [result([7, 7], 1)])
  assert agreed.trust == pytest.approx(0.875) and not agreed.gains.any()
  split = verdict(policy, [0], [result([7, 8], 1)])
  assert split.trust == pytest.approx(0.5) and split.gains[0] > 0


@pytest.mark.parametrize("rewarded", [True, False])
def test_models_that_no_policy_knows_get_the_plain_one(
  engine, rewarded, monkeypatch
):
  said = []
  monkeypatch.setattr(
    policy_solving.logging, "warning", lambda *words: said.append(words)
  )
  rows = policy_solving.solve(
    _SOURCE.load(),
    engine if rewarded else (engine[0], None),
    budget_lib.Budget(generated_tokens=30),
    style="terse",
    sampling=_SAMPLING,
    batch=4,
  )
  assert len(said) == 1 and "plain" in said[0][0]
  assert [row["id"] for row in rows] == [p.id for p in _SOURCE.load()]
  spent = sum(row["cost"]["generated_tokens"] for row in rows)
  assert 0 < spent <= 30 * len(rows)
  assert all(row["tries"] for row in rows)
  for row in rows:
    stages = row["stages"]
    assert (
      stages["answer"] + stages["search"] + stages["tries"]
      == row["cost"]["generated_tokens"]
    )
    assert row["predicted"]["success"] is None
    best = max(reversed(row["tries"]), key=lambda one: one["trust"])
    assert best["arm"] == row["arm"]
    if row["next"] and not rewarded:
      assert row["next"]["gain"] == pytest.approx(
        (1 - best["trust"]) / 2 ** (1 + len(row["tries"]))
      )
  policy_report.table(rows)  # forecasts are missing


def test_a_cascade_escalates_what_is_doubtful(models, tmp_path):
  verifier = str(models / "verifier.safetensors")
  nested = str(models / "nested.safetensors")
  recipe = solve_recipe.SolveRecipe(
    problems=_SOURCE,
    verifier=verifier,
    budget="flops=2M",
    sampling=_SAMPLING,
    batch=4,
  )
  names = [f"{nested}@0.5", nested]
  path = tmp_path / "answers.jsonl"

  def solve():
    return policy_solving.solve_to_file(
      recipe, path, policy="plain", router=names, progress=False
    )

  rows = solve()
  assert sum(row["cost"]["flops"] for row in rows) <= 2e6 * len(rows)
  tried = [[one["arm"]["model"] for one in row["tries"]] for row in rows]
  assert all(each[0] == names[0] for each in tried)
  assert any(names[1] in each for each in tried)
  for row, asked in zip(rows, tried, strict=True):
    assert [names.index(m) for m in asked] == sorted(map(names.index, asked))
    if len(asked) > 1:  # the first answer was not good enough
      assert row["tries"][0]["trust"] < 0.95
  header = json.loads(path.read_text().splitlines()[0])
  assert list(header["models"]) == names
  assert solve() == rows  # resumes, and has nothing left to do


def test_a_served_model_is_asked_plainly(tmp_path):
  path = tmp_path / "questions.jsonl"
  lines = [{"id": f"q{i}", "question": f"What of {i}?"} for i in range(3)]
  path.write_text(
    "".join(json.dumps(x | {"answer": "1"}) + "\n" for x in lines)
  )
  with fault_server.FaultServer() as server:
    recipe = solve_recipe.SolveRecipe(
      problems=problem_sets.ProblemSource(path=str(path), count=0),
      policy=server.url,
      verifier=server.url,
      model="tiny",
      verifier_model="tiny",
      budget="generated_tokens=60",
      sampling=solve_recipe.SamplingOptions(step_tokens=12, max_tokens=36),
      batch=3,
    )
    rows = policy_solving.solve_to_file(
      recipe, tmp_path / "answers.jsonl", progress=False
    )
  assert len(rows) == 3 and all(row["tries"] for row in rows)
  assert sum(row["cost"]["generated_tokens"] for row in rows) <= 180


def test_what_cannot_be_is_refused(engine, models, tmp_path):
  with pytest.raises(ValueError, match="at least one model"):
    made({}, generated_tokens=9)
  with pytest.raises(ValueError, match="expected a limit"):
    made({"": engine})
  with pytest.raises(ValueError, match="verifier_calls=0 a problem"):
    made({"": engine}, verifier_calls=0)
  with pytest.raises(ValueError, match="was made without flops"):
    made({"": engine}, generated_tokens=9).check_fields(("flops",))
  with pytest.raises(ValueError, match="asks the model 'small'"):
    made({"small": engine}, generated_tokens=9).check_models({"": engine})
  with pytest.raises(ValueError, match="reading its prompt"):
    policy_solving.solve(
      _SOURCE.load(), engine, budget_lib.Budget(flops=10.0), policy="plain"
    )
  with pytest.raises(ValueError, match="generated_tokens=0 nothing can"):
    search_solving.prepare(
      solve_recipe.SolveRecipe(problems=_SOURCE, budget="generated_tokens=0")
    )


def test_policies_that_differ_have_other_fingerprints(engine):
  one = made({"": engine}, generated_tokens=30)
  assert one.fingerprint == made({"": engine}, generated_tokens=30).fingerprint
  assert one.fingerprint != made({"": engine}, generated_tokens=31).fingerprint
  assert (
    one.fingerprint != dataclasses.replace(one, verify="accept").fingerprint
  )
