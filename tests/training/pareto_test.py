# SPDX-License-Identifier: Apache-2.0
"""Tests of preference-conditioned objectives, with SciPy as the oracle."""

import math

import chex
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxttc.training import pareto

_weights = jax.jit(pareto.epo_weights)
_solve = jax.jit(pareto.solve_simplex_program)


def _linprog(objective, rows, bounds):
  """(best value, or None if nothing is feasible), in float64."""
  kept = np.isfinite(bounds)
  size = np.linalg.norm(rows, axis=-1)
  size = np.where(size > 0, size, 1.0)
  found = optimize.linprog(
    -np.asarray(objective, float),
    A_ub=-(rows / size[:, None])[kept] if kept.any() else None,
    b_ub=-(bounds / size)[kept] if kept.any() else None,
    A_eq=np.ones((1, len(objective))),
    b_eq=[1.0],
  )
  return -found.fun if found.status == 0 else None


def test_non_uniformity_is_a_divergence():
  ray, losses = jnp.asarray([0.5, 0.3, 0.2]), jnp.asarray([1.0, 4.0, 0.5])
  share = np.asarray(ray * losses)
  expected = stats.entropy(share / share.sum(), np.full(3, 1 / 3))
  found = pareto.non_uniformity(ray, losses)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(pareto.non_uniformity(ray, 1 / ray), 0, atol=1e-6)
  one_hot = jnp.asarray([0.0, 1.0, 0.0])
  np.testing.assert_allclose(
    pareto.non_uniformity(one_hot, losses), math.log(3), rtol=1e-5
  )
  assert pareto.non_uniformity(ray, jnp.zeros(3)) == 0


def test_preferences_lie_on_the_simplex_and_favour_its_corners():
  rays = pareto.sample_preferences(jax.random.key(0), 20_000, 3)
  assert np.isfinite(rays).all() and (rays >= 0).all()
  np.testing.assert_allclose(rays.sum(-1), 1.0, atol=1e-5)
  np.testing.assert_allclose(rays.mean(0), 1 / 3, atol=0.01)
  # Var r_t = (1/K)(1 - 1/K) / (K alpha + 1).
  np.testing.assert_allclose(rays.var(0), 2 / 9 / 1.6, atol=0.005)


@hypothesis.given(
  tasks=st.sampled_from([2, 3, 6]), seed=st.integers(0, 2**31 - 1)
)
@hypothesis.settings(max_examples=60)
def test_the_program_is_solved_exactly(tasks, seed):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(tasks + 1, tasks)).astype(np.float32)
  rows *= 10.0 ** rng.uniform(-2, 2, size=(tasks + 1, 1)).astype(np.float32)
  objective = rng.normal(size=tasks).astype(np.float32)
  bounds = rng.normal(size=tasks + 1).astype(np.float32) - 1
  bounds *= np.linalg.norm(rows, axis=-1).astype(np.float32) / 2
  bounds[rng.random(tasks + 1) < 0.3] = -np.inf
  alpha, found = _solve(objective, rows, bounds)
  width = 1e-3 * np.linalg.norm(rows, axis=-1)
  easier = _linprog(objective, rows, bounds - width)
  harder = _linprog(objective, rows, bounds + width)
  if found:
    assert easier is not None
    assert alpha.min() >= 0
    np.testing.assert_allclose(alpha.sum(), 1.0, atol=1e-3)
    assert (rows @ alpha >= bounds - width).all()
    assert objective @ alpha <= easier + 1e-3
  if harder is not None:
    assert found
    assert objective @ alpha >= harder - 1e-3


@hypothesis.given(
  tasks=st.sampled_from([2, 3, 6]),
  seed=st.integers(0, 2**31 - 1),
  on_ray=st.booleans(),
)
@hypothesis.settings(max_examples=40)
def test_step_weights_against_the_published_program(tasks, seed, on_ray):
  rng = np.random.default_rng(seed)
  grads = rng.normal(size=(tasks, 20)).astype(np.float32)
  grads *= 10.0 ** rng.uniform(-1, 1, size=(tasks, 1)).astype(np.float32)
  gram = grads @ grads.T
  ray = rng.dirichlet(np.ones(tasks)).astype(np.float32) + 1e-3
  losses = 1 / ray if on_ray else rng.uniform(0.1, 3, tasks)
  losses = losses.astype(np.float32)
  alpha, found = _weights(ray, losses, gram)
  # The program as Navon et al. write it, in float64.
  c = gram.astype(float) / np.abs(gram).max()
  share = ray * losses / (ray * losses).sum()
  mu = (share * np.log(share * tasks)).sum()
  anchor = ray * (np.log(share * tasks) - mu)
  pull = c @ anchor
  if on_ray:
    # The anchor is rounding noise: there is no bound to compare but C a >= 0.
    assert found
    assert (c @ alpha >= -1e-3).all()
    relaxed = _linprog(c.sum(0), c, np.zeros(tasks))
    assert c.sum(0) @ alpha <= relaxed + 1e-3
    return
  if (pull > 0).any():
    bounds = np.where(pull > 0, -np.inf, pull)
    bounds[np.argmax(ray * losses)] = 0
  else:
    bounds = np.zeros(tasks)
  value = _linprog(pull, c, bounds)
  if value is not None:
    assert found
    np.testing.assert_allclose(pull @ alpha, value, atol=2e-3)


def _quadratics(anchors):
  """Losses |x - a_t|^2; their Pareto set is the hull of the anchors."""

  def losses(x, ray, batch, key):
    del ray, batch, key
    return jnp.square(x[None] - anchors).sum(-1)

  return losses


