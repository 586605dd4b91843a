# SPDX-License-Identifier: Apache-2.0
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import routing_pairs
from jaxttc.predictors.routing import linear
from jaxttc.tasks import routing as tasks


def _pair(rows=500, seed=0):
  rng = np.random.default_rng(seed)
  weak = (rng.random(rows) < 0.6).astype(float)
  strong = (rng.random(rows) < 0.8).astype(float)
  return rng.random(rows), weak, strong


def test_the_ends_are_the_two_models():
  found = routing_pairs.recovered(*_pair())
  assert found.gap[0] == 0
  np.testing.assert_allclose(found.gap[-1], 1)
  assert found.share[0] == 0 and found.share[-1] == 1


def test_random_routing_recovers_half():
  _, weak, strong = _pair()
  tied = routing_pairs.recovered(np.zeros(500), weak, strong)
  np.testing.assert_allclose(tied.apgr, 0.5)
  np.testing.assert_allclose(tied.cpt(0.8), 0.8)
  rng = np.random.default_rng(1)
  drawn = [
    routing_pairs.recovered(rng.random(500), weak, strong).apgr
    for _ in range(300)
  ]
  np.testing.assert_allclose(np.mean(drawn), 0.5, atol=0.02)


def test_ties_are_the_mean_over_all_orders():
  gains = np.array([1.0, 0.0, 0.0, 0.0])
  weak, strong = np.array([0.0, 1, 0, 0]), np.array([1.0, 0, 1, 1])
  found = routing_pairs.recovered(gains, weak, strong)
  curves = [
    routing_pairs.recovered(gains + 0.1 * np.array(p), weak, strong).gap
    for p in itertools.permutations(range(4))
    if p[0] == 0
  ]
  np.testing.assert_allclose(found.gap, np.mean(curves, 0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 100))
def test_only_the_order_of_gains_counts(seed):
  gains, weak, strong = _pair(60, seed)
  strong[:10] = 1  # a gap there is
  weak[:10] = 0
  if strong.mean() <= weak.mean():
    return
  plain = routing_pairs.recovered(gains, weak, strong)
  curved = routing_pairs.recovered(np.exp(5 * gains), weak, strong)
  np.testing.assert_allclose(plain.gap, curved.gap)


def test_the_oracle_beats_the_strong_model():
  _, weak, strong = _pair()
  best = routing_pairs.recovered(strong - weak, weak, strong)
  assert best.apgr > 1 and best.gap.max() > 1
  gap = strong.mean() - weak.mean()
  for share in (0.0, 0.1, 0.3):
    place = int(share * 500)
    np.testing.assert_allclose(
      weak.mean() + best.gap[place] * gap,
      routing_pairs.oracle_score(weak, strong, share),
    )
  needy = ((weak == 0) & (strong == 1)).sum()
  expected = weak.mean() + min(0.9 * 500, needy) / 500
  np.testing.assert_allclose(
    routing_pairs.oracle_score(weak, strong, 0.9), expected
  )


def test_cpt_is_the_least_share():
  found = routing_pairs.Recovered(
    np.linspace(0, 1, 5), np.array([0, 0.5, 0.9, 0.7, 1.0])
  )
  np.testing.assert_allclose(found.cpt(0.5), 0.25)
  np.testing.assert_allclose(found.cpt(0.7), 0.375)
  assert found.cpt(0.0) == 0 and found.cpt(1.2) == np.inf


def test_bad_input_is_refused():
  gains, weak, strong = _pair()
  with pytest.raises(ValueError, match="no gap to recover"):
    routing_pairs.recovered(gains, strong, weak)
  with pytest.raises(ValueError, match="one length"):
    routing_pairs.recovered(gains[:3], weak, strong)
  with pytest.raises(ValueError, match="finite"):
    routing_pairs.recovered(gains * np.nan, weak, strong)


def test_a_router_taught_shuffled_questions_routes_at_random():
  world = tasks.LatentSkill(spread=2.0, noise=0.2)
  found: dict[bool, list[float]] = {True: [], False: []}
  for seed in range(12):
    train, _ = world.draw(300, seed=2 * seed)
    test, _ = world.draw(300, seed=2 * seed + 1)
    order = np.random.default_rng(seed).permutation(300)
    for shuffled, x in (
      (True, train.embeddings[order]),
      (False, train.embeddings),
    ):
      head = linear.fit_ridge(x, train.scores)
      said = np.asarray(head(jnp.asarray(test.embeddings)))
      gain = said[:, -1] - said[:, 0]
      pair = test.scores[:, [0, -1]].T
      found[shuffled].append(routing_pairs.recovered(gain, *pair).apgr)
  error = np.std(found[True], ddof=1) / 12**0.5
  assert abs(np.mean(found[True]) - 0.5) < 3 * error < 0.1
  assert np.mean(found[False]) > 0.56
