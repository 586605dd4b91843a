# SPDX-License-Identifier: Apache-2.0
"""Tests of the transformer: what attends to what, and where."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import config as config_lib
from jaxttc.models import key_values, reward_model, transformer

_CONFIG = config_lib.TransformerConfig(
  vocab_size=29,
  width=16,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=6,
  mlp_width=20,
)
_MODEL = transformer.Transformer(_CONFIG)


@pytest.fixture(scope="module")
def params():
  return jax.jit(lambda k: transformer.init(k, _MODEL))(jax.random.key(0))


@pytest.fixture(scope="module")
def forward():
  return jax.jit(lambda *args: transformer.forward(_MODEL, *args))


def _tokens(*shape, seed=1):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.integers(0, _CONFIG.vocab_size, shape), jnp.int32)


def _one_segment(tokens):
  index = jnp.arange(tokens.shape[1])
  return jnp.ones_like(tokens), jnp.broadcast_to(index, tokens.shape)


def test_logits_do_not_depend_on_later_tokens(params):
  # The gradient by the embedding table of a token that occurs once, at 5.
  tokens = jnp.arange(9)[None]
  segments, positions = _one_segment(tokens)
  untied = transformer.Transformer(
    dataclasses.replace(_CONFIG, tie_embeddings=False)
  )
  params = transformer.init(jax.random.key(0), untied)

  def each_row(table):
    changed = params | {"embed": {"embedding": table}}
    out = transformer.forward(untied, changed, tokens, segments, positions)
    return jnp.square(out[0]).sum(axis=-1)

  by_token = jax.jit(jax.jacobian(each_row))(params["embed"]["embedding"])
  influence = np.abs(np.asarray(by_token)).sum(axis=-1)[:, :9]
  assert (np.triu(influence, 1) == 0).all()
  assert (np.tril(influence) + np.triu(np.ones((9, 9)), 1) > 0).all()


def test_packed_segments_are_independent(params, forward):
  first, second = _tokens(1, 5, seed=2), _tokens(1, 7, seed=3)
  row = jnp.concatenate([first, second, jnp.zeros((1, 4), jnp.int32)], axis=1)
  segments = jnp.asarray([[1] * 5 + [2] * 7 + [0] * 4])
  positions = jnp.asarray([[*range(5), *range(7), *range(4)]])
  packed = forward(params, row, segments, positions)
  for part, start in ((first, 0), (second, 5)):
    alone = forward(params, part, *_one_segment(part))
    inside = packed[:, start : start + part.shape[1]]
    np.testing.assert_allclose(inside, alone, atol=1e-5)
  other = row.at[0, 2].set((row[0, 2] + 1) % _CONFIG.vocab_size)
  changed = forward(params, other, segments, positions)
  np.testing.assert_array_equal(changed[:, 5:], packed[:, 5:])
  assert not np.array_equal(changed[:, 2:5], packed[:, 2:5])


def test_causal_mask_against_the_definition():
  segments = np.asarray([[1, 1, 2, 2, 2, 0], [1, 2, 3, 0, 0, 0]])
  mask = np.asarray(key_values.causal_mask(jnp.asarray(segments)))[:, 0]
  for b in range(2):
    for i in range(6):
      for j in range(6):
        sees = j <= i and segments[b, i] == segments[b, j]
        assert mask[b, i, j] == sees


def test_shifting_all_positions_changes_nothing(params, forward):
  tokens = _tokens(2, 8)
  segments, positions = _one_segment(tokens)
  near = forward(params, tokens, segments, positions)
  far = forward(params, tokens, segments, positions + 50)
  np.testing.assert_allclose(near, far, atol=1e-4)


def test_grouped_queries_equal_repeated_heads(params):
  """Each kv head serves its queries as a copy a query head would."""
  config = dataclasses.replace(_CONFIG, kv_heads=_CONFIG.heads)
  queries = _CONFIG.heads // _CONFIG.kv_heads

  def repeat(path, leaf):
    if path[-1].key != "qkv":
      return leaf
    q, k, v = np.split(np.asarray(leaf), [queries, queries + 1], axis=2)
    heads = q.reshape(_CONFIG.width, _CONFIG.heads, 1, _CONFIG.head_dim)
    copies = [np.repeat(x, queries, axis=1) for x in (k, v)]
    return jnp.concatenate([heads, *copies], axis=2)

  repeated = jax.tree_util.tree_map_with_path(repeat, params)
  tokens = _tokens(2, 8)
  args = (tokens, *_one_segment(tokens))
  grouped = transformer.forward(_MODEL, params, *args)
  full = transformer.forward(transformer.Transformer(config), repeated, *args)
  np.testing.assert_allclose(grouped, full, atol=1e-5)


# A tree: node -> (parent, its tokens' number). Node 0 is the prompt.
_TREE = {0: (-1, 4), 1: (0, 3), 2: (0, 2), 3: (1, 2), 4: (1, 1)}


def _path(node):
  return [] if node < 0 else [*_path(_TREE[node][0]), node]


def _plant(params, tokens, slots):
  """An arena that holds the tree, node by node, in the order of `slots`."""
  owner = np.full(len(slots), -1)
  arena = key_values.empty_key_values(_CONFIG, (1,), len(slots))
  arena = jax.tree.map(np.array, arena)
  free = list(slots)
  width = 10
  causal = jnp.tril(jnp.ones((1, 1, width, width), bool))
  index = jnp.arange(width)[None, None]
  read = jax.jit(
    lambda row: _MODEL.apply({"params": params}, row, index, causal)[1]
  )
  for node, (_, length) in _TREE.items():
    row = np.concatenate([tokens[n] for n in _path(node)])
    own = read(np.pad(row, (0, width - row.size))[None, None])
    for place in range(row.size - length, row.size):
      slot = free.pop()
      owner[slot] = node
      for a, kv in zip(arena, own, strict=True):
        a.k[0, :, :, slot] = kv.k[0, 0, :, :, place]
        a.v[0, :, slot] = kv.v[0, 0, :, place]
  return jax.tree.map(jnp.asarray, arena), owner


@pytest.fixture(scope="module")
def planted(params):
  tokens = {n: _tokens(size, seed=n) for n, (_, size) in _TREE.items()}
  slots = np.random.default_rng(5).permutation(16)
  return tokens, *_plant(params, tokens, slots)


def _oracle(forward, params, tokens, node, span):
  """Logits at the span's places of the whole path, without any cache."""
  row = jnp.concatenate([*(tokens[n] for n in _path(node)), span])[None]
  width = 16  # one shape for all paths
  padded = jnp.pad(row, ((0, 0), (0, width - row.shape[1])))
  segments = (jnp.arange(width) < row.shape[1]).astype(jnp.int32)[None]
  out = forward(params, padded, segments, jnp.arange(width)[None])
  return out[0, row.shape[1] - span.shape[0] : row.shape[1]]