@pytest.mark.parametrize("first", [0.1, 0.5, 0.8])
def test_exact_search_of_two_quadratics_ends_on_the_ray(first):
  anchors = jnp.asarray([[1.0, 0.0], [-1.0, 0.5]])
  ray = jnp.asarray([first, 1 - first])
  losses = lambda x: _quadratics(anchors)(x, ray, None, None)  # noqa: E731

  @jax.jit
  def search(x):
    def step(x, rate):
      grads = jax.jacrev(losses)(x)
      alpha, _ = pareto.epo_weights(ray, losses(x), grads @ grads.T)
      return x - rate * 2 * alpha @ grads, None

    return jax.lax.scan(step, x, jnp.linspace(0.02, 0.0, 600))[0]

  found = search(jnp.asarray([0.3, 3.0]))
  # On the segment at s, r_1 s^2 = r_2 (1 - s)^2.
  root = np.sqrt(np.asarray(ray))
  s = root[1] / root.sum()
  expected = anchors[0] + s * (anchors[1] - anchors[0])
  np.testing.assert_allclose(found, expected, atol=0.03)
  assert pareto.non_uniformity(ray, losses(found)) < 1e-2


def test_weights_of_one_hot_uniform_and_dead_gradients_are_legal():
  grads = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  rays = jnp.asarray([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]])
  losses = jnp.asarray([0.5, 1.0, 2.0])
  for gram in (grads @ grads.T, np.zeros((3, 3), np.float32)):
    solve = jax.vmap(pareto.epo_weights, in_axes=(0, None, None))
    alpha, _ = jax.jit(solve)(rays, losses, gram)
    assert np.isfinite(alpha).all() and (alpha >= 0).all()
    np.testing.assert_allclose(alpha.sum(-1), 1.0, atol=1e-4)


def test_an_unsolvable_program_falls_back_to_the_preference():
  x, found = _solve(jnp.ones(2), jnp.asarray([[1.0, 1.0]]), jnp.asarray([3.0]))
  assert not found
  np.testing.assert_array_equal(x, [0, 0])
  # On the ray C alpha >= 0 is asked for. A true Gram matrix always has such
  # an alpha; this one, off by rounding say, has none.
  gram = jnp.asarray([[1.0, -2.0], [-2.0, 1.0]])
  ray = jnp.asarray([0.25, 0.75])
  alpha, found = _weights(ray, 1 / ray, gram)
  assert not found
  np.testing.assert_allclose(alpha, ray)


def test_too_many_tasks_are_refused():
  with pytest.raises(ValueError, match="2 to 6 tasks, got 7"):
    pareto.epo_weights(jnp.ones(7), jnp.ones(7), jnp.eye(7))


def test_linear_objective_weighs_by_the_drawn_preferences():
  def losses(params, ray, batch, key):
    del key
    return params["w"] * batch * (1 + ray)

  objective = pareto.linear(losses, 3, draws=20_000)
  params, batch = {"w": jnp.float32(2.0)}, jnp.asarray([1.0, 2.0, 3.0])
  value, metrics = jax.jit(objective)(params, batch, jax.random.key(0))
  # E r_t = 1/3, E r_t^2 = 1/9 + 2/9/1.6.
  expected = (2 * np.asarray(batch) * (1 / 3 + 1 / 9 + 2 / 9 / 1.6)).sum()
  np.testing.assert_allclose(value, expected, rtol=0.01)
  np.testing.assert_allclose(metrics["loss"], value)
  assert 0 < metrics["non_uniformity"] < math.log(3)


@pytest.mark.parametrize("draws", [1, 3, 4, 5, 9])
def test_draws_are_stacked_whether_mapped_or_not(draws):
  xs, ys = jnp.arange(float(draws)), jnp.ones((draws, 2))
  found = pareto.over_draws(lambda x, y: {"a": x * y, "b": x}, xs, ys)
  chex.assert_trees_all_close(found, {"a": xs[:, None] * ys, "b": xs})


def test_exact_gradients_are_the_weighted_gradients_of_the_tasks():
  anchors = jnp.asarray([[1.0, 0.0], [-1.0, 0.5], [0.0, 2.0]])
  plain = _quadratics(anchors)
  losses = lambda p, ray, batch, key: plain(p["x"], ray, batch, key)  # noqa: E731
  gradients = jax.jit(pareto.exact(losses, 3, draws=4))
  params, key = {"x": jnp.asarray([2.0, -1.0])}, jax.random.key(3)
  found, metrics = gradients(params, None, key)
  each = 2 * (params["x"][None] - anchors)
  rays = pareto.sample_preferences(jax.random.split(key)[0], 4, 3)
  expected = 0.0
  for ray in rays:
    now = plain(params["x"], ray, None, None)
    alpha, _ = _weights(ray, now, each @ each.T)
    expected += 3 * alpha @ each / 4
  np.testing.assert_allclose(found["x"], expected, rtol=1e-3, atol=1e-3)
  assert metrics["unsolved"] == 0


def test_gram_matrix_sums_over_leaves():
  rng = np.random.default_rng(0)
  tree = {"a": rng.normal(size=(3, 2, 4)), "b": rng.normal(size=(3,))}
  flat = np.concatenate([tree["a"].reshape(3, 8), tree["b"][:, None]], axis=1)
  found = pareto.gram_matrix(jax.tree.map(jnp.asarray, tree))
  np.testing.assert_allclose(found, flat @ flat.T, rtol=1e-5)
