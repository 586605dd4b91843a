# SPDX-License-Identifier: Apache-2.0
"""Tests of the tree cache: who owns which slot, and what it holds."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import key_values

_CONFIG = config_lib.TransformerConfig(
  vocab_size=8,
  width=4,
  layers=2,
  heads=2,
  kv_heads=1,
  head_dim=2,
  mlp_width=4,
)
_GROUPS, _ROWS, _COLUMNS, _NODES = 2, 3, 4, 8

_commit = jax.jit(tree_cache.commit)
_release = jax.jit(tree_cache.release)
_path_mask = jax.jit(tree_cache.path_mask)
_write_prompt = jax.jit(tree_cache.write_prompt)


@functools.cache
def _climb(parents, node):
  """The node and all above it."""
  return () if node < 0 else (node, *_climb(parents, parents[node]))


@st.composite
def _trees(draw):
  """Parents of nodes 0.., owners of slots, and the nodes rows extend."""
  parents = [-1] + [draw(st.integers(0, i)) for i in range(_NODES - 1)]
  some_node = st.integers(-1, _NODES - 1)
  owner = draw(st.lists(some_node, min_size=10, max_size=10))
  rows = draw(st.lists(some_node, min_size=_ROWS, max_size=_ROWS))
  return tuple(parents), owner, rows


@hypothesis.given(st.tuples(_trees(), _trees()))
@hypothesis.settings(max_examples=60)
def test_path_mask_against_climbing(trees):
  parents, owner, rows = (np.asarray(x) for x in zip(*trees, strict=True))
  mask = np.asarray(_path_mask(*map(jnp.asarray, (owner, parents, rows))))
  for g, (parent, owners, nodes) in enumerate(trees):
    for r, node in enumerate(nodes):
      above = _climb(parent, node)
      expected = [o >= 0 and o in above for o in owners]
      np.testing.assert_array_equal(mask[g, r], expected)


def _private(seed, groups=_GROUPS, rows=_ROWS, columns=_COLUMNS):
  """Keys and values of which every number is another."""
  rng = np.random.default_rng(seed)
  head = (_CONFIG.kv_heads, _CONFIG.head_dim)
  k = rng.normal(size=(_CONFIG.layers, groups, rows, *head, columns))
  v = rng.normal(size=(_CONFIG.layers, groups, rows, *head, columns))
  v = v.swapaxes(-1, -2)
  return tuple(
    key_values.KeyValues(*(jnp.asarray(x, jnp.float32) for x in kv))
    for kv in zip(k, v, strict=True)
  )


def _token(layers, index, column):
  """All numbers of one token: of row `index`, or of an arena's group."""
  return np.concatenate(
    [
      np.concatenate(
        [np.ravel(kv.k[index][..., column]), np.ravel(kv.v[index][:, column])]
      )
      for kv in layers
    ]
  )


def _held(cache, group):
  """(node, its token's numbers) of the slots in use, in any order."""
  arena = jax.tree.map(np.asarray, cache.arena)
  owner = np.asarray(cache.owner[group])
  return sorted(
    (int(owner[slot]), *_token(arena, group, slot).tolist())
    for slot in np.flatnonzero(owner >= 0)
  )


@st.composite
def _schedules(draw):
  """What is done to a cache, one after the other."""
  row = st.tuples(
    st.integers(-1, _NODES - 1), st.integers(0, 3), st.integers(0, 2)
  )
  spans = st.lists(row, min_size=_GROUPS * _ROWS, max_size=_GROUPS * _ROWS).map(
    lambda rows: ("commit", rows)
  )
  keep = st.lists(
    st.booleans(), min_size=_GROUPS * _NODES, max_size=_GROUPS * _NODES
  ).map(lambda flags: ("release", flags))
  grow = st.just(("resize", None))
  return draw(st.lists(st.one_of(spans, keep, grow), min_size=1, max_size=8))


