# SPDX-License-Identifier: Apache-2.0
"""A small cascade is trained, predicted, and filtered event by event."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxttc.simulation.detectors import performance
from jaxttc.simulation.detectors import trained_cascade as cascade_lib

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


@pytest.fixture(scope="module")
def cascade():
  keys = jax.random.split(jax.random.key(0), 2)
  stages = cascade_lib.train(_RECIPE, keys[0])
  return stages, cascade_lib.score(_RECIPE, stages, keys[1])


def test_flops_are_those_of_the_matrices(cascade):
  stages, _ = cascade
  assert stages.linear_flops == 2 * 3
  assert stages.network_flops == 2 * (8 * 16 + 16 * 16 + 16)


def test_network_finds_what_the_linear_model_cannot(cascade):
  _, scored = cascade
  areas = []
  for scores in (scored.first, scored.second):
    right, wrong = scores[scored.labels], scores[~scored.labels]
    areas.append((right[:, None] > wrong[None]).mean())
  assert 0.8 < areas[0] < areas[1] - 0.01
  assert scored.labels.mean() == pytest.approx(0.02, abs=0.005)


def test_graph_predicts_what_filtering_finds(cascade):
  stages, scored = cascade
  graphs = cascade_lib.graphs(_RECIPE, stages, scored)
  with jax.enable_x64(True):
    report = jax.tree.map(
      np.asarray, performance.evaluate(graphs["conditional"])
    )
  cuts = tuple(float(report.thresholds[x]) for x in ("linear", "network"))
  counts = cascade_lib.filtered(scored, cuts)
  assert counts.sum() == _RECIPE.events
  kept = counts[1].sum()
  assert kept == pytest.approx(_RECIPE.events / 50, abs=4 * kept**0.5)
  # On the events that made the graph only its knots are between them.
  share = counts[1, 1] / counts[:, 1].sum()
  assert share == pytest.approx(float(report.recall), abs=0.05)
  flops = stages.linear_flops + stages.network_flops / 4
  assert report.power == pytest.approx(flops, rel=1e-6)


def test_filtering_counts_by_decision_and_truth():
  scored = cascade_lib.Scored(
    np.asarray([1.0, 3.0, 3.0, 3.0]),
    np.asarray([9.0, 1.0, 9.0, 9.0]),
    np.asarray([True, True, True, False]),
  )
  counts = cascade_lib.filtered(scored, (2.0, 5.0))
  np.testing.assert_array_equal(counts, [[0, 2], [1, 1]])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"prevalence": 0.0}, "prevalence 0.0"),
    ({"cheap": 8}, "cheap must be between 0 and 8"),
    ({"keep_first": 0.5}, "1 <= keep_first"),
    ({"keep_first": 60.0}, "1 <= keep_first"),
    ({"steps": 0}, "steps must be at least 1"),
    ({"events": 100}, "hold 2 relevant"),
  ],
)
def test_recipes_that_cannot_be(change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(_RECIPE, **change).validate()
