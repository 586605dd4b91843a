# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io
import json
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.evaluation import looks
from jaxttc.predictors import answer_trust, routing
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  budget_policies,
  cost_laws,
  loading,
  policy_cascades,
  policy_report,
  policy_solving,
  problem_sets,
  solve_recipe,
)

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SOURCE = problem_sets.ProblemSource(
  count=10, family="modular", steps=(2, 3), style="terse"
)


@pytest.fixture(scope="module")
def engine(models):
  return loading.load_models(
    str(models / "policy.safetensors"), str(models / "verifier.safetensors")
  )


@pytest.fixture(scope="module")
def policy(engine):
  """Two decoders, of which the dearer is expected to do better."""
  questions = [problem.text for problem in _SOURCE.load()]
  return budget_policies.BudgetPolicy(
    arms=(
      budget_policies.Arm("best_of_n(n=2)", 20),
      budget_policies.Arm("best_of_n(n=2)", 40),
      budget_policies.Arm("greedy", 16),
    ),
    embed=routing.hashed_ngrams.fit(questions, bits=5, rank=2),
    success=routing.Constant(jnp.array([0.4, 0.7, 0.3])),
    share=routing.Constant(jnp.array([0.8, 0.7, 0.5])),
    style="terse",
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    models={"": tuple(map(loading.weights_fingerprint, engine))},
  )


def recipe(models, **changes):
  values = {
    "problems": _SOURCE,
    "policy": str(models / "policy.safetensors"),
    "verifier": str(models / "verifier.safetensors"),
    "budget": "generated_tokens=18",
    "batch": 4,
  }
  return solve_recipe.SolveRecipe(**{**values, **changes})


