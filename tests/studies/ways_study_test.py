# SPDX-License-Identifier: Apache-2.0
"""The study of all ways to think, small."""

import numpy as np
import pytest

from jaxttc.studies import ways_study

_RECIPE = ways_study.WaysRecipe(
  ways=("hard_cap", "no_wait", "guided"),
  questions=6,
  budgets=(8, 20),
  at=8,
  seeds=(0, 1),
  resamples=20,
)


@pytest.fixture(scope="module")
def found():
  return ways_study.run(_RECIPE)


def test_every_way_meets_every_budget_and_seed(found):
  assert set(found) == {*_RECIPE.ways, *ways_study.UNLIMITED}
  for name, rows in found.items():
    budgets = _RECIPE.budgets if name in _RECIPE.ways else (_RECIPE.limit,)
    assert [(r["budget"], r["seed"]) for r in rows] == [
      (b, s) for b in budgets for s in (0, 1) for _ in range(6)
    ]
    if name in _RECIPE.ways:
      assert all(r["thinking_tokens"] <= r["budget"] for r in rows), name


def test_cells_are_means_over_questions_and_seeds(found):
  cells = {
    (row["way"], row["budget"]): row for row in ways_study.cells(_RECIPE, found)
  }
  assert len(cells) == 2 * len(_RECIPE.ways) + len(ways_study.UNLIMITED)
  rows = [row for row in found["hard_cap"] if row["budget"] == 8]
  cell = cells["hard_cap", 8]
  assert cell["accuracy"] == np.mean([row["correct"] for row in rows])
  assert cell["control"] == 1.0 and cell["overshoot"] == 0.0
  forced = [row["thinking_finish"] == "forced" for row in rows]
  assert cell["forced"] == np.mean(forced) > 0


def test_claims_and_picture(found, tmp_path):
  study = ways_study.report(_RECIPE, found)
  claims = {claim.name: claim for claim in study.claims}
  assert claims["control_least"].value == 1.0
  assert claims["no_wait_tokens_over_full"].value < 1.0
  hard, guided = (
    claims[f"accuracy_{way}_at_8"].value for way in ("hard_cap", "guided")
  )
  gap = claims["guided_points_over_hard_cap_at_8"].value
  np.testing.assert_allclose(gap, 100 * (guided - hard))
  study.draw(tmp_path / "ways.png")
  assert (tmp_path / "ways.png").stat().st_size > 5000


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"budgets": (8,)}, "expected two or more"),
    ({"budgets": (20, 8)}, "expected two or more, rising"),
    ({"at": 9}, "at is 9; expected one of"),
    ({"seeds": ()}, "0 seeds"),
    ({"ways": ("gided",)}, "Did you mean 'guided'"),
  ],
)
def test_recipes_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    ways_study.run(ways_study.WaysRecipe(**changes))
