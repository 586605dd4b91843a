# SPDX-License-Identifier: Apache-2.0
"""The study runs, draws, and holds the figures of its config."""

import dataclasses

import pytest

from configs import daq
from jaxttc import results, simulation
from jaxttc.simulation.detectors import trained_cascade


def _small():
  return dataclasses.replace(
    daq.get_config(),
    seeds=(0,),
    queue_events=2000,
    trained=trained_cascade.CascadeRecipe(
      prevalence=0.02,
      features=8,
      cheap=3,
      hidden=8,
      training_events=1000,
      steps=20,
      batch=64,
      events=5000,
      keep_first=4.0,
      keep_all=50.0,
      bootstrap=4,
    ),
  )


@pytest.mark.slow
def test_study_becomes_files(tmp_path):
  study = _small().run()
  written = simulation.write(study, tmp_path / "daq")
  read = results.read(written[0])
  claims = {claim.name: claim for claim in read.claims}
  assert claims["samples_per_kj_gain"].holds
  assert claims["power_reduction"].holds
  assert claims["early_over_late_f1"].holds
  assert claims["order_of_systems_spearman"].value > 0.9
  # Slots take up what irregular arrivals would lose; dead time does not.
  queues = read.data["queues"]
  lost = [row["lost_share"] for row in queues]
  assert lost[0] > lost[1] >= lost[2]
  assert queues[3]["dead_share"] == pytest.approx(0.1 / 1.1, rel=0.3)
  # In this design as many are stored as are relevant.
  for row in read.data["scenarios"]:
    same = pytest.approx(row["relevant_per_kj"], rel=1e-6)
    assert row["samples_per_kj"] == same
  assert (tmp_path / "daq.png").stat().st_size > 10_000


def test_recipe_is_checked_before_it_runs():
  recipe = _small()
  recipe.trained.steps = 0
  with pytest.raises(ValueError, match="steps must be at least 1"):
    recipe.run()


def test_no_seed_is_told():
  with pytest.raises(ValueError, match="at least one seed"):
    dataclasses.replace(daq.get_config(), seeds=()).run()
