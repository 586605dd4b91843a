# SPDX-License-Identifier: Apache-2.0
"""Layers that see a window, and the other ways in which families differ."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import generation, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import key_values, transformer

_PLAIN = config_lib.TransformerConfig(
  vocab_size=31,
  width=12,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=20,
)
_LOCAL = dataclasses.replace(
  _PLAIN,
  window=4,
  global_every=2,
  rope_theta_local=100.0,
  qkv_bias=True,
  qk_norm=True,
  post_norms=True,
  score_cap=3.0,
  logit_cap=5.0,
)
_MODEL = transformer.Transformer(_LOCAL)
_PARENT = jnp.asarray([[-1, 0, 0, 1]])
_TEXT = {  # node -> its tokens
  0: np.asarray([3, 1, 4, 1, 5, 9]),
  1: np.asarray([2, 6, 5]),
  2: np.asarray([3, 5]),
  3: np.asarray([8, 9, 7, 9]),
}


@pytest.fixture(scope="module")
def params():
  made = jax.jit(lambda key: transformer.init(key, _MODEL))(jax.random.key(0))
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: np.asarray(x) + 0.3 * rng.normal(size=x.shape).astype(np.float32),
    made,
  )


def _logits(params, hidden):
  return _MODEL.apply({"params": params}, hidden, method="logits")


_commit = jax.jit(tree_cache.commit)
_prefill = jax.jit(functools.partial(generation.prefill, _MODEL))
_forward = jax.jit(lambda *args: transformer.forward(_MODEL, *args))


def _whole(params, tokens):
  """Logits of a text, all at once."""
  index = jnp.arange(16)[None]  # one shape for all texts
  row = (
    jnp.zeros((1, 16), jnp.int32).at[0, : len(tokens)].set(jnp.asarray(tokens))
  )
  segments = (index < len(tokens)).astype(jnp.int32)
  return _forward(params, row, segments, index)[0, : len(tokens)]


def _read(params, cache, node, tokens, position):
  """Logits and keys of a span below a node, read at once."""
  padded = np.zeros(4, np.int32)  # one shape for all spans
  padded[: len(tokens)] = tokens
  logits, own = _read_four(params, cache, node, padded, position)
  return logits[: len(tokens)], own


@jax.jit
def _read_four(params, cache, node, tokens, position):
  width = tokens.shape[0]
  hidden, own = _MODEL.apply(
    {"params": params},
    tokens[None, None],
    (position + jnp.arange(width))[None, None],
    jnp.tril(jnp.ones((1, 1, width, width), bool)),
    key_values.Context(
      arena=cache.arena,
      arena_mask=tree_cache.path_mask(
        cache.owner, _PARENT, jnp.asarray([[node]])
      ),
      arena_position=cache.position,
    ),
  )
  return _logits(params, hidden)[0, 0], own


@pytest.fixture(scope="module")
def cache(params):
  """A tree cache of all nodes but 3, the prompt's slots not in order."""
  cache = tree_cache.init(_LOCAL, 1, 12)
  one = jnp.asarray([[1]])
  for node in (0, 1, 2):
    tokens, start = _TEXT[node], 0 if node == 0 else len(_TEXT[0])
    if node == 0:
      length = jnp.asarray([len(tokens)])
      own, _ = _prefill(params, jnp.asarray(tokens)[None], length)
      cache = tree_cache.write_prompt(cache, own, length, jnp.asarray([0]))
      continue
    _, own = _read(params, cache, 0, tokens, start)
    cache = _commit(
      cache,
      own,
      node * one,
      0 * one,
      len(tokens) * one,
      start * one,
    )
  order = np.random.default_rng(0).permutation(12)
  return cache.replace(
    arena=tuple(
      key_values.KeyValues(kv.k[..., order], kv.v[..., order, :])
      for kv in cache.arena
    ),
    owner=cache.owner[:, order],
    position=cache.position[:, order],
  )


