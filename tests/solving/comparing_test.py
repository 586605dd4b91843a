# SPDX-License-Identifier: Apache-2.0
import dataclasses
import io

import numpy as np
import pytest
import rich.console

from jaxttc import results
from jaxttc.cost import budget as budget_lib
from jaxttc.evaluation import tables
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  comparing,
  comparison_report,
  decoder_text,
  loading,
  problem_sets,
  solve_recipe,
)

_BUDGETS = (20, 60, 150)


def recipe(models, **changes):
  method = comparing.MethodSpec
  values = {
    "problems": problem_sets.ProblemSource(
      count=8, family="modular", steps=(2,)
    ),
    "methods": (
      method(label="best_of_n", decoder="best_of_n", settings=("n=2", "n=4")),
      method(
        label="astar",
        decoder="astar(nodes=32, max_steps=4)",
        settings=("children=3",),
      ),
    ),
    "budgets": _BUDGETS,
    "policy": str(models / "policy.safetensors"),
    "verifier": str(models / "verifier.safetensors"),
    "sampling": solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    "batch": 8,
    "samples": 2,
    "controls": ("constant",),
    "control_methods": ("best_of_n",),
  }
  return comparing.CompareRecipe(**{**values, **changes})


@pytest.fixture(scope="module")
def compared(models, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("compared")
  found = comparing.run(recipe(models), str(workdir), progress=False)
  return found, workdir


def test_every_cell_is_there_once(compared):
  found, _ = compared
  keys = {(r.method, r.setting, r.budget, r.seed) for r in found.runs}
  settings = [
    ("best_of_n", "n=2"),
    ("best_of_n", "n=4"),
    ("astar", "children=3"),
  ]
  want = {(*setting, b, 0) for setting in settings for b in _BUDGETS}
  assert keys == want and len(found.runs) == len(want)
  (control,) = found.controls
  assert (control.method, control.setting) == ("best_of_n/constant", "n=4")


def test_no_run_spends_more_than_its_budget(compared):
  for run in compared[0].runs:
    assert run.cost["generated_tokens"].max() <= run.budget
    assert run.cost["seconds"].min() > 0


def test_cells_taken_over_are_what_running_them_gives(models, compared):
  found, _ = compared
  assert 0 < found.copied < 1
  made = recipe(models)
  policy, verifier = loading.load_models(made.policy, made.verifier)
  problems = made.problems.load()
  runs = [r for r in found.runs if r.setting == "n=2"]
  decoder = decoder_text.build("best_of_n(n=2)")
  for run in runs:
    expected = search_lib.solve(
      made.problems.prompts(problems),
      [problem.id for problem in problems],
      policy,
      verifier,
      decoder,
      budget=budget_lib.Budget(generated_tokens=int(run.budget)),
      settings=made.sampling_of(made.methods[0], ""),
      batch=8,
    )
    expected = list(expected)
    tokens = [result.cost.generated_tokens for result in expected]
    assert run.cost["generated_tokens"].tolist() == tokens
    right = [
      problem_sets.is_right(problem, result.completion)
      for problem, result in zip(problems, expected, strict=True)
    ]
    assert run.accuracy.tolist() == right


def test_finished_cells_are_not_run_again(models, compared, monkeypatch):
  found, workdir = compared
  asked = []
  real = search_lib.solve

  def spy(prompts, names, policy, verifier, decoder, **kwargs):
    asked.append((decoder.shape, len(prompts)))
    return real(prompts, names, policy, verifier, decoder, **kwargs)

  monkeypatch.setattr(search_lib, "solve", spy)
  lean = recipe(models, samples=0, tree_method="")
  again = comparing.run(lean, str(workdir), progress=False)
  assert not asked
  for before, after in zip(found.runs, again.runs, strict=True):
    np.testing.assert_array_equal(before.accuracy, after.accuracy)
    for name in before.cost:
      np.testing.assert_array_equal(before.cost[name], after.cost[name])
  # One cell is lost: only it is run again.
  (lost,) = workdir.glob("cells/best_of_n-n_4-20-0-*.npz")
  lost.unlink()
  comparing.run(lean, str(workdir), progress=False)
  # One problem, to compile; then those of the cell.
  assert len(asked) == 2 and asked[0][1] == 1 and asked[1][1] <= 8
  assert lost.exists()


def test_cells_that_do_not_say_what_was_shown_are_run_again(
  models, compared, tmp_path
):
  found, workdir = compared
  for run in found.runs:
    seen = run.seen
    assert set(np.unique(seen["answered"])) <= {0.0, 1.0}
    assert ((seen["reward"] >= 0) & (seen["reward"] <= 1)).all()
    assert not run.accuracy[seen["answered"] == 0].any()
  # A cell of before: all but what was shown.
  (path,) = workdir.glob("cells/best_of_n-n_4-60-0-*.npz")
  stored = dict(np.load(path))
  del stored["seen"]
  old = tmp_path / "cells"
  old.mkdir()
  with open(old / path.name, "wb") as file:
    np.savez_compressed(file, **stored)
  one = recipe(
    models,
    methods=(
      comparing.MethodSpec(
        label="best_of_n", decoder="best_of_n", settings=("n=4",)
      ),
    ),
    budgets=(60,),
    samples=0,
    controls=(),
    tree_method="",
  )
  (kept,) = comparing.run(one, str(tmp_path), progress=False).runs
  assert np.isnan(kept.seen["reward"]).all()
  looked = dataclasses.replace(one, seen=True)
  (again,) = comparing.run(looked, str(tmp_path), progress=False).runs
  assert not np.isnan(again.seen["reward"]).any()
  np.testing.assert_array_equal(again.accuracy, kept.accuracy)
  np.testing.assert_array_equal(
    again.cost["generated_tokens"], kept.cost["generated_tokens"]
  )


def test_report_is_whole(compared, tmp_path):
  found, _ = compared
  out = str(tmp_path / "new" / "decoders")
  paths = comparison_report.write(found, out, command="python compare.py")
  assert [p.rsplit(".")[-1] for p in paths] == ["json", "csv", "png", "png"]
  read = results.read(paths[0])
  assert read.seeds == (0,)
  assert len(read.data["points"]) == len(read.data["front"]) == 9
  names = {claim.name for claim in read.claims}
  assert {
    "tokens_best_of_n_over_astar",
    "astar_on_front_at_every_budget",
    "accuracy_astar",
    "accuracy_rises_best_of_n",
    "best_of_n_minus_constant_control",
  } <= names
  rows = open(paths[1], encoding="utf-8").read().splitlines()
  assert len(rows) == 1 + 9 and rows[0].startswith("method,setting,budget")
  for path in paths[2:]:
    assert open(path, "rb").read(4) == b"\x89PNG"
  at_k = read.data["at_k"]
  assert {row["k"] for row in at_k} == {1, 2}
  assert {row["estimator"] for row in at_k} == {"pass", "majority", "best_of_n"}


def test_table_shows_each_method_at_each_budget(compared):
  points = tables.summarise(compared[0].runs)
  console = rich.console.Console(width=160, record=True, file=io.StringIO())
  console.print(comparison_report.table(points))
  text = console.export_text()
  assert text.count("astar") == len(_BUDGETS)
  assert text.count("best_of_n") == len(_BUDGETS)


def test_report_that_cannot_be_written(compared, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written: "):
    comparison_report.write(
      compared[0], str(tmp_path / "file" / "decoders"), command=""
    )


def test_only_keeps_the_methods_named(models):
  chosen = recipe(models, only="astar").chosen()
  assert [method.label for method in chosen] == ["astar"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"only": "astr"}, "Did you mean 'astar'"),
    ({"methods": ()}, "expected at least one"),
    ({"budgets": (0, 10)}, "must be at least 1"),
    ({"budgets": (10, 10)}, "must be distinct"),
    ({"seeds": ()}, "must be distinct"),
    ({"batch": 0}, "batch=0"),
    ({"controls": ("ramdom",)}, "Did you mean 'random'"),
    ({"control_methods": ("best_of_m",)}, "Did you mean 'best_of_n'"),
    ({"verifier": ""}, "needs rewards"),
    ({"verifier": "arithmetic_verifier"}, "is a generative verifier"),
    ({"policy": "arithmetic_ml"}, "no model named"),
    (
      {"sampling": solve_recipe.SamplingOptions(temperature=-1.0)},
      "temperature.*-1",
    ),
  ],
)
def test_impossible_recipes_are_refused(models, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message) as caught:
    comparing.run(recipe(models, **changes), str(tmp_path), progress=False)
  assert "\n" not in str(caught.value)
  assert not any(tmp_path.iterdir())


