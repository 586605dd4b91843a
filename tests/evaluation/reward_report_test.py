# SPDX-License-Identifier: Apache-2.0
"""The command from a file of rewards to a table, a file and a picture."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxttc.evaluation import heterogeneity, reward_report
from jaxttc.tasks import reward_rows

_SCRIPT = pathlib.Path(__file__).parents[2] / "scripts/diagnose.py"


@pytest.fixture
def path(tmp_path):
  rng = np.random.default_rng(0)
  chance = rng.beta(0.5, 0.5, 24)
  rows = [
    {
      "problem": f"problem {i}",
      "responses": ["x"] * n,
      "rewards": (rng.random(n) < chance[i]).astype(int).tolist(),
    }
    for i, n in enumerate(rng.integers(4, 9, 24))
  ]
  path = tmp_path / "rewards.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_a_report_is_the_diagnosis_of_its_table(path):
  table = reward_rows.table(reward_rows.load(path))
  report = reward_report.make(table, (1.0, 0.25), seed=3)
  assert report.kappas == (0.25, 1.0)
  for kappa, said in zip(report.kappas, report.said, strict=True):
    assert said == heterogeneity.diagnose(
      table.rewards, kappa, table.mask, rng=np.random.default_rng(3)
    )
  values = [found.value for found in report.curve]
  assert values == sorted(values, reverse=True)
  assert report.grid[-1] == 1
  assert values[-1] == report.said[-1].concentration.value
  with pytest.raises(ValueError, match="one or more, all unlike"):
    reward_report.make(table, (1.0, 1.0))


def test_the_command_prints_and_writes(path, tmp_path):
  with path.open("a") as file:
    file.write('{"problem": "short", "responses": ["a"], "rewards": [1]}\n')

  def run(*more):
    command = [sys.executable, str(_SCRIPT), f"--data={path}", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)

  out = tmp_path / "made/diagnosis"
  done = run("--skip_bad", "--kappa=1", f"--out={out}")
  assert done.returncode == 0, done.stderr
  assert "left out 1 rows" in done.stdout and "line 25" in done.stdout
  assert "anti-concentration" in done.stdout and "24 problems" in done.stdout
  found = json.loads(out.with_suffix(".json").read_text())
  (said,) = found["data"]["diagnoses"]
  assert said["recommendation"] in ("verify", "distil")
  assert said["recommendation"] in done.stdout
  assert out.with_suffix(".png").stat().st_size > 10_000
  refused = run(f"--out={out}")
  assert refused.returncode == 1
  assert "line 25: 1 responses, expected at least 3" in refused.stderr
  assert "Traceback" not in refused.stderr
