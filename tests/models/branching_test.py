# SPDX-License-Identifier: Apache-2.0
"""Tests of branching networks, by enumeration of their trees."""

import itertools

import flax.linen as nn
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import branching


class _Stage(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x):
    return nn.tanh(nn.LayerNorm()(nn.Dense(self.width)(x)))


_ANCHOR = branching.Anchor(
  stages=(_Stage(8), _Stage(4)),
  heads=(nn.Dense(2), nn.Dense(1), nn.Dense(3)),
  names=("a", "b", "c"),
)
_INPUTS = jax.random.normal(jax.random.key(1), (5, 6))
_COSTS = branching.Costs((6 * 8, 8 * 4), (4 * 2, 4 * 1, 4 * 3))
_ROWS = list(itertools.product(range(3), repeat=3))
_TREES = list(itertools.product(_ROWS, repeat=2))


@pytest.fixture(scope="module")
def params():
  return jax.jit(lambda key: branching.init(_ANCHOR, key, _INPUTS))(
    jax.random.key(0)
  )


def _edges(tree):
  return jnp.asarray(np.eye(3, dtype=np.float32)[np.asarray(tree)])


def _paths(tree):
  """For each task, the nodes from its head back to the first stage."""
  for t in range(3):
    second = tree[1][t]
    yield {(1, second), (0, tree[0][second])}


def test_active_nodes_and_costs_of_every_tree():
  assert len(_TREES) == 729
  for tree in _TREES:
    nodes = set.union(*_paths(tree))
    found = branching.active(tree)
    assert {(s, n) for s in (0, 1) for n in found[s]} == nodes
    expected = sum(_COSTS.stages[s] for s, _ in nodes) + sum(_COSTS.heads)
    assert branching.macs(_COSTS, tree) == expected


def test_costs_are_those_of_the_layers(params):
  one = jax.ShapeDtypeStruct((1, 6), jnp.float32)
  assert branching.costs(_ANCHOR, params, one) == _COSTS


@pytest.mark.parametrize(
  "tree",
  [
    ((0, 1, 2), (0, 1, 2)),  # separate networks
    ((1, 0, 0), (2, 2, 2)),  # one path
    ((0, 2, 0), (1, 0, 0)),
  ],
)
def test_running_a_tree_alone_gives_what_the_whole_anchor_gives(params, tree):
  whole = branching.apply(_ANCHOR, params, _edges(tree), _INPUTS)
  alone = branching.run(_ANCHOR, params, tree, _INPUTS)
  assert list(alone) == ["a", "b", "c"]
  for t, name in enumerate(alone):
    second = tree[1][t]
    x = _INPUTS
    for s, n in ((0, tree[0][second]), (1, second)):
      node = params[f"stage_{s}"][f"stream_{n}"]
      x = _ANCHOR.stages[s].apply({"params": node}, x)
    direct = _ANCHOR.heads[t].apply({"params": params[f"head_{t}"]}, x)
    np.testing.assert_allclose(alone[name], direct, atol=1e-6)
    np.testing.assert_allclose(whole[name], direct, atol=1e-5)


def test_unused_nodes_are_not_computed(params):
  tree = ((1, 0, 0), (2, 2, 2))
  kept = {
    "stage_0": {"stream_0": params["stage_0"]["stream_0"]},
    "stage_1": {"stream_2": params["stage_1"]["stream_2"]},
  } | {f"head_{t}": params[f"head_{t}"] for t in range(3)}
  found = branching.run(_ANCHOR, kept, tree, _INPUTS)
  expected = branching.run(_ANCHOR, params, tree, _INPUTS)
  np.testing.assert_array_equal(found["b"], expected["b"])


def test_usage_and_share_of_every_tree_are_exact():
  edges = jnp.stack([_edges(tree) for tree in _TREES])
  used = jax.jit(jax.vmap(branching.usage))(edges)
  share = jax.jit(jax.vmap(lambda e: branching.expected_share(_COSTS, e)))(
    edges
  )
  for i, tree in enumerate(_TREES):
    active = branching.active(tree)
    expected = [[n in row for n in range(3)] for row in active]
    np.testing.assert_array_equal(used[i], np.asarray(expected, np.float32))
    nodes = branching.macs(_COSTS, tree) - sum(_COSTS.heads)
    np.testing.assert_allclose(share[i], nodes / (3 * 80), rtol=1e-5)
  assert share.min() == pytest.approx(1 / 3)
  assert share.max() == pytest.approx(1.0)