def _masks(owner, nodes):
  return np.asarray([[np.isin(owner, _path(n)) for n in nodes]])


def test_spans_over_an_arena_equal_a_plain_forward(params, forward, planted):
  tokens, arena, owner = planted
  nodes = [0, 2, 3, 4]
  span = _tokens(1, len(nodes), 3, seed=9)
  depth = [sum(_TREE[n][1] for n in _path(node)) for node in nodes]

  @jax.jit
  def read(span):
    hidden, _ = _MODEL.apply(
      {"params": params},
      span,
      jnp.asarray(depth)[None, :, None] + jnp.arange(3)[None, None],
      jnp.broadcast_to(jnp.tril(jnp.ones((3, 3), bool)), (1, 4, 3, 3)),
      key_values.Context(
        arena=arena, arena_mask=jnp.asarray(_masks(owner, nodes))
      ),
    )
    return _MODEL.apply({"params": params}, hidden, method="logits")

  got = read(span)
  for r, node in enumerate(nodes):
    expected = _oracle(forward, params, tokens, node, span[0, r])
    np.testing.assert_allclose(got[0, r], expected, atol=1e-5)


def test_token_by_token_over_arena_and_scratch(params, forward, planted):
  """Rows begin at different columns; early columns hold other rows' junk."""
  tokens, arena, owner = planted
  nodes, starts, total = [3, 2, 0], [0, 1, 3], 6
  span = _tokens(len(nodes), total, seed=11)
  depth = [sum(_TREE[n][1] for n in _path(node)) for node in nodes]
  scratch = key_values.empty_key_values(_CONFIG, (1, len(nodes)), total)
  mask = jnp.asarray(_masks(owner, nodes))

  @jax.jit
  def step(scratch, column):
    local = jnp.maximum(column - jnp.asarray(starts), 0)
    fed = jnp.take_along_axis(span, local[:, None], axis=1)
    columns = jnp.arange(total)[None]
    own = (columns >= jnp.asarray(starts)[:, None]) & (columns <= column)
    hidden, scratch = _MODEL.apply(
      {"params": params},
      fed[None],
      (jnp.asarray(depth) + local)[None, :, None],
      own[None, :, None],
      key_values.Context(
        arena=arena, arena_mask=mask, scratch=scratch, column=column
      ),
    )
    return _MODEL.apply({"params": params}, hidden, method="logits"), scratch

  rows = [[] for _ in nodes]
  for column in range(total):
    logits, scratch = step(scratch, jnp.int32(column))
    for r, start in enumerate(starts):
      if column >= start:
        rows[r].append(logits[0, r, 0])
  for r, node in enumerate(nodes):
    expected = _oracle(forward, params, tokens, node, span[r, : len(rows[r])])
    np.testing.assert_allclose(np.stack(rows[r]), expected, atol=1e-5)