@hypothesis.given(_schedules())
@hypothesis.settings(max_examples=25)
def test_any_schedule_keeps_exactly_what_it_should(schedule):
  """Against lists of tokens. Overflow loses tokens, and no other thing."""
  cache = tree_cache.init(_CONFIG, _GROUPS, 12)
  held = [[] for _ in range(_GROUPS)]
  for seed, (what, data) in enumerate(schedule):
    if what == "resize":
      cache = tree_cache.resize(cache, min(2 * cache.capacity, 24))
    elif what == "release":
      keep = np.asarray(data).reshape(_GROUPS, _NODES)
      cache = _release(cache, jnp.asarray(keep))
      held = [
        [token for token in tokens if keep[g, token[0]]]
        for g, tokens in enumerate(held)
      ]
    else:
      new = _private(seed)
      node, start, length = np.asarray(data).reshape(_GROUPS, _ROWS, 3).T
      args = (jnp.asarray(x.T, jnp.int32) for x in (node, start, length))
      cache = _commit(cache, new, *args)
      new = jax.tree.map(np.asarray, new)
      for g in range(_GROUPS):
        for r in range(_ROWS):
          first, last = start[r, g], start[r, g] + length[r, g]
          for column in range(first, min(last, _COLUMNS)):
            room = len(held[g]) < cache.capacity
            if node[r, g] >= 0 and room:
              token = _token(new, (g, r), column).tolist()
              held[g].append((int(node[r, g]), *token))
    assert cache.used().tolist() == [len(tokens) for tokens in held]
  for g in range(_GROUPS):
    assert _held(cache, g) == sorted(held[g])


def test_freed_slots_are_used_again_before_tokens_are_lost():
  cache = tree_cache.init(_CONFIG, 1, 6)
  three = jnp.asarray([[3, 3]])
  zeros = jnp.zeros_like(three)
  first = _private(0, 1, 2)
  cache = _commit(cache, first, jnp.asarray([[1, 2]]), zeros, three)
  assert cache.used().tolist() == [6]
  keep = jnp.asarray([[True, False, True]])
  cache = _release(cache, keep)
  assert cache.used().tolist() == [3]
  second = _private(1, 1, 2)
  cache = _commit(cache, second, jnp.asarray([[3, 4]]), zeros, three)
  # Rows are served in order: row 0 fits, row 1 is lost.
  assert sorted(np.asarray(cache.owner[0]).tolist()) == [2, 2, 2, 3, 3, 3]
  expected = [
    (node, *_token(jax.tree.map(np.asarray, kv), (0, r), c).tolist())
    for node, kv, r in ((2, first, 1), (3, second, 0))
    for c in range(3)
  ]
  assert _held(cache, 0) == sorted(expected)


def test_write_prompt_empties_the_group_and_drops_groups_beyond_the_last():
  cache = tree_cache.init(_CONFIG, 2, 6)
  fill = jnp.full((2, _ROWS), 5)
  cache = _commit(cache, _private(0), fill, 0 * fill, 0 * fill + 2)
  prompts = _private(1, groups=2, rows=1)
  cache = _write_prompt(
    cache, prompts, jnp.asarray([3, 4]), jnp.asarray([1, 2])
  )
  assert np.asarray(cache.owner).tolist() == [[5] * 6, [0, 0, 0, -1, -1, -1]]
  host = jax.tree.map(np.asarray, prompts)
  expected = [(0, *_token(host, (0, 0), c).tolist()) for c in range(3)]
  assert _held(cache, 1) == sorted(expected)


def test_caches_take_the_dtype_asked_for():
  cache = tree_cache.init(_CONFIG, 1, 4, jnp.bfloat16)
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(cache.arena))
  assert cache.used().tolist() == [0] and cache.capacity == 4


def test_refuses_what_does_not_fit():
  cache = tree_cache.init(_CONFIG, 1, 3)
  with pytest.raises(ValueError, match="3 slots cannot shrink to 2"):
    tree_cache.resize(cache, 2)
  with pytest.raises(ValueError, match="prompts of 4 tokens.*3 slots"):
    tree_cache.write_prompt(
      cache, _private(0, 1, 1), jnp.asarray([2]), jnp.asarray([0])
    )