def test_a_span_below_a_branch_sees_its_own_path_within_the_window(
  params, cache
):
  got, _ = _read(params, cache, 1, _TEXT[3], 9)
  path = [*_TEXT[0], *_TEXT[1], *_TEXT[3]]
  np.testing.assert_allclose(got, _whole(params, path)[9:], atol=1e-5)
  got, _ = _read(params, cache, 2, _TEXT[3], 8)
  path = [*_TEXT[0], *_TEXT[2], *_TEXT[3]]
  np.testing.assert_allclose(got, _whole(params, path)[8:], atol=1e-5)


def test_token_by_token_equals_at_once(params, cache):
  """The row begins at column 2; what lies before it is not its own."""
  start, total = 2, 8
  text = [8, 9, 7, 9, 3, 2]
  scratch = key_values.empty_key_values(_LOCAL, (1, 1), total)
  mask = tree_cache.path_mask(cache.owner, _PARENT, jnp.asarray([[1]]))

  @jax.jit
  def step(scratch, token, column):
    columns = jnp.arange(total)
    own = (columns >= start) & (columns <= column)
    hidden, scratch = _MODEL.apply(
      {"params": params},
      token[None, None, None],
      (9 + column - start)[None, None, None],
      own[None, None, None],
      key_values.Context(
        arena=cache.arena,
        arena_mask=mask,
        scratch=scratch,
        column=column,
        arena_position=cache.position,
      ),
    )
    return _logits(params, hidden)[0, 0, 0], scratch

  rows = []
  for i, token in enumerate(text):
    row, scratch = step(scratch, jnp.int32(token), jnp.int32(start + i))
    rows.append(row)
  path = [*_TEXT[0], *_TEXT[1], *text]
  np.testing.assert_allclose(
    np.stack(rows), _whole(params, path)[9:], atol=1e-5
  )


def test_the_window_is_what_a_local_layer_depends_on(params):
  """Two local layers of window 4 reach back 6 tokens, and no further."""
  config = dataclasses.replace(_LOCAL, global_every=0)
  model = transformer.Transformer(config)
  tokens = jnp.arange(12)[None]
  index = jnp.arange(12)[None]

  def last(table):
    changed = params | {"embed": {"embedding": table}}
    mask = key_values.causal_mask(jnp.ones_like(tokens))
    hidden, _ = model.apply(
      {"params": changed}, tokens[:, None], index[:, None], mask
    )
    return hidden[0, 0, -1].sum()

  grad = jax.jit(jax.grad(last))(jnp.asarray(params["embed"]["embedding"]))
  grad = np.asarray(grad)[:12]
  reached = np.abs(grad).sum(-1) > 0
  assert reached.tolist() == [False] * 5 + [True] * 7


def test_a_cache_that_keeps_positions_must_be_told_them():
  cache = tree_cache.init(_LOCAL, 1, 4)
  own = key_values.empty_key_values(_LOCAL, (1, 1), 2)
  one = jnp.ones((1, 1), jnp.int32)
  with pytest.raises(ValueError, match="give the position"):
    tree_cache.commit(cache, own, one, 0 * one, one)


def test_resizing_keeps_positions():
  cache = tree_cache.init(_LOCAL, 2, 4)
  cache = cache.replace(position=jnp.arange(8).reshape(2, 4))
  wide = tree_cache.resize(cache, 6)
  assert wide.position.shape == (2, 6)
  np.testing.assert_array_equal(wide.position[:, :4], cache.position)
  assert tree_cache.init(_PLAIN, 1, 4).position is None


def test_caps_bound_and_scales_scale(params):
  tokens = [5, 3, 8]
  capped = np.asarray(_whole(params, tokens))
  assert np.abs(capped).max() < 5.0
  bare = transformer.Transformer(dataclasses.replace(_LOCAL, logit_cap=0.0))
  free = jax.jit(functools.partial(transformer.forward, bare))(
    params,
    jnp.asarray([tokens]),
    jnp.ones((1, 3), jnp.int32),
    jnp.arange(3)[None],
  )[0]
  np.testing.assert_allclose(capped, 5 * np.tanh(free / 5), atol=1e-5)