def solve_to_file(models, engine, path, **options):
  """With the engine of the module, so that it is compiled once."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loading, "load_models", lambda *args, **kwargs: engine)
    return policy_solving.solve_to_file(
      recipe(models), path, progress=False, **options
    )


def generated(rows):
  return sum(row["cost"]["generated_tokens"] for row in rows)


@pytest.fixture(scope="module")
def solved(models, engine, policy, tmp_path_factory):
  path = tmp_path_factory.mktemp("solved") / "answers.jsonl"
  return solve_to_file(models, engine, path, policy=policy), path


def test_each_problem_has_a_row_that_says_where_the_budget_went(
  solved, engine, policy
):
  rows, path = solved
  problems = _SOURCE.load()
  assert {row["id"] for row in rows} == {problem.id for problem in problems}
  assert [json.loads(x) for x in path.read_text().splitlines()][1:] == rows
  assert 0 < generated(rows) <= 180
  for row in rows:
    stages, tokens = row["stages"], row["cost"]["generated_tokens"]
    assert stages["answer"] + stages["search"] + stages["tries"] == tokens
    assert stages["verify"] == row["cost"]["verifier_tokens"]
    if row["arm"] is None:
      assert row["stop"] == policy_solving.NOT_TRIED and tokens == 0
      continue
    arm = budget_policies.Arm(**row["arm"])
    assert tokens <= arm.cap and arm in policy.arms
    if arm.cap == 40:
      assert row["next"] is None
    else:
      assert row["next"]["gain_of_100_tokens"] == pytest.approx(
        100 * row["next"]["gain"] / row["next"]["tokens"]
      )


def test_a_row_is_the_search_of_its_arm_alone(solved, engine, policy):
  row = next(row for row in solved[0] if row["arm"] and row["completion"])
  (problem,) = [p for p in _SOURCE.load() if p.id == row["id"]]
  decoder, settings = policy.build(row["arm"]["decoder"])
  (result,) = search_lib.solve(
    [problem.text + "\nSolve tersely.\n"],
    [problem.id],
    *engine,
    decoder,
    budget=budget_lib.Budget(generated_tokens=row["arm"]["cap"]),
    settings=settings,
    batch=4,
  )
  assert result.completion == row["completion"]
  assert result.cost.as_dict() == row["cost"]


def test_one_call_does_the_same(solved, engine, policy):
  rows = policy_solving.solve(
    _SOURCE.load(),
    engine,
    budget_lib.Budget(generated_tokens=180),
    policy=policy,
    per="set",
    batch=4,
  )
  assert [row["id"] for row in rows] == [p.id for p in _SOURCE.load()]
  assert sorted(rows, key=str) == sorted(solved[0], key=str)


def test_a_stopped_run_goes_on_with_what_is_left(
  solved, models, engine, policy, tmp_path, monkeypatch
):
  path = tmp_path / "answers.jsonl"
  path.write_bytes(b"".join(solved[1].read_bytes().splitlines(True)[:4]))
  ledger = ledger_lib.Ledger("test")
  rows = solve_to_file(models, engine, path, policy=policy, ledger=ledger)
  assert rows[:3] == solved[0][:3] and len(rows) == 10
  assert generated(rows) <= 180
  (entry,) = ledger.entries
  assert entry.queries == 7

  def never(*args, **kwargs):
    raise AssertionError("searched again")

  monkeypatch.setattr(search_lib, "solve", never)
  assert solve_to_file(models, engine, path, policy=policy) == rows
  other = dataclasses.replace(policy, origin="elsewhere")
  with pytest.raises(ValueError, match="line 1: written by another budget_pol"):
    solve_to_file(models, engine, path, policy=other)


def test_without_a_budget_nothing_is_tried(engine, policy):
  rows = policy_solving.solve(
    _SOURCE.load(), engine, budget_lib.Budget(generated_tokens=0), policy=policy
  )
  assert {row["stop"] for row in rows} == {policy_solving.NOT_TRIED}
  assert generated(rows) == 0


@pytest.fixture(scope="module")
def cascade(policy):
  """A policy that doubts every answer, and hopes much of another try."""
  model = answer_trust.Trust(
    right=np.array([-1.0, 0.0, 0.1, 0.0, 0.0]),
    rescue=np.array([0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]),
    cost=np.array([0.0, 1.0, 0.0, 0.0]),
    spoil=np.array(0.0),
  )
  looked = np.array([True, True, False])
  return dataclasses.replace(
    policy,
    cascade=policy_cascades.Cascade(model, looked, 2, 1.0),
    laws=cost_laws.CostLaws(
      ("verifier_calls", "flops"),
      np.zeros((3, 2)),
      np.array([[0.1, 1e5]] * 3),
      np.array([[4.0, 1e9]] * 3),
    ),
  )


def test_a_doubtful_answer_gets_another_try(
  models, engine, cascade, tmp_path, monkeypatch
):
  path = tmp_path / "answers.jsonl"
  rows = solve_to_file(models, engine, path, policy=cascade)
  assert len(rows) == 10 and generated(rows) <= 180
  assert not any("open" in row for row in rows)
  twice = [row for row in rows if len(row["tries"]) == 2]
  assert twice
  for row in rows:
    stages, tries = row["stages"], row["tries"]
    tokens = sum(one["tokens"] for one in tries)
    assert tokens == row["cost"]["generated_tokens"]
    assert stages["answer"] + stages["search"] + stages["tries"] == tokens
    if tries:
      best = max(reversed(tries), key=lambda one: one["trust"])
      assert row["arm"] == best["arm"]
      assert stages["tries"] == tokens - best["tokens"]
  # A further try is the search of its arm with the next seed.
  row = next(row for row in twice if row["tries"][1]["trust"] > 0)
  (problem,) = [p for p in _SOURCE.load() if p.id == row["id"]]
  again = row["tries"][1]
  decoder, settings = cascade.build(again["arm"]["decoder"])
  (result,) = search_lib.solve(
    [problem.text + "\nSolve tersely.\n"],
    [problem.id],
    *engine,
    decoder,
    budget=budget_lib.Budget(generated_tokens=again["arm"]["cap"]),
    settings=settings,
    seed=1,
    batch=4,
  )
  assert result.cost.generated_tokens == again["tokens"]
  assert looks.look(result)._asdict() == again["seen"]
  # Stopped before the further tries: what was answered is let be, and paid.
  lines = path.read_bytes().splitlines(True)
  cut = next(i for i, x in enumerate(lines) if b'"open": true' not in x and i)
  path.write_bytes(b"".join(lines[:cut]))
  early = [json.loads(x) for x in lines[1:cut]]
  resumed = solve_to_file(models, engine, path, policy=cascade)
  assert len(resumed) == 10 and generated(resumed) <= 180
  assert {row["id"] for row in resumed} == {row["id"] for row in rows}
  for row in early:
    assert row in resumed
  monkeypatch.setattr(search_lib, "solve", None)
  again = solve_to_file(models, engine, path, policy=cascade)
  assert sorted(again, key=str) == sorted(resumed, key=str)


@pytest.mark.parametrize(
  "limits",
  [
    dict(verifier_calls=9),
    dict(generated_tokens=120, verifier_calls=12),
    dict(flops=2e7),
  ],
)
def test_no_field_of_a_budget_is_overspent(engine, cascade, limits):
  rows = policy_solving.solve(
    _SOURCE.load(),
    engine,
    budget_lib.Budget(**limits),
    policy=cascade,
    per="set",
    batch=4,
  )
  for name, limit in limits.items():
    spent = sum(row["cost"][name] for row in rows)
    assert 0 <= spent <= limit
  if "flops" not in limits:
    assert any(row["tries"] for row in rows)


@pytest.mark.parametrize(
  "budget, message",
  [
    (dict(), "there is no limit; expected at least one"),
    (dict(flops=1e9), "knows nothing of flops; expected limits on generated"),
    (dict(generated_tokens=9, seconds=3.0), "knows nothing of seconds"),
    (dict(generated_tokens=-1), "must be finite and not negative, got -1"),
  ],
)
def test_other_budgets_are_refused(
  engine, policy, monkeypatch, budget, message
):
  monkeypatch.setattr(search_lib, "solve", None)
  with pytest.raises(ValueError, match=message):
    policy_solving.solve(
      _SOURCE.load(), engine, budget_lib.Budget(**budget), policy=policy
    )


def test_what_cannot_run_is_refused_before_anything_is_spent(
  models, engine, policy, tmp_path, monkeypatch
):
  monkeypatch.setattr(search_lib, "solve", None)
  problems = _SOURCE.load()
  budget = budget_lib.Budget(generated_tokens=9)

  def refuses(message, *args, **kwargs):
    with pytest.raises(ValueError, match=message) as caught:
      policy_solving.solve(*args, **kwargs)
    assert "\n" not in str(caught.value)

  refuses("no policy named 'atuo'", problems, engine, budget, policy="atuo")
  refuses("there are no problems", [], engine, budget, policy=policy)
  refuses("one id", problems[:1] * 2, engine, budget, policy=policy)
  refuses(
    "Unknown per 'day'", problems, engine, budget, policy=policy, per="day"
  )
  refuses("batch must", problems, engine, budget, policy=policy, batch=0)
  for change, message in (
    (
      dict(problems=dataclasses.replace(_SOURCE, style="verbose")),
      "asked for as 'terse'",
    ),
    (dict(budget="generated_tokens=9,flops=1G"), "knows nothing of flops"),
  ):
    with pytest.raises(ValueError, match=message):
      policy_solving.solve_to_file(
        recipe(models, **change), tmp_path / "x.jsonl", policy=policy
      )
  assert not (tmp_path / "x.jsonl").exists()


def test_the_report_shows_arms_and_stages(solved, tmp_path):
  rows = solved[0]
  console = rich.console.Console(file=io.StringIO(), width=120)
  console.print(policy_report.table(rows))
  text = console.file.getvalue()
  assert "best_of_n" in text or "greedy" in text
  pytest.importorskip("matplotlib")
  policy_report.draw(rows, tmp_path / "bars.png")
  assert (tmp_path / "bars.png").stat().st_size > 10_000
  with pytest.raises(ValueError, match="no rows"):
    policy_report.draw([], tmp_path / "none.png")


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--policy=atuo"], "no policy named 'atuo'"),
    (["--policy=auto", "--picture=x.xyz"], "x.xyz: expected a picture"),
    (["--policy=auto", "--decoder=greedy"], "a policy chooses the decoders"),
    (["--router=nested_lm"], "at least two"),
    (["--budget=generated_tokens=0"], "generated_tokens=0 nothing can be"),
  ],
)
def test_the_script_refuses_in_one_line(tmp_path, arguments, message):
  done = subprocess.run(
    [
      sys.executable,
      str(_ROOT / "scripts" / "solve.py"),
      *arguments,
      f"--out={tmp_path / 'answers.jsonl'}",
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.strip().startswith("solve.py: ")
  assert message in done.stderr
  assert len(done.stderr.strip().splitlines()) == 1
