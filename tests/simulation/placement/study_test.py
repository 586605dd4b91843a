# SPDX-License-Identifier: Apache-2.0
"""The study runs whole at a tiny size, and refuses what it cannot do."""

import dataclasses

import pytest

from jaxttc import simulation
from jaxttc.simulation.placement import generator, google_2011, study

TINY = study.BalancingStudy(
  seeds=(0, 1),
  # One size, and one budget, so that little has to be compiled.
  small=(6, 3, 2),
  medium=(6, 3, 2),
  evals=1200,
  large=(6, 3, 2),
  large_solvers=("greedy",),
  large_evals=(1200,),
  cell_machines=12,
  cell_hours=0.4,
  cell_seeds=(0, 1),
  cell_policies=("masb",),
  machines=12,
  hours=0.4,
  large_policies=("masb",),
  workdir="",
)


def test_study_becomes_files(tmp_path):
  found = TINY.run()
  names = {claim.name: claim for claim in found.claims}
  assert names["seeded_genetic_over_genetic_cost"].bar == 1
  assert names["nodes"].value == 12 and not names["nodes"].holds
  assert names["agent_based_overloaded_share"].bar == 0.01
  written = simulation.write(found, tmp_path / "balancing")
  assert (tmp_path / "balancing.json").stat().st_size > 1000
  assert written[1].endswith(".png")


def test_finished_parts_are_kept(tmp_path):
  recipe = dataclasses.replace(TINY, workdir=str(tmp_path))
  assert recipe._kept("part", lambda: [{"a": 1}]) == [{"a": 1}]
  assert recipe._kept("part", lambda: [{"a": 2}]) == [{"a": 1}]
  other = dataclasses.replace(recipe, evals=7)
  assert other._kept("part", lambda: [{"a": 2}]) == [{"a": 2}]


def test_a_trace_in_place_of_the_generated_one(tmp_path):
  spec = generator.Spec(machines=9, hours=0.4, seed=4)
  google_2011.write(tmp_path, generator.generate(spec))
  recipe = dataclasses.replace(TINY, trace=str(tmp_path))
  with study.rich_progress.Progress(disable=True) as bar:
    (row,) = recipe._replay(bar)
  assert row["machines"] == 9


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"large_policies": ("magic",)}, "policy 'magic' is not one of random"),
    ({"large_solvers": ("magic",)}, "solver 'magic' is not one of greedy"),
    ({"large_evals": (1, 2)}, "large_evals has 2 numbers for 1"),
    ({"layout": "2015"}, "layout '2015' is not 2011 or 2019"),
    ({"seeds": (0,)}, "an interval needs two seeds"),
  ],
)
def test_recipes_that_cannot_be(fields, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(TINY, **fields).run()


def test_traces_that_are_too_short_to_settle():
  with pytest.raises(ValueError, match="trace of 0 periods is too short"):
    study.summary([])
