# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import particle
from jaxttc.testing import toy_world

RUNS = 4000


@functools.cache
def world():
  return toy_world.random_world(8, depth=3, branching=3, stop=0.2, broken=0.08)


def simulate(decoder, where, runs=RUNS):
  keys = jax.random.split(jax.random.key(5), runs)
  run = jax.jit(jax.vmap(lambda k: toy_world.simulate(decoder, where, k)))
  return run(keys)


def normaliser(where, weigh, target):
  """Z, by walking all paths."""
  total = 0.0
  broken = np.asarray(where.broken)
  for path, probability in toy_world.paths(where):
    if not broken[path].any():
      gains = weigh(np.asarray(where.reward, np.float64)[path])
      total += probability * (
        gains.prod() if target == "product" else gains[-1]
      )
  return total


@pytest.mark.parametrize(
  ("resampling", "threshold", "target", "weight", "temperature"),
  [
    ("multinomial", 1.0, "product", "reward", 1.0),
    ("systematic", 0.6, "product", "odds", 2.0),
    ("stratified", 1.0, "last", "odds", 1.0),
    ("residual", 0.9, "last", "reward", 0.5),
    ("multinomial", 0.0, "product", "reward", 1.0),
  ],
)
def test_normaliser_is_unbiased(
  resampling, threshold, target, weight, temperature
):
  decoder = particle.particle_filter(
    particles=4,
    target=target,
    weight=weight,
    temperature=temperature,
    resampling=resampling,
    ess_threshold=threshold,
    max_steps=3,
  )
  found = simulate(decoder, world())
  estimates = np.exp(
    np.asarray(jax.vmap(particle.log_normaliser)(found.state), np.float64)
  )
  exact = normaliser(
    world(),
    lambda r: (r / (1 - r) if weight == "odds" else r) ** (1 / temperature),
    target,
  )
  error = estimates.std() / np.sqrt(RUNS)
  assert error < 0.1 * exact
  assert abs(estimates.mean() - exact) < 4 * error


@pytest.mark.parametrize("particles", [1, 3])
def test_constant_reward_leaves_the_law_unchanged(particles):
  flat = toy_world.random_world(9, depth=3, branching=2, stop=0.3)
  flat = flat.replace(reward=jnp.full_like(flat.reward, 0.5))
  decoder = particle.particle_filter(
    particles=particles, max_steps=3, resampling="systematic"
  )
  found = simulate(decoder, flat)
  mass = np.asarray(jax.vmap(particle.mass)(found.state))
  np.testing.assert_allclose(mass.sum(axis=1), 1.0, atol=1e-5)
  situation = np.asarray(found.situation)
  for path, probability in toy_world.paths(flat):
    share = np.where(situation == path[-1], mass, 0.0).sum(axis=1)
    error = share.std() / np.sqrt(RUNS)
    assert abs(share.mean() - probability) < 4 * error + 1e-9


def test_finished_particles_are_not_weighed_again_unless_told_to():
  # One answer after one step, and one after two, of equal odds and chances.
  where = toy_world.World(
    child=jnp.asarray([[1, 2], [-1, -1], [3, -1], [-1, -1]]),
    probability=jnp.asarray([[0.5, 0.5], [0, 0], [1, 0], [0, 0]], jnp.float32),
    length=jnp.asarray([0, 1, 1, 1]),
    reward=jnp.asarray([0.5, 0.8, 0.5, 0.8]),
    answer=jnp.asarray([-1, 0, -1, 1]),
    broken=jnp.zeros((4,), bool),
    depth=2,
  )
  shares = []
  for again in (False, True):
    decoder = particle.particle_filter(
      particles=64, max_steps=2, ess_threshold=0.0, resample_finished=again
    )
    found = simulate(decoder, where, runs=64)
    mass = np.asarray(jax.vmap(particle.mass)(found.state))
    short = np.where(np.asarray(found.situation) == 1, mass, 0.0)
    shares.append(short.sum(axis=1).mean())
  # Odds of 4 either way; weighed again, the short answer has 4 * 4.
  assert shares[0] == pytest.approx(0.5, abs=0.03)
  assert shares[1] == pytest.approx(0.8, abs=0.03)


def test_effective_size_and_weights_of_the_dead():
  dead = jnp.full((3,), -jnp.inf)
  assert float(particle.effective_size(dead)) == 0.0
  np.testing.assert_array_equal(particle.normalise(dead), 0.0)
  even = jnp.full((3,), -500.0)
  assert float(particle.effective_size(even)) == pytest.approx(3.0)
  lone = dead.at[1].set(2.0)
  assert float(particle.effective_size(lone)) == pytest.approx(1.0)
  assert float(particle.log_mean(lone)) == pytest.approx(2.0 - np.log(3))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"particles": 0}, "particles must be at least 1, got 0"),
    ({"target": "prod"}, "did you mean 'product'"),
    ({"weight": "logit"}, "weight must be one of"),
    ({"resampling": "sistematic"}, "did you mean 'systematic'"),
    ({"temperature": 0.0}, "temperature must be > 0"),
    ({"ess_threshold": 1.5}, "ess_threshold must be in"),
    ({"target": "last", "resample_finished": True}, "resample_finished"),
  ],
)
def test_bad_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    particle.particle_filter(**options)
