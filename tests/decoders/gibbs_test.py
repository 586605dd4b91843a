# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest
import scipy.stats

from jaxttc.decoders import gibbs
from jaxttc.testing import toy_world

RUNS = 4000


def posterior(world):
  """Law of the solutions under p(path) prod_t r_t / (1 - r_t)."""
  reward = np.asarray(world.reward, np.float64)
  odds = reward / (1 - reward)
  broken = np.asarray(world.broken)
  law = {
    path[-1]: probability * odds[path].prod()
    for path, probability in toy_world.paths(world)
    if not broken[path].any()
  }
  total = sum(law.values())
  return {end: mass / total for end, mass in law.items()}


@pytest.mark.parametrize("particles", [2, 4])
def test_stationary_law_is_the_posterior(particles):
  world = toy_world.random_world(12, depth=3, branching=2, stop=0.3, broken=0.1)
  # Mild rewards, so that a short chain forgets its start.
  world = world.replace(reward=0.35 + 0.3 * world.reward)
  decoder = gibbs.particle_gibbs(particles=particles, iterations=9, max_steps=3)
  keys = jax.random.split(jax.random.key(3), RUNS)
  run = jax.jit(jax.vmap(lambda k: toy_world.simulate(decoder, world, k)))
  found = run(keys)
  reference = np.asarray(found.state.reference)
  assert (reference > 0).all()
  ends = np.asarray(found.situation)[np.arange(RUNS), reference]
  law = posterior(world)
  expected = np.array([RUNS * mass for mass in law.values()])
  observed = np.array([(ends == end).sum() for end in law])
  assert observed.sum() == RUNS
  assert expected.min() > 5
  assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3
  picks = np.asarray(found.state.picks).sum(axis=1)
  assert (picks <= 8).all()
  assert picks.mean() > 7


def test_reference_is_kept_and_never_sampled_again():
  world = toy_world.random_world(3, depth=3, branching=3)
  decoder = toy_world.jitted(
    gibbs.particle_gibbs(particles=4, iterations=3, max_steps=3)
  )
  found = toy_world.run(decoder, world, jax.random.key(0))
  asked = [int(expansion.children.sum()) for expansion, _ in found.rounds]
  assert asked == [4] * 3 + [3] * 6
  tree = found.state.tree
  # Row 0 of every later iteration's last round stands on the reference's path.
  for turn in (5, 8):
    leaf = found.rounds[turn - 2].expansion.node[0]
    assert bool(tree.finished[leaf])
    assert found.rounds[turn].expansion.node[0] == tree.parent[leaf]


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"particles": 1}, "particles must be at least 2, got 1"),
    ({"iterations": 0}, "iterations must be at least 1"),
    ({"temperature": -1.0}, "temperature must be > 0"),
    ({"weight": "od"}, "did you mean 'odds'"),
    ({"select": "first"}, "select must be one of"),
  ],
)
def test_bad_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    gibbs.particle_gibbs(**options)
