# SPDX-License-Identifier: Apache-2.0
"""Cloning: its closed form, its teachers, and what it is charged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import planted, planted_oracles, planted_traces
from jaxttc.training import cloning, trace_batches

_sample = jax.jit(planted_traces.sample, static_argnums=3)
_clone_solved = jax.jit(cloning.clone_solved, static_argnames="expert_is_free")
_clone_expert = jax.jit(cloning.clone_expert, static_argnames="kappa")

_SPEC = planted.PlantedSubsequence(
  vocab=5, length=3, horizon=24, gammas=(2.0, 200.0)
)
_BOUNDS = trace_batches.Bounds(24, 512)


@pytest.fixture(scope="module")
def instance():
  return _SPEC.draw(jax.random.key(0))


def test_a_fit_is_the_smoothed_share_of_counts(instance):
  counts = planted_traces.Counts(
    jnp.array([3.0, 1.0]), jnp.zeros((2, 3, 5)).at[0, 1, 2].set(6.0)
  )
  fitted = cloning.fit(instance.base, counts, 2.0)
  np.testing.assert_allclose(
    jax.nn.softmax(fitted.opening), [4 / 6, 2 / 6], rtol=1e-5
  )
  base = jax.nn.softmax(instance.base.emission)
  found = jax.nn.softmax(fitted.emission)
  np.testing.assert_allclose(found[1], base[1], rtol=1e-5)  # without data
  expected = (2 * base[0, 1] + 6 * jax.nn.one_hot(2, 5)) / 8
  np.testing.assert_allclose(found[0, 1], expected, rtol=1e-5)


def test_a_fit_has_the_greatest_posterior_probability(instance):
  """No table nearby explains the traces and the pseudo-traces better."""
  drawn = _sample(instance, instance.base, jax.random.key(0), 64, 12, 12)
  counts = planted_traces.total(drawn, jnp.ones(64), instance.base)
  strength = 3.0
  fitted = cloning.fit(instance.base, counts, strength)
  pseudo = planted_traces.Counts(
    counts.opening + strength * jax.nn.softmax(instance.base.opening),
    counts.emission + strength * jax.nn.softmax(instance.base.emission),
  )
  best = planted_traces.log_likelihood(fitted, pseudo)
  for seed in range(5):
    key = jax.random.key(seed)
    other = jax.tree.map(
      lambda x, key=key: x + 0.1 * jax.random.normal(key, x.shape), fitted
    )
    assert planted_traces.log_likelihood(other, pseudo) < best


def test_clones_of_many_solved_traces_keep_the_style_that_solved_late(instance):
  """The opening converges to the styles of solved traces, not to the best."""
  horizon = 24
  trained = _clone_solved(
    instance,
    jax.random.key(0),
    512,
    horizon,
    0.01,
    _BOUNDS,
    expert_is_free=True,
  )
  solved = planted_oracles.solving(instance, instance.base)[0].sum(-1)
  weights = jax.nn.softmax(instance.base.opening) * solved
  expected = np.asarray(weights / weights.sum())
  found = np.asarray(jax.nn.softmax(trained.policy.opening))
  assert abs(found[0] - expected[0]) < 4 * np.sqrt(expected.prod() / 512)
  assert int(trained.cost.generated_tokens) == 512 * horizon
  assert int(trained.cost.verifier_calls) == 0


def test_charged_clones_see_only_what_n_samples_hold(instance):
  """By hand, from the same draws."""
  traces, horizon, key = 40, 6, jax.random.key(5)
  trained = _clone_solved(
    instance, key, traces, horizon, 1.0, _BOUNDS, expert_is_free=False
  )
  total = planted_traces.empty(instance.base)
  for i, weights in enumerate((np.ones(32), np.arange(32) < 8)):
    drawn = _sample(
      instance, instance.base, jax.random.fold_in(key, i), 32, horizon, 24
    )
    more = planted_traces.total(
      drawn,
      jnp.asarray(weights * (drawn.solved > 0), jnp.float32),
      instance.base,
    )
    total = jax.tree.map(jnp.add, total, more)
  expected = cloning.fit(instance.base, total, 1.0)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
    trained.policy,
    expected,
  )
  assert int(trained.cost.verifier_calls) == traces


def test_clones_of_a_wider_ball_are_better(instance):
  """The expert of a ball of radius 0 is the base itself."""

  def reward(kappa):
    trained = _clone_expert(
      instance, jax.random.key(1), 512, 12, 0.01, _BOUNDS, kappa=kappa
    )
    return float(planted_oracles.value(instance, trained.policy, 12).reward)

  base = float(planted_oracles.value(instance, instance.base, 12).reward)
  assert reward(0.0) == pytest.approx(base, abs=0.6)
  assert base + 1 < reward(0.5) < reward(2.0) <= 10
