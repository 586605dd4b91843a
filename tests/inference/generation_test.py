# SPDX-License-Identifier: Apache-2.0
"""Tests of the decoding loop, against a model without any cache."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, generation, stop, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import transformer

_CONFIG = config_lib.TransformerConfig(
  vocab_size=31,
  width=16,
  layers=2,
  heads=2,
  kv_heads=1,
  head_dim=8,
  mlp_width=16,
  tie_embeddings=False,
)
_MODEL = transformer.Transformer(_CONFIG)
_EOS, _NEWLINE, _MARKER = 0, 1, 2
_RULE = generation.StopRule(
  eos_id=_EOS, step_end=stop.build([[_NEWLINE]]), answer_marker_id=_MARKER
)
_ENDLESS = generation.StopRule(eos_id=-2, step_end=stop.build([]))
_PROMPTS = ([3, 7, 5, 9, 4], [8, 6, 3])
_SAMPLED = controllers.temperature(0.8)
_SLOTS, _WIDTH = 8, 48


@pytest.fixture(scope="module")
def params():
  def init(key):
    # Louder than at birth, so that greedy text does not settle on a token.
    params = transformer.init(key, _MODEL)
    return jax.tree.map(lambda x: 3 * x if x.ndim > 1 else x, params)

  return jax.jit(init)(jax.random.key(6))


@pytest.fixture(scope="module")
def cache(params):
  """Both prompts but their last tokens, which rows feed for themselves."""
  tokens = np.zeros((2, 5), np.int32)
  for g, prompt in enumerate(_PROMPTS):
    tokens[g, : len(prompt)] = prompt
  length = jnp.asarray([len(prompt) - 1 for prompt in _PROMPTS])

  @jax.jit
  def read(tokens, length):
    keys_values, _ = generation.prefill(_MODEL, params, tokens, length)
    empty = tree_cache.init(_CONFIG, 2, _SLOTS)
    return tree_cache.write_prompt(empty, keys_values, length, jnp.arange(2))

  return read(jnp.asarray(tokens), length)


@pytest.fixture(scope="module")
def sample(params):
  """Samples spans with a forward pass of everything for every token."""

  @jax.jit
  def draw(row, length, key):
    index = jnp.arange(_WIDTH)
    segments = (index < length).astype(jnp.int32)[None]
    out = transformer.forward(_MODEL, params, row[None], segments, index[None])
    logits = _SAMPLED.apply((), out[:, length - 1])
    return controllers.sample(key[None], logits)

  def sample(group, key, until, limit):
    text, total = list(_PROMPTS[group]), 0.0
    start, answering = len(text), False
    for t in range(limit):
      row = jnp.asarray(text + [0] * (_WIDTH - len(text)))
      token, logprob = draw(row, len(text), jax.random.fold_in(key, t))
      text.append(int(token[0]))
      total += float(logprob[0])
      answering |= text[-1] == _MARKER
      ends = text[-1] == _EOS or (text[-1] == _NEWLINE and answering)
      if ends or (text[-1] == _NEWLINE and until == generation.STEP):
        break
    return text[start:], total

  return sample


def _requests(rows, groups=2):
  """Requests from {(group, row): (key, until, limit)}; the rest idle."""
  count = 1 + max(r for _, r in rows)
  shape = (groups, count)
  names = ("node", "token", "position", "until", "limit")
  filled = {name: np.zeros(shape, np.int32) for name in names}
  for g, prompt in enumerate(_PROMPTS[:groups]):
    filled["token"][g], filled["position"][g] = prompt[-1], len(prompt) - 1
  keys = [[_keys(1)[0]] * count for _ in range(groups)]
  for (g, r), (key, until, limit) in rows.items():
    filled["until"][g, r], filled["limit"][g, r] = until, limit
    keys[g][r] = key
  return generation.Requests(
    key=jax.random.wrap_key_data(
      np.asarray([[jax.random.key_data(key) for key in row] for row in keys])
    ),
    **jax.tree.map(jnp.asarray, filled),
  )


@jax.jit
def _path(cache, requests):
  groups = requests.node.shape[0]
  parent = jnp.full((groups, 2), -1)
  return tree_cache.path_mask(cache.owner[:groups], parent, requests.node)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _begin(cache, requests, columns, controller=_SAMPLED, prefix=None):
  groups, rows = requests.node.shape
  idle = generation.idle_rows(
    _CONFIG, groups, rows, columns, _SLOTS, controller
  )
  path = _path(cache, requests)
  return generation.assign(idle, requests, path, controller, prefix)


@pytest.fixture(scope="module")
def decode(params):
  """(cache, rows, steps, min_active=1) -> rows; compiled once a shape."""

  @jax.jit
  def run(cache, rows, steps, min_active):
    return generation.decode(
      _MODEL,
      params,
      cache,
      rows,
      _RULE,
      _SAMPLED,
      controllers.sample,
      steps,
      min_active,
    )

  return lambda cache, rows, steps, min_active=1: run(
    cache, rows, jnp.int32(steps), jnp.int32(min_active)
  )


_spans = jax.jit(lambda rows: generation.span_tokens(rows, rows.columns))
_assign = jax.jit(
  lambda rows, requests, path: generation.assign(rows, requests, path, _SAMPLED)
)
_compact = jax.jit(generation.compact)
_widen = jax.jit(generation.widen, static_argnums=1)


def _span(rows, g, r):
  tokens = np.asarray(_spans(rows))[g, r]
  return tokens[tokens >= 0].tolist()


def _keys(n, seed=0):
  return list(jax.random.split(jax.random.key(seed), n))


def test_greedy_is_the_argmax_of_a_forward_without_cache(params, cache):
  greedy = controllers.temperature(0)
  steps = 40
  rows = _begin(
    cache,
    _requests({(g, 0): (_keys(1)[0], generation.END, steps) for g in (0, 1)}),
    steps,
    greedy,
  )
  draw = lambda keys, logits: controllers.greedy(logits)  # noqa: E731
  rows = jax.jit(
    lambda rows: generation.decode(
      _MODEL, params, cache, rows, _ENDLESS, greedy, draw, steps
    )
  )(rows)
  forward = jax.jit(lambda *args: transformer.forward(_MODEL, params, *args))
  for g, prompt in enumerate(_PROMPTS):
    written = _span(rows, g, 0)
    assert len(written) == steps and len(set(written)) > 1
    row = jnp.asarray([prompt + written + [0] * (5 - len(prompt))])
    index = jnp.arange(row.shape[1])[None]
    segments = (index < len(prompt) + steps).astype(jnp.int32)
    best = np.asarray(forward(row, segments, index)[0].argmax(-1))
    expected = best[len(prompt) - 1 : len(prompt) - 1 + steps]
    assert written == expected.tolist()


def test_rows_of_a_batch_write_what_they_write_alone(cache, decode, sample):
  work = {
    (g, r): (key, (g + r) % 2, 12)
    for (g, r), key in zip(np.ndindex(2, 3), _keys(6), strict=True)
  }
  rows = decode(cache, _begin(cache, _requests(work), 12), 12)
  ends = set()
  for (g, r), (key, until, limit) in work.items():
    expected, logprob = sample(g, key, until, limit)
    assert _span(rows, g, r) == expected
    np.testing.assert_allclose(rows.logprob[g, r], logprob, atol=1e-4)
    ends.add((len(expected) == limit, until))
  assert len(ends) > 2  # of different kinds


def test_refill_compact_and_widen_change_no_token(cache, decode, sample):
  """Rows that are under way go on while others are refilled."""
  keys = _keys(4, seed=3)
  first = {
    (0, 0): (keys[0], generation.END, 14),
    (1, 0): (keys[1], generation.END, 14),
    (0, 1): (keys[2], generation.END, 3),
  }
  expected = {
    where: sample(where[0], *work)[0] for where, work in first.items()
  }
  rows = decode(cache, _begin(cache, _requests(first), 8), 5)
  assert rows.active[0, 0] and rows.active[1, 0] and not rows.active[0, 1]
  assert _span(rows, 0, 1) == expected[(0, 1)]
  refill = {(0, 1): (keys[3], generation.END, 16)}
  more = _requests(refill)
  rows = _assign(rows, more, _path(cache, more))
  expected |= {
    where: sample(where[0], *work)[0] for where, work in refill.items()
  }
  rows = decode(cache, rows, 100)
  assert int(rows.column) == 8  # the columns ran out
  rows = decode(cache, _widen(rows, 16), 7)
  assert int(rows.column) == 15 and rows.active[0, 1]
  for where in ((0, 0), (1, 0)):  # done: taken before columns are dropped
    assert _span(rows, *where) == expected[where]
  rows = _compact(rows)
  assert int(rows.column) == 10
  rows = decode(cache, rows, 100)
  assert _span(rows, 0, 1) == expected[(0, 1)]


def test_compact_drops_only_what_no_active_row_needs(cache, decode):
  keys = _keys(2, seed=3)
  work = {(0, 0): (keys[0], generation.END, 2)}
  rows = decode(cache, _begin(cache, _requests(work), 8), 5)
  assert _compact(rows).column == 0  # nobody needs anything
  later = _requests({(0, 0): (keys[1], generation.END, 5)})
  rows = _assign(rows, later, _path(cache, later))
  begun = int(rows.column)
  rows = decode(cache, rows, 2)
  before = _span(rows, 0, 0)
  rows = _compact(rows)
  assert int(rows.start[0, 0]) == 0
  assert int(rows.column) == 2 and begun > 0
  assert _span(rows, 0, 0) == before


def test_steps_and_min_active_only_pause(cache, decode):
  keys = _keys(3, seed=7)
  work = {
    (0, 0): (keys[0], generation.END, 9),
    (0, 1): (keys[1], generation.END, 2),
    (1, 0): (keys[2], generation.END, 9),
  }
  begun = _begin(cache, _requests(work), 12)
  whole = decode(cache, begun, 12)
  assert int(decode(cache, begun, 1).column) == 1
  paused = decode(cache, begun, 12, 3)
  assert int(paused.active.sum()) < 3 and int(paused.column) <= 2
  resumed = decode(cache, decode(cache, paused, 1), 12)
  for where in work:
    assert _span(resumed, *where) == _span(whole, *where)
  np.testing.assert_array_equal(resumed.logprob, whole.logprob)
  nothing = decode(cache, whole, 12)  # no row is active: nothing happens
  assert int(nothing.column) == int(whole.column)


def _scripted():
  """A controller that forces the tokens its state lists; -1 masks all."""

  def init(batch, prompt=None):
    del prompt
    return jnp.zeros((batch, 8), jnp.int32), jnp.zeros((batch,), jnp.int32)

  def apply(state, logits, context=None):
    del context
    script, t = state
    token = jnp.take_along_axis(script, t[:, None], axis=1)
    ids = jnp.arange(logits.shape[1])[None]
    return jnp.where(ids == token, 0.0, -jnp.inf)

  def commit(state, token, active):
    return token, (state[0], state[1] + active)

  return controllers.Controller(init, apply, commit)


@pytest.fixture(scope="module")
def write(params, cache):
  """Lets six rows of group 0 write what scripts say; four columns longer."""
  controller = _scripted()
  idle = _requests({(0, 5): (_keys(1)[0], 0, 0)}, 1)

  @jax.jit
  def run(script, until, limit):
    requests = idle.replace(until=until[None], limit=limit[None])
    one = jax.tree.map(lambda x: x[:1], cache)
    rows = _begin(one, requests, 12, controller)
    rows = rows.replace(control=(script, rows.control[1]))
    return generation.decode(
      _MODEL, params, one, rows, _RULE, controller, controllers.sample, 12
    )

  def write(scripts, until, limit):
    script = np.full((6, 8), 9, np.int32)
    for r, tokens in enumerate(scripts):
      script[r, : len(tokens)] = tokens
    return run(*map(jnp.asarray, (script, until, limit)))

  return write


def _flags(rows):
  return [
    (int(n), bool(s), bool(f))
    for n, s, f in zip(
      rows.length[0], rows.stopped[0], rows.finished[0], strict=True
    )
  ]


def test_where_rows_stop(write):
  step, end = generation.STEP, generation.END
  rows = write(
    [
      [5, _NEWLINE, 6],  # a step
      [5, _NEWLINE, 6, _EOS],  # a step is no end
      [5, _EOS],  # a solution ends any step
      [_NEWLINE, _MARKER, 7, _NEWLINE],  # ends with its answer's step
      [5, 6, 7, 8],  # runs into its limit
      [_MARKER, 5, _NEWLINE],  # the limit is the end: it counts
    ],
    [step, end, step, end, end, step],
    [7, 7, 7, 7, 3, 3],
  )
  assert _flags(rows) == [
    (2, True, False),
    (4, True, True),
    (2, True, True),
    (4, True, True),
    (3, False, False),
    (3, True, True),
  ]
  assert not rows.active.any()
  assert _span(rows, 0, 3) == [_NEWLINE, _MARKER, 7, _NEWLINE]


def test_a_row_that_can_draw_nothing_ends_without_stopping(write):
  scripts = [[5, -1], [-1], [5, _NEWLINE, -1], [_EOS], [5, 6], [5, 6]]
  rows = write(scripts, [1, 1, 1, 1, 1, 1], [7, 7, 7, 7, 2, 0])
  assert _flags(rows) == [
    (1, False, False),
    (0, False, False),
    (2, False, False),
    (1, True, True),
    (2, False, False),
    (0, False, False),
  ]
  assert not rows.active.any()
  assert np.isfinite(rows.logprob).all()
  assert _span(rows, 0, 0) == [5] and _span(rows, 0, 1) == []
  assert (np.asarray(rows.answer_class) == -1).all()


_ANSWERS = st.lists(
  st.lists(st.integers(3, 6), max_size=3), min_size=6, max_size=6
)


@hypothesis.given(_ANSWERS, st.lists(st.booleans(), min_size=6, max_size=6))
@hypothesis.settings(max_examples=30)
def test_answers_are_of_one_class_iff_their_tokens_are_equal(
  write, answers, by_eos
):
  scripts = [
    [7, _MARKER, *answer, _EOS if eos else _NEWLINE]
    for answer, eos in zip(answers, by_eos, strict=True)
  ]
  rows = write(scripts, [generation.STEP] * 6, [7] * 6)
  classes = np.asarray(rows.answer_class[0]).tolist()
  assert all(rows.finished[0])
  for a, c in zip(answers, classes, strict=True):
    assert (c >= 0) == bool(a)
    for b, d in zip(answers, classes, strict=True):
      assert (c == d) == (a == b)


def test_solutions_without_a_marker_have_no_answer(write):
  scripts = [[5, 6, _EOS]] * 5 + [[_MARKER, 5, 6, 7]]
  rows = write(scripts, [1] * 6, [7] * 5 + [3])
  assert np.asarray(rows.answer_class[0]).tolist() == [-1] * 6


def test_assign_shows_controllers_the_prefix_of_new_rows_only(cache):
  penalty = controllers.repetition_penalty(2.0, _CONFIG.vocab_size)
  requests = _requests(
    {(0, 0): (_keys(1)[0], 0, 5), (1, 0): (_keys(1)[0], 0, 0)}
  )
  prefix = jnp.asarray([[-1, 3, 7], [4, 4, 4]])
  rows = _begin(cache, requests, 4, penalty, prefix)
  seen = np.asarray(rows.control)
  assert np.flatnonzero(seen[0]).tolist() == [3, 7]
  assert not seen[1].any()
  assert np.asarray(rows.active).tolist() == [[True], [False]]


def test_bucket_is_the_least_power_of_two():
  for size in range(300):
    got = generation.bucket(size, least=4)
    assert got >= max(size, 4) and got & (got - 1) == 0
    assert got == 4 or got // 2 < size


def test_rows_do_not_shrink(cache):
  rows = _begin(cache, _requests({(0, 0): (_keys(1)[0], 0, 5)}), 4)
  with pytest.raises(ValueError, match="4 columns cannot shrink to 3"):
    generation.widen(rows, 3)