def test_widen_narrow_and_shift_move_tokens_as_they_say():
  rng = np.random.default_rng(0)
  layers = tuple(
    key_values.KeyValues(
      jnp.asarray(rng.normal(size=(1, 2, 6, 5))),
      jnp.asarray(rng.normal(size=(1, 2, 5, 6))),
    )
    for _ in range(2)
  )

  def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)

  wide = key_values.widen(layers, 3)
  assert wide[0].k.shape == (1, 2, 6, 8) and wide[1].v.shape == (1, 2, 8, 6)
  same(key_values.narrow(wide, 5), layers)
  assert not np.asarray(wide[0].k[..., 5:]).any()
  moved = key_values.shift(layers, jnp.int32(2))
  same(moved[1].k[..., :3], layers[1].k[..., 2:])
  same(moved[1].v[..., :3, :], layers[1].v[..., 2:, :])


def test_a_plain_reward_model_is_a_head_on_the_trunk(params):
  model = reward_model.ProcessRewardModel(_CONFIG)
  theirs = transformer.init(jax.random.key(3), model) | {"trunk": params}
  tokens = _tokens(2, 6)
  reward = transformer.forward(model, theirs, tokens, *_one_segment(tokens))
  assert reward.shape == (2, 6) and reward.dtype == jnp.float32
  index = _one_segment(tokens)[1][:, None]
  mask = key_values.causal_mask(jnp.ones_like(tokens))
  hidden, _ = _MODEL.apply({"params": params}, tokens[:, None], index, mask)
  head = theirs["reward"]
  expected = hidden[:, 0] @ head["kernel"] + head["bias"][0]
  np.testing.assert_allclose(reward, expected[..., 0], atol=1e-6)