@hypothesis.given(seed=st.integers(0, 10_000))
@hypothesis.settings(max_examples=5)
def test_usage_of_one_stage_is_its_expectation(seed):
  rng = np.random.default_rng(seed)
  edges = rng.dirichlet(np.ones(3), size=(1, 3)).astype(np.float32)
  expected = np.zeros(3)
  for row in _ROWS:
    chance = np.prod([edges[0, j, i] for j, i in enumerate(row)])
    expected += chance * np.isin(np.arange(3), row)
  found = branching.usage(jnp.asarray(edges))
  np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_samples_follow_the_logits_and_carry_a_gradient():
  logits = jnp.log(jnp.asarray([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [1, 1, 1]]]))
  keys = jax.random.split(jax.random.key(0), 4000)
  draw = jax.jit(jax.vmap(lambda key: branching.sample_edges(key, logits, 0.5)))
  edges = draw(keys)
  np.testing.assert_allclose(edges.sum(-1), 1.0, atol=1e-5)
  assert np.isclose(edges, 0, atol=1e-6).sum() == 2 * edges.size / 3
  expected = jax.nn.softmax(logits)
  np.testing.assert_allclose(edges.mean(0), expected, atol=0.03)
  grad = jax.grad(lambda x: branching.sample_edges(keys[0], x)[0, 0, 0])(logits)
  assert grad[0, 0, 0] > 0
  likeliest = branching.likeliest_edges(logits)
  assert branching.tree_of(likeliest) == ((0, 2, 0),)


def test_inactive_tasks_are_drawn_to_the_nearest_active_one():
  edges = np.asarray(
    [[[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 1, 0]]],
    np.float32,
  )
  loss = jax.jit(branching.inactive_loss)
  # Task 1 is inactive. Stage 0: to task 0 it is 0.25 + 0.25, to task 2 1.5;
  # stage 1: to task 2 it is nothing.
  found = loss(jnp.asarray([0.6, 0.1, 0.3]), edges)
  np.testing.assert_allclose(found, 0.5)
  # Tasks 1 and 2 have task 0 alone to follow: 0.5 + 2 + 2 + 2.
  found = loss(jnp.asarray([1.0, 0.0, 0.0]), edges)
  np.testing.assert_allclose(found, 6.5)
  assert loss(jnp.full(3, 1 / 3), edges) == 0


def test_edges_follow_preference_and_compute():
  network = branching.EdgeHypernetwork(stages=2)
  ray = jnp.asarray([1.0, 0.0, 0.0])
  params = network.init(jax.random.key(0), ray, jnp.float32(1.0))
  run = jax.jit(network.apply)
  first = run(params, ray, jnp.float32(1.0))
  assert first.shape == (2, 3, 3)
  assert np.abs(first - run(params, ray, jnp.float32(0.4))).max() > 1e-3
  other = run(params, ray[::-1], jnp.float32(1.0))
  assert np.abs(first - other).max() > 1e-3


def test_the_condition_lists_all_that_norms_are_told():
  told = branching.condition(
    jnp.asarray([0.5, 0.3, 0.2]), jnp.float32(0.4), _edges(((0, 1, 2),))
  )
  np.testing.assert_allclose(
    told, [0.5, 0.3, 0.2, 0.4, 1, 0, 0, 0, 1, 0, 0, 0, 1]
  )


def test_the_costliest_tree_within_a_budget():
  narrow, wide = ((0, 0, 0), (0, 0, 0)), ((0, 1, 2), (0, 1, 2))
  middle = ((0, 0, 0), (0, 1, 2))
  trees = [wide, narrow, middle]
  heads = sum(_COSTS.heads)
  fit = lambda budget: branching.costliest_within(trees, _COSTS, budget)  # noqa: E731
  assert branching.macs(_COSTS, wide) == 240 + heads
  assert fit(1e9) == fit(240 + heads) == 0
  assert fit(239 + heads) == fit(48 + 3 * 32 + heads) == 2
  assert fit(143 + heads) == fit(80 + heads) == 1
  with pytest.raises(ValueError, match="cheapest of 3 trees, which needs 104"):
    fit(103)


def test_an_anchor_without_a_name_a_head_is_refused():
  anchor = _ANCHOR._replace(names=("a",))
  with pytest.raises(ValueError, match="2 stages, 3 heads and 1 names"):
    branching.init(anchor, jax.random.key(0), _INPUTS)
