# SPDX-License-Identifier: Apache-2.0
"""Success rates of forced answers, against enumeration."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import elimination


def _by_hand(prior, right, tested):
  rates = []
  for done in range(len(tested) + 1):
    seen = set(tested[:done])
    left = [w for k, w in enumerate(prior) if k not in seen]
    rates.append(1.0 if right in seen else max(left) / sum(left))
  return rates


def test_values_equal_enumeration():
  world = elimination.geometric(3, 0.5, 4)
  prior = np.asarray(world.prior)
  for right, *tested in itertools.product(range(3), repeat=5):
    found = elimination.values(world, jnp.array(right), jnp.array(tested))
    np.testing.assert_allclose(found, _by_hand(prior, right, tested), atol=1e-6)


def test_oracle_is_the_best_order():
  world = elimination.geometric(4, 0.7, 3)
  prior = np.asarray(world.prior, float)

  def expected(order):
    return sum(
      w * np.array(_by_hand(prior, right, order))
      for right, w in enumerate(prior)
    )

  orders = itertools.product(range(4), repeat=3)
  best = np.max([expected(order) for order in orders], axis=0)
  np.testing.assert_allclose(elimination.oracle(world), best, atol=1e-6)


def test_published_world():
  world = elimination.geometric()
  assert float(world.prior.sum()) == pytest.approx(1.0, abs=1e-6)
  assert elimination.oracle(world)[-1] == 1.0
  for bad in ((1, 0.8, 12), (8, 0.8, 0), (8, 1.5, 12), (8, 0.0, 12)):
    with pytest.raises(ValueError, match="expected at least 2"):
      elimination.geometric(*bad)
