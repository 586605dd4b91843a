# SPDX-License-Identifier: Apache-2.0
"""The benchmark of routers times rivals that agree."""

import numpy as np

from benchmarks import routing_speed


def test_neighbours_of_both_agree_and_are_timed():
  sizes = routing_speed.Sizes(300, 16, 8, 3, 5, 8, 4)
  rivals = routing_speed.neighbours(sizes)
  ours, theirs = (np.asarray(run()) for run in rivals.values())
  np.testing.assert_allclose(ours, theirs, atol=1e-6)
  data, claims = routing_speed.measure(sizes, 2)
  assert {claim.name for claim in claims} == {
    "knn_scikit_learn_over_jax",
    "knn_microseconds_a_question",
    "sweep_seconds",
  }
  assert all(len(turns) == 2 for turns in data["seconds"].values())