def test_bad_settings_are_refused_before_anything_runs(models, tmp_path):
  good = recipe(models)
  bad = dataclasses.replace(good.methods[0], settings=("n=2", "n=0"))
  doubled = (*good.methods, good.methods[0])
  for methods, message in (
    ((bad,), "n must be at least 1"),
    (doubled, "two methods are labelled 'best_of_n'"),
  ):
    with pytest.raises(ValueError, match=message):
      comparing.run(
        dataclasses.replace(
          good, methods=methods, control_methods=(), tree_method=""
        ),
        str(tmp_path),
        progress=False,
      )


def test_problems_without_answers_are_refused(models, tmp_path):
  path = tmp_path / "q.jsonl"
  path.write_text('{"question": "1?", "answer": "1"}\n{"question": "2?"}\n')
  source = problem_sets.ProblemSource(path=str(path))
  with pytest.raises(ValueError, match="'q-2' has no gold answer"):
    comparing.run(
      recipe(models, problems=source), str(tmp_path), progress=False
    )


def test_a_policy_without_that_width_is_refused(models, tmp_path):
  nested = str(models / "nested.safetensors")
  for policy, allowed in ((nested, "0.5, 1.0"), (None, "1 alone")):
    changes = {"width": 0.25} | ({"policy": policy} if policy else {})
    with pytest.raises(ValueError, match=f"width=0.25 .*allowed: {allowed}"):
      comparing.run(recipe(models, **changes), str(tmp_path), progress=False)
