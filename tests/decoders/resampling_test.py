# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import resampling

PARTICLES = 6
every_scheme = pytest.mark.parametrize("name", sorted(resampling.SCHEMES))
SCHEMES = {
  name: jax.jit(jax.vmap(scheme, in_axes=(0, None)))
  for name, scheme in resampling.SCHEMES.items()
}
weights = st.lists(
  st.integers(0, 9), min_size=PARTICLES, max_size=PARTICLES
).filter(any)


def counts(name, weight, draws):
  keys = jax.random.split(jax.random.key(3), draws)
  index = SCHEMES[name](keys, jnp.asarray(weight, jnp.float32))
  return np.asarray(jax.nn.one_hot(index, PARTICLES).sum(axis=1))


@every_scheme
def test_expected_copies_are_proportional_to_weights(name):
  weight = np.array([0.0, 0.05, 0.4, 0.15, 0.1, 0.3])
  drawn = counts(name, weight, 4000)
  error = np.maximum(drawn.std(axis=0), 0.01) / np.sqrt(len(drawn))
  expected = PARTICLES * weight
  assert (np.abs(drawn.mean(axis=0) - expected) <= 4 * error + 1e-4).all()


@settings(max_examples=20)
@given(weights)
def test_systematic_counts_are_floor_or_ceil(weight):
  expected = PARTICLES * np.asarray(weight) / np.sum(weight)
  drawn = counts("systematic", weight, 16)
  assert (drawn >= np.floor(expected - 1e-4)).all()
  assert (drawn <= np.ceil(expected + 1e-4)).all()


@settings(max_examples=20)
@given(weights)
def test_residual_keeps_whole_shares(weight):
  expected = PARTICLES * np.asarray(weight) / np.sum(weight)
  drawn = counts("residual", weight, 16)
  assert (drawn >= np.floor(expected - 1e-4)).all()


@every_scheme
@settings(max_examples=10)
@given(weights)
def test_no_weight_no_copies(name, weight):
  drawn = counts(name, weight, 16)
  assert (drawn[:, np.asarray(weight) == 0] == 0).all()
  assert (drawn.sum(axis=1) == PARTICLES).all()
