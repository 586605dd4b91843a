# SPDX-License-Identifier: Apache-2.0
"""The study of training on SCALE's traces, in little."""

import dataclasses
import json

import numpy as np
import pytest

from configs import scale_sft
from jaxttc import simulation
from jaxttc.studies import trace_report, trace_study


@pytest.fixture(scope="module")
def recipe():
  whole = scale_sft.get_config()
  return dataclasses.replace(
    whole,
    scale=dataclasses.replace(
      whole.scale, additions=(1, 5), steps=2, chains=12, calibration=120
    ),
    chains=250,
    rows=64,
    seeds=(0,),
    tested=48,
    train=dataclasses.replace(
      whole.train, steps=60, evaluate_every=60, checkpoint_every=60
    ),
  )


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory):
  folder = tmp_path_factory.mktemp("traces")
  return folder, trace_study.run(recipe, folder)


def _rows(folder, kind):
  lines = (folder / f"{kind}_0.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_rows_are_steps_asked_as_system_1_whoever_wrote_them(study, recipe):
  folder, found = study
  for kind in trace_study.KINDS:
    rows = _rows(folder, kind)
    assert len(rows) == recipe.rows
    additions = [row["prompt"].count("+") for row in rows]
    assert additions.count(1) == additions.count(5) == recipe.rows // 2
    assert all(row["prompt"].endswith("\nAnswer only.\n") for row in rows)
    # A chain that came out right may hold two errors that cancel out.
    right = [
      row["completion"].endswith(f"#### {_sum(row['prompt'])}\n")
      for row in rows
    ]
    assert np.mean(right) > 0.9
  lines = {
    kind: [row["completion"].count("\n") for row in _rows(folder, kind)]
    for kind in trace_study.KINDS
  }
  assert set(lines["fast"]) == {1}
  assert sorted(set(lines["slow"])) == [2, 6]
  worked_out = np.array(lines["scale"]).reshape(-1, 2) > 1  # short, long
  assert worked_out[:, 1].mean() > worked_out[:, 0].mean() + 0.5
  written = {kind: by_seed[0] for kind, by_seed in found.written.items()}
  assert written["fast"] < written["scale"] < written["slow"]


def _sum(prompt):
  return sum(map(int, prompt.splitlines()[0].split("+")))


def test_a_copy_thinks_where_its_traces_did(study):
  _, found = study
  base, control, student = (
    found.tested[name][0] for name in ("fast", "student-fast", "student-scale")
  )
  long = base.kinds == 5
  np.testing.assert_array_equal(base.kinds, student.kinds)
  assert student.right[long].mean() > base.right[long].mean() + 0.2
  assert student.tokens[long].mean() > 2 * student.tokens[~long].mean()
  assert control.tokens.mean() < 4  # answers at once are all that it has seen


def test_goes_on_where_it_was_and_refuses_another_recipe(study, recipe):
  folder, found = study
  before = (folder / "scale_0.safetensors").stat().st_mtime_ns
  again = trace_study.run(recipe, folder)
  assert (folder / "scale_0.safetensors").stat().st_mtime_ns == before
  for name in ("scale", "student-scale"):
    np.testing.assert_array_equal(
      again.tested[name][0].chains.tokens, found.tested[name][0].chains.tokens
    )
  with pytest.raises(ValueError, match="holds the runs of another recipe"):
    trace_study.run(dataclasses.replace(recipe, rows=60), folder)


def test_report_says_what_was_tested(study, recipe, tmp_path):
  _, found = study
  made = trace_report.report(recipe, found)
  claims = {claim.name: claim for claim in made.claims}
  gained = claims["points_gained_at_4_5_digits"]
  assert (gained.bar, gained.comparison) == (20, ">=")
  long = found.tested["fast"][0].kinds == 5
  right = [
    found.tested[name][0].right[long].mean()
    for name in ("student-scale", "fast")
  ]
  assert gained.value == pytest.approx(100 * (right[0] - right[1]))
  simulation.publish(made, tmp_path / "study")
  assert (tmp_path / "study.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("rows", 63, "rows is 63; expected a multiple of 2"),
    ("tau", 1.5, "tau is 1.5"),
    ("chains", 0, "chains is 0"),
    ("seeds", (), "seeds"),
  ],
)
def test_refused_before_anything_is_decoded(
  recipe, tmp_path, field, value, said
):
  with pytest.raises(ValueError, match=said):
    trace_study.run(
      dataclasses.replace(recipe, **{field: value}), tmp_path / "none"
    )
  assert not (tmp_path / "none").exists()


def test_two_models_and_too_few_right_chains_are_refused(recipe, tmp_path):
  two = dataclasses.replace(recipe.scale, fast_model="fast_sums_lm")
  with pytest.raises(ValueError, match="one model is trained"):
    trace_study.run(dataclasses.replace(recipe, scale=two), tmp_path)
  few = dataclasses.replace(recipe, chains=12)
  with pytest.raises(ValueError, match="traces of scale, seed 0: .* raise"):
    trace_study.run(few, tmp_path)
