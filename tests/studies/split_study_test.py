# SPDX-License-Identifier: Apache-2.0
"""The study of annotation splits, small and whole: run, stopped, reported."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from jaxttc.studies import split_report, split_study

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def _recipe(**fields):
  spec = importlib.util.spec_from_file_location(
    "preferences", _ROOT / "configs" / "preferences.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  recipe = module.get_config()
  small = {
    "budgets": (16, 64),
    "shares": (0.0, 0.1, 1.0),
    "pair_prices": (0.5, 1.0),
    "falls_from": 16,
    "arms_budget": 64,
    "seeds": 3,
    "tested": 50,
    "epochs": 2,
  }
  for name, value in (small | fields).items():
    setattr(recipe, name, value)
  return recipe


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("study")
  recipe = _recipe()
  return recipe, workdir, split_study.run(recipe, str(workdir), show=False)


def test_every_cell_has_a_run_a_share_and_seed(ran):
  recipe, workdir, runs = ran
  assert list(runs) == recipe.cells() and len(runs) == 6
  lines = (workdir / "runs.jsonl").read_text().splitlines()
  assert len(lines) == 1 + 6 * 9
  for cell, rows in runs.items():
    assert [(r["share"], r["seed"]) for r in rows] == [
      (share, seed) for share in recipe.shares for seed in range(3)
    ]
    assert all(r["spent"] <= cell.budget for r in rows)
    assert all(0 < r["accuracy"] < 1 for r in rows)


def test_pairs_alone_change_no_style_and_seeds_differ(ran):
  recipe, _, runs = ran
  base = split_study.base_scores(recipe)
  rows = runs[split_study.Cell("dpo", 1.0, 64)]
  alone = [r["step_rate"] for r in rows if r["share"] == 0]
  np.testing.assert_allclose(alone, base["step_rate"], rtol=1e-5)
  assert len({r["accuracy"] for r in rows}) == len(rows)
  taught = [r["step_rate"] for r in rows if r["share"] == 1]
  assert min(taught) > max(alone)


def test_a_stopped_study_goes_on_and_finds_the_same(ran, tmp_path):
  recipe, workdir, runs = ran
  lines = (workdir / "runs.jsonl").read_text().splitlines(keepends=True)
  cut = tmp_path / "runs.jsonl"
  cut.write_text("".join(lines[: 1 + 9 + 4]) + lines[20][:30])
  again = split_study.run(recipe, str(tmp_path), show=False)
  assert {cell: list(rows) for cell, rows in again.items()} == runs
  assert cut.read_text() == (workdir / "runs.jsonl").read_text()


def test_other_recipes_and_broken_lines_are_refused(ran, tmp_path):
  recipe, workdir, _ = ran
  with pytest.raises(ValueError, match="line 1: holds runs of another recipe"):
    split_study.run(_recipe(epochs=3), str(workdir), show=False)
  header = (workdir / "runs.jsonl").read_text().splitlines(keepends=True)[0]
  (tmp_path / "runs.jsonl").write_text(header + '{"arm": 1}\n')
  with pytest.raises(ValueError, match="line 2: expected a run as JSON"):
    split_study.run(recipe, str(tmp_path), show=False)


def test_the_report_is_written_whole(ran, tmp_path):
  pytest.importorskip("matplotlib")
  recipe, _, runs = ran
  found = split_report.study(recipe, runs)
  json.dumps(found.data, default=lambda x: x.tolist())
  names = {claim.name for claim in found.claims}
  assert "best_sft_share_falls_with_budget" in names
  assert "rule_points_below_best_held_out" in names
  found.draw(tmp_path / "study.png")
  assert (tmp_path / "study.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"shares": (0.1, 1.0)}, "shares must go from 0 to 1"),
    ({"budgets": (64, 16)}, "budgets must ascend"),
    ({"pair_prices": (2.0, 4.0)}, "pair_prices must hold 1.0"),
    ({"falls_from": 17}, "falls_from=17 is not one of"),
    ({"seeds": 2}, "at least 3 seeds"),
    ({"rate": 0.0}, "rate must be positive"),
  ],
)
def test_bad_recipes_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    _recipe(**fields).validate()
