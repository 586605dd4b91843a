# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from configs import scaling
from jaxttc import results as results_lib
from jaxttc import simulation
from jaxttc.simulation.clusters import scaling_study

_SERVING = (
  pathlib.Path(__file__).resolve().parents[4] / "shared/data/llm_serving"
)


def test_designs_are_different_and_use_the_whole_fleet(fast, slow):
  kinds = {"H100": fast, "H100 capped": fast, "A100": slow}
  made = scaling_study.fleet_designs(kinds, 6, 30)
  assert len(made) == len({cluster.name for cluster in made}) == 30
  assert {cluster.name.split()[0] for cluster in made} == {
    "HH",
    "HHcap",
    "HA",
    "AA",
  }
  assert all(len(cluster.machines) == 6 for cluster in made)
  # Two pools of six: 5 ways; three: 10; for each of four pairs.
  assert len(scaling_study.fleet_designs(kinds, 6, 10**4)) == 4 * 15


def _growth(field, power):
  return [
    {"load": load, field: size, "seconds": 0.1 * size**power}
    for load in ("load", "overload")
    for size in (10, 40, 160)
  ]


def test_claims_follow_from_rows():
  data = {
    "sweep": {
      "designs": 2,
      "requests": 50,
      "wall_seconds": 9.0,
      "cpu_seconds": 4.0,
    },
    "designs": [{"met": True}, {"met": False}],
    "by_requests": _growth("requests", 1.5),
    "by_machines": _growth("machines", 0.5),
  }
  found = {claim.name: claim for claim in scaling_study.claims(data)}
  assert found["designs_a_cpu_minute"].value == pytest.approx(30)
  assert found["sweep_requests_a_cpu_second"].value == pytest.approx(25)
  assert found["designs_that_meet"].value == 1
  slow = found["time_exponent_in_requests_overload"]
  assert slow.value == pytest.approx(1.5) and slow.holds is False
  machines = found["time_exponent_in_machines_load"]
  assert machines.value == pytest.approx(0.5) and machines.holds is None


@pytest.mark.slow
@pytest.mark.skipif(
  not _SERVING.exists(), reason="no ../shared/data/llm_serving"
)
def test_small_study_becomes_files(tmp_path):
  pytest.importorskip("matplotlib")
  recipe = scaling.get_config()
  recipe.trace = str(_SERVING / "azure_llm_trace_conv.csv")
  recipe.table = str(_SERVING / "splitwise_perf_model.csv")
  recipe.fleet, recipe.designs, recipe.hours = 3, 5, 0.02
  recipe.sizes, recipe.size_requests = (2, 3), 100
  recipe.requests, recipe.machines, recipe.lanes = (100, 150), 3, 2
  files = simulation.write(recipe.run(), tmp_path / "scaling")
  found = results_lib.read(files[0])
  assert pathlib.Path(files[1]).stat().st_size > 10_000
  assert len(found.data["designs"]) == 5
  for row in found.data["designs"]:
    assert row["unfinished"] == 0 and row["energy_mj"] > 0
  for table in ("by_machines", "by_requests"):
    for row in found.data[table]:
      assert row["unfinished"] == 0 and row["events"] > 2 * row["requests"]


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("fleet", 1, "fleet and sizes must be 2 or more"),
    ("requests", (100,), "requests two lengths or more"),
    ("designs", 0, "designs must be positive"),
    ("trace", "nowhere.csv", "nowhere.csv"),
  ],
)
def test_refuses_recipes_that_cannot_be(field, value, message):
  recipe = scaling.get_config()
  recipe.table = "nowhere.csv"
  setattr(recipe, field, value)
  with pytest.raises(ValueError, match=message):
    recipe.run()
