# SPDX-License-Identifier: Apache-2.0
"""Scores prefer roomy nodes for new services, tight fits for moved ones."""

import jax.numpy as jnp
import numpy as np

from jaxttc.simulation.placement import scores

CAPACITY = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
LOAD = jnp.array([[0.1, 0.1], [0.6, 0.6], [0.9, 0.1], [0.0, 0.0]])
USAGE = jnp.full((4, 2), 0.2)


def test_by_hand():
  np.testing.assert_allclose(
    scores.sias(CAPACITY, LOAD, USAGE), [0.7, 0.2, -np.inf, -np.inf], rtol=1e-5
  )
  np.testing.assert_allclose(
    scores.sras(CAPACITY, LOAD, USAGE), [0.3, 0.8, -np.inf, -np.inf], rtol=1e-5
  )


def test_lopsided_left_overs_cost():
  load = jnp.array([[0.4, 0.4], [0.7, 0.1]])
  even, lopsided = scores.sras(CAPACITY[:2], load, USAGE[:2])
  assert even > lopsided


def test_headroom_is_kept_free():
  found = scores.sias(CAPACITY, LOAD, USAGE, headroom=0.3)
  np.testing.assert_array_equal(jnp.isfinite(found), [True] + [False] * 3)
