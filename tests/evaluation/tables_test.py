# SPDX-License-Identifier: Apache-2.0
import json
import subprocess
import sys

import numpy as np
import pytest

from jaxttc.evaluation import statistics as statistics_lib
from jaxttc.evaluation import tables


def run(**changes):
  values = {
    "method": "astar",
    "setting": "k=4",
    "budget": 100.0,
    "seed": 0,
    "accuracy": np.array([1.0, 0.0, 1.0, 1.0]),
    "cost": {"generated_tokens": np.array([10.0, 90.0, 20.0, 40.0])},
  }
  return tables.Run(**{**values, **changes})


def random_table(problems=200, seeds=(0, 1, 2)):
  rng = np.random.default_rng(0)
  chance = rng.random(problems)
  return [
    run(
      budget=budget,
      seed=seed,
      accuracy=(rng.random(problems) < chance).astype(float),
      cost={"generated_tokens": rng.exponential(budget, problems)},
    )
    for budget in (50.0, 100.0)
    for seed in seeds
  ]


def test_summary_of_one_run():
  (point,) = tables.summarise([run()])
  assert (point.method, point.setting, point.budget) == ("astar", "k=4", 100)
  assert (point.problems, point.seeds, point.level) == (4, 1, 0.95)
  assert point.accuracy == 0.75
  assert point.cost["generated_tokens"].value == 40
  assert point.low < 0.75 < point.high


def test_summary_joins_seeds_and_sorts():
  table = random_table()
  points = tables.summarise(table[::-1], resamples=200)
  assert [(p.budget, p.seeds) for p in points] == [(50, 3), (100, 3)]
  for point in points:
    runs = [r for r in table if r.budget == point.budget]
    want = np.mean([r.accuracy for r in runs])
    assert np.isclose(point.accuracy, want)
    cost = point.cost["generated_tokens"]
    assert cost.low < cost.value < cost.high


def test_summary_does_not_depend_on_the_order_of_rows():
  table = random_table()
  assert tables.summarise(table, resamples=50) == tables.summarise(
    table[::-1], resamples=50
  )


def test_summary_interval_is_no_narrower_than_over_problems_alone():
  table = random_table()[:3]
  (point,) = tables.summarise(table)
  alone = statistics_lib.bootstrap(
    np.stack([r.accuracy for r in table], axis=1),
    rng=np.random.default_rng(1),
  )
  assert point.high - point.low > 0.97 * (alone.high - alone.low)


@pytest.mark.parametrize("solved", [0.0, 1.0])
def test_unanimous_accuracy_gets_wilsons_interval(solved):
  (point,) = tables.summarise([run(accuracy=np.full(4, solved))])
  want = statistics_lib.wilson_interval(4 * solved, 4)
  assert (point.accuracy, point.low, point.high) == want


def test_tidy_rows_are_flat_and_json():
  (row,) = tables.tidy(tables.summarise([run()], resamples=50))
  assert row["method"] == "astar"
  assert row["generated_tokens"] == 40
  assert row["generated_tokens_low"] <= 40 <= row["generated_tokens_high"]
  assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"accuracy": np.zeros((2, 2))}, "vector over problems"),
    ({"accuracy": np.array([0.0, 2.0, 0.0, 0.0])}, r"lie in \[0, 1\]"),
    ({"accuracy": np.array([0.0, np.nan, 0.0, 0.0])}, r"lie in \[0, 1\]"),
    ({"budget": -1.0}, "budget"),
    ({"budget": float("nan")}, "budget"),
    ({"cost": {"flops": np.zeros(3)}}, "'flops' has shape"),
    ({"cost": {"flops": np.full(4, np.inf)}}, "finite"),
    ({"cost": {"flops": np.full(4, -1.0)}}, ">= 0"),
  ],
)
def test_run_refuses(changes, message):
  with pytest.raises(ValueError, match=message):
    run(**changes)


@pytest.mark.parametrize(
  "other, message",
  [
    ({}, "occurs twice"),
    ({"seed": 1, "cost": {"flops": np.ones(4)}}, "cost fields"),
    (
      {
        "seed": 1,
        "accuracy": np.ones(3),
        "cost": {"generated_tokens": np.ones(3)},
      },
      "3 problems",
    ),
  ],
)
def test_tables_that_do_not_fit_together_are_refused(other, message):
  with pytest.raises(ValueError, match=message):
    tables.summarise([run(), run(**other)])


def test_an_empty_table_is_refused():
  with pytest.raises(ValueError, match="empty"):
    tables.summarise([])


def test_unknown_names_suggest_the_nearest():
  draws = tables.resample([run()], 5, 0)
  with pytest.raises(ValueError, match="did you mean 'astar'"):
    draws.of("a_star")
  with pytest.raises(ValueError, match="did you mean 'generated_tokens'"):
    draws.field("generated_token")


def test_the_room_imports_neither_jax_nor_matplotlib():
  code = (
    "import sys, jaxttc.evaluation;"
    "print({'jax', 'matplotlib'} & set(sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "set()"
