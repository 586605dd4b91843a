# SPDX-License-Identifier: Apache-2.0
"""Sampled traces: their counts, their bound, and experts without rejection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import planted, planted_oracles, planted_traces

_sample = jax.jit(planted_traces.sample, static_argnums=3)
_sample_expert = jax.jit(planted_traces.sample_expert, static_argnums=3)

_SPEC = planted.PlantedSubsequence(
  vocab=5, length=3, horizon=24, gammas=(2.0, 20.0)
)


@pytest.fixture(scope="module")
def instance():
  return _SPEC.draw(jax.random.key(0), styles=3)


@pytest.fixture(scope="module")
def drawn(instance):
  return _sample(instance, instance.base, jax.random.key(1), 256, 16, 24)


def test_counts_end_with_the_solution(drawn):
  """As many tokens as the solving one says, or the whole horizon."""
  length = np.where(drawn.solved > 0, drawn.solved, 16)
  np.testing.assert_array_equal(drawn.counts.sum((1, 2)), length)
  assert (drawn.opening < 2).all()  # the padding style is never chosen
  assert drawn.solved.min() == 0 and drawn.solved.max() <= 16


def test_the_bound_of_the_loop_changes_nothing(instance, drawn):
  again = _sample(
    instance,
    instance.base,
    jax.random.key(1),
    256,
    jnp.int32(16),
    jnp.int32(16),
  )
  jax.tree.map(np.testing.assert_array_equal, drawn, again)


def test_totals_and_likelihood_are_sums_over_traces(instance, drawn):
  few = jax.tree.map(lambda x: x[:8], drawn)
  weights = jnp.arange(8.0)
  found = planted_traces.total(few, weights, instance.base)
  logs = jax.nn.log_softmax(instance.base.emission)
  opening = jax.nn.log_softmax(instance.base.opening)
  expected = 0.0
  for b in range(8):
    expected += b * float(opening[few.opening[b]])
    for m in range(3):
      row = logs[few.opening[b], few.prompts[b, m]]
      expected += b * float(few.counts[b, m] @ row)
  log = planted_traces.log_likelihood(instance.base, found)
  assert float(log) == pytest.approx(expected, rel=1e-5)
  none = planted_traces.log_likelihood(
    instance.base, planted_traces.empty(instance.base)
  )
  assert float(none) == 0


def test_experts_are_the_base_given_that_it_solved(instance):
  """Styles and solving tokens, against the exact conditional distribution."""
  horizon, many = 10, 8192
  worth = (jnp.arange(25) > 0).astype(jnp.float32)
  expert = _sample_expert(
    instance, instance.base, jax.random.key(2), many, horizon, 24, worth
  )
  assert (expert.solved > 0).all() and (expert.solved <= horizon).all()
  joint = np.asarray(
    jax.nn.softmax(instance.base.opening)[:, None]
    * planted_oracles.solving(instance, instance.base)[0]
  )[:, :horizon]
  exact = joint / joint.sum()
  found = np.zeros_like(exact)
  np.add.at(found, (expert.opening, np.asarray(expert.solved) - 1), 1 / many)
  error = np.sqrt(exact * (1 - exact) / many)
  assert (np.abs(found - exact) < 5 * error + 1e-6).all()


def test_experts_may_prefer_early_solutions_and_keep_failures(instance):
  """Worth of any kind: here failures are worth a little."""
  horizon, many = 10, 8192
  worth = jnp.where(
    jnp.arange(25) > 0, planted.bilevel_reward(jnp.arange(25), horizon), 0.5
  )
  expert = _sample_expert(
    instance, instance.base, jax.random.key(3), many, horizon, 10, worth
  )
  solving = np.asarray(
    planted_oracles.solving_overall(instance, instance.base)
  )[0, :horizon]
  exact = (
    np.append(1 - solving.sum(), solving) * np.asarray(worth)[: horizon + 1]
  )
  exact /= exact.sum()
  found = np.bincount(expert.solved, minlength=horizon + 1) / many
  error = np.sqrt(exact * (1 - exact) / many)
  assert (np.abs(found - exact) < 5 * error + 1e-6).all()


def test_contextual_experts_solve_every_prompt():
  spec = planted.PlantedSubsequence(
    vocab=6, length=3, horizon=12, gammas=(1.0,), contextual=True, symbols=4
  )
  instance = spec.draw(jax.random.key(0))
  worth = (jnp.arange(13) > 0).astype(jnp.float32)
  expert = _sample_expert(
    instance, instance.base, jax.random.key(1), 64, 12, 12, worth
  )
  assert (expert.solved >= 3).all()
  assert len(np.unique(expert.prompts, axis=0)) > 16
