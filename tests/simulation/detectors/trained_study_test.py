# SPDX-License-Identifier: Apache-2.0
"""What a small cascade's study claims follows from what it counted."""

import numpy as np
import pytest

from jaxttc.simulation.detectors import trained_cascade as cascade_lib
from jaxttc.simulation.detectors import trained_study

_RECIPE = cascade_lib.CascadeRecipe(
  prevalence=0.02,
  features=8,
  cheap=3,
  hidden=16,
  training_events=4000,
  steps=150,
  batch=256,
  learning_rate=1e-2,
  events=20_000,
  keep_first=4.0,
  keep_all=50.0,
  bootstrap=8,
)


@pytest.mark.slow
def test_study_of_one_seed():
  found = trained_study.run(_RECIPE, 1)
  conditional = found["predicted"]["conditional"]
  assert conditional["worst_sigma"] < 4
  assert np.sum(conditional["counted"]) == _RECIPE.events
  low, high = found["recall_interval"]
  assert 0 < low < high <= 1
  curve = found["curve"]
  assert len(curve["recall"]) == len(curve["flops"])
  assert (np.diff(np.asarray(curve["flops"])) < 0).all()
  claims = {claim.name: claim for claim in trained_study.claims([found])}
  gain = claims["trained_samples_per_flop_gain"].value
  whole = found["flops"]["network"] / found["flops"]["cascade_per_event"]
  assert gain == pytest.approx(whole * found["recall_share"])
  sigmas = claims["trained_prediction_sigmas"]
  assert sigmas.holds == (conditional["worst_sigma"] <= 3)