def test_reading_layers_are_told_how_each_token_was_expected(params):
  """20 tokens: more than are compared at once, and no multiple of that."""
  config = dataclasses.replace(_CONFIG, layers=3, reading_layers=1)
  model = reward_model.ProcessRewardModel(config)
  theirs = transformer.init(jax.random.key(3), model) | {"trunk": params}
  tokens = _tokens(2, 20)
  index = _one_segment(tokens)[1][:, None]
  mask = key_values.causal_mask(jnp.ones_like(tokens))
  hidden, _ = _MODEL.apply({"params": params}, tokens[:, None], index, mask)
  found = model.apply(
    {"params": theirs}, hidden[:, :, :-1], tokens[:, None, 1:], method="_found"
  )
  logits = transformer.forward(_MODEL, params, tokens, *_one_segment(tokens))
  logprobs = np.asarray(jax.nn.log_softmax(logits))[:, :-1]
  for row in range(2):
    for at, token in enumerate(np.asarray(tokens)[row, 1:]):
      own = logprobs[row, at, token]
      short = logprobs[row, at].max() - own
      entropy = -(np.exp(logprobs[row, at]) * logprobs[row, at]).sum()
      np.testing.assert_allclose(
        found[row, 0, at],
        [own / 4, np.exp(own), short / 4, entropy],
        rtol=1e-4,
        atol=1e-6,
      )
  judged = lambda text: transformer.forward(  # noqa: E731
    model, theirs, text, *_one_segment(text)
  )
  # A text's first token was not expected, and later ones change nothing.
  other = tokens.at[:, 12].set((tokens[:, 12] + 1) % _CONFIG.vocab_size)
  same = np.asarray(judged(tokens) == judged(other))
  assert same[:, :12].all() and not same[:, 12:].any()


def test_bfloat16_stays_close_and_gives_float32_logits(params, forward):
  model = transformer.Transformer(_CONFIG, jnp.bfloat16)
  tokens = _tokens(2, 8)
  args = (tokens, *_one_segment(tokens))
  rough = transformer.forward(model, params, *args)
  assert rough.dtype == jnp.float32
  np.testing.assert_allclose(rough, forward(params, *args), atol=0.15)


@pytest.mark.parametrize(
  "make", [transformer.Transformer, reward_model.ProcessRewardModel]
)
def test_layers_computed_anew_give_the_gradient_and_hold_less(make):
  config = _CONFIG
  if make is reward_model.ProcessRewardModel:
    config = dataclasses.replace(_CONFIG, reading_layers=1)
  plain = make(config)
  anew = make(config, remat=True)
  params = transformer.init(jax.random.key(0), plain)
  assert jax.tree.structure(params) == jax.tree.structure(
    jax.eval_shape(lambda: transformer.init(jax.random.key(0), anew))
  )
  tokens = _tokens(2, 16)
  found = []
  for model in (plain, anew):

    @jax.jit
    def of(params, model=model):
      loss = lambda p: jnp.square(  # noqa: E731
        transformer.forward(model, p, tokens, *_one_segment(tokens))
      ).mean()
      value, pull = jax.vjp(loss, params)
      return value, pull(1.0)[0], pull  # `pull` is what the backward pass holds

    found.append(of(params))
  (value, grads, held), (again, others, less) = found
  np.testing.assert_allclose(again, value, rtol=1e-6)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6),
    others,
    grads,
  )
  size = lambda pull: sum(x.size for x in jax.tree.leaves(pull))  # noqa: E731
  assert size(less) < 0.75 * size(held)


def test_matrix_axes_name_every_matrix_of_the_blocks(params):
  axes = transformer.matrix_axes(params)
  is_leaf = lambda x: x is None or isinstance(x, tuple)  # noqa: E731
  named = dict(jax.tree_util.tree_leaves_with_path(axes, is_leaf=is_leaf))
  shapes = dict(jax.tree_util.tree_leaves_with_path(params))
  assert named.keys() == shapes.keys()
  matrices = 0
  for path, leaf in shapes.items():
    in_a_block = path[0].key.startswith(("attention_", "mlp_"))
    if not in_a_block or leaf.ndim < 2:
      assert named[path] is None
      continue
    inputs, outputs = named[path]
    assert sorted(inputs + outputs) == list(range(leaf.ndim))
    fan_in = np.prod([leaf.shape[i] for i in inputs])
    inner = {"out": _CONFIG.heads * _CONFIG.head_dim, "down": 20}
    assert fan_in == inner.get(path[-1].key, _CONFIG.width)
    matrices += 1
  assert matrices == 4 * _CONFIG.layers
