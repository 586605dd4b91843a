# SPDX-License-Identifier: Apache-2.0
"""The planted study in little: points, resumption, claims and picture."""

import dataclasses

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.studies import planted_report, planted_study

_SPREAD = (2.0, 50.0)


@pytest.fixture(scope="module")
def recipe():
  return planted_study.StudyRecipe(
    families={
      "heterogeneous": (_SPREAD, ()),
      "homogeneous": ((10.0,), ()),
      "rare": ((0.1, 50.0), (0.99, 0.01)),
    },
    vocab=5,
    length=2,
    horizons=(4, 8),
    ratios=(2, 4),
    ratio=4,
    horizon=8,
    seeds=3,
    tuning_seeds=2,
    strengths=(0.1, 10.0),
    rates=(0.3, 3.0),
    radii=(0.5, 4.0),
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def points(recipe, workdir):
  return planted_study.run(recipe, workdir, show=False)


def test_points_hold_every_method_and_its_dial(recipe, points):
  assert set(points) == {(4, 2), (4, 4), (8, 2), (8, 4)}
  for (horizon, _), point in points.items():
    for method, reward in point.reward.items():
      assert reward.shape == (3, recipe.seeds)
      assert (reward >= 0).all() and (reward <= horizon - 1 + 1e-4).all()
      assert (point.accuracy[method] <= 1 + 1e-5).all()
      chosen = point.tuning[method].argmax(1)
      dial = {"policy_gradient": "rate", "reweight": "kappa"}
      settings = recipe.settings(dial.get(method, "strength"))
      np.testing.assert_allclose(
        point.setting[method], np.array(settings)[chosen]
      )


def test_a_second_run_reads_what_the_first_measured(recipe, workdir, points):
  """More points may be asked for later; others of the recipe are refused."""
  again = planted_study.run(
    dataclasses.replace(recipe, ratios=(2, 4), kappa=2.0), workdir, show=False
  )
  for place, point in points.items():
    for method, reward in point.reward.items():
      np.testing.assert_array_equal(reward, again[place].reward[method])
  with pytest.raises(ValueError, match="was measured of another recipe"):
    planted_study.run(
      dataclasses.replace(recipe, rates=(0.3, 2.0)), workdir, show=False
    )


def test_gaps_and_suboptimality_are_in_tokens(recipe, points):
  table = planted_report.Table(recipe, points)
  gap = table.gap("policy_gradient", "clone_solved", "heterogeneous")
  lost, left = (
    table.suboptimality(method, "heterogeneous")
    for method in ("clone_solved", "policy_gradient")
  )
  assert gap.shape == (recipe.seeds, 2)
  np.testing.assert_allclose(gap, lost - left, atol=1e-9)
  by_hand = 8 - 2 + 1 - points[8, 4].reward["clone_solved"][0]
  np.testing.assert_allclose(lost[:, 1], by_hand)
  traces = table.over_traces("clone_solved", "rare")
  np.testing.assert_array_equal(
    traces[:, 1], points[8, 4].reward["clone_solved"][2]
  )


def test_the_report_has_claims_data_and_a_picture(recipe, points, tmp_path):
  pytest.importorskip("matplotlib")
  study = planted_report.study(recipe, points)
  written = simulation.write(study, tmp_path / "found")
  read = results.read(written[0])
  claims = {claim.name: claim for claim in read.claims}
  assert claims["gap_slope_in_horizon"].bar == 0
  assert claims["gap_slope_in_horizon"].comparison == ">"
  table = planted_report.Table(recipe, points)
  gap = table.gap("policy_gradient", "clone_solved", "heterogeneous").mean(0)
  assert claims["gap_slope_in_horizon"].value == pytest.approx(gap[1] - gap[0])
  measured = read.data["measured_at_horizon"]["heterogeneous"]
  exact = read.data["base"]["heterogeneous"]["sigma"][1]
  assert measured["sigma"][0] == pytest.approx(exact, rel=0.25)
  assert (tmp_path / "found.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  "changed, said",
  [
    ({"horizons": (8, 4)}, "horizons must be positive and ascend"),
    ({"ratio": 3}, "ratio=3 is not one of"),
    ({"seeds": 1}, "seeds must be at least 2"),
    ({"rates": (1.0,)}, "must be equally many"),
    ({"radii": (0.0, 1.0)}, "radii must be positive"),
    ({"contextual": "other"}, "contextual='other' is no family"),
    ({"horizons": (1, 8)}, "has no gold string of 2 tokens"),
  ],
)
def test_recipes_that_cannot_be_are_refused(recipe, changed, said):
  with pytest.raises(ValueError, match=said):
    dataclasses.replace(recipe, **changed).validate()


def test_families_that_claims_need_are_asked_for(recipe, points):
  other = dataclasses.replace(recipe, families={"heterogeneous": (_SPREAD, ())})
  with pytest.raises(ValueError, match="families lack homogeneous, rare"):
    planted_report.study(other, points)
