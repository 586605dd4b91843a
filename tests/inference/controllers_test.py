# SPDX-License-Identifier: Apache-2.0
"""Filters against brute force, and draws against their probabilities."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxttc.inference import controllers

_INF = float("inf")


def _filter(controller, logits, dtype=jnp.float32):
  """Applies a stateless controller to one batch of logits."""
  logits = jnp.asarray(logits, dtype)
  return np.asarray(
    controller.apply(controller.init(logits.shape[0]), logits), np.float64
  )


def _softmax(row):
  weights = np.exp(np.asarray(row, np.float64) - np.max(row))
  return weights / weights.sum()


def _keys(n, seed=0):
  return jax.random.split(jax.random.key(seed), n)


def _kept_top_k(row, k):
  return {i for i, x in enumerate(row) if x >= sorted(row)[::-1][k - 1]}


def _kept_top_p(row, p):
  probs, kept, mass = _softmax(row), set(), 0.0
  for i in sorted(range(len(row)), key=lambda i: (-probs[i], i)):
    if mass >= p:
      break
    kept.add(i)
    mass += probs[i]
  return kept


def _kept_min_p(row, m):
  probs = _softmax(row)
  return {i for i, q in enumerate(probs) if q >= m * probs.max()}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
  ("make", "oracle", "values"),
  [
    (controllers.top_k, _kept_top_k, [1, 2, 7, 19]),
    (controllers.top_p, _kept_top_p, [0.01, 0.3, 0.77, 0.999]),
    (controllers.min_p, _kept_min_p, [0.01, 0.2, 0.9, 1.0]),
  ],
)
def test_filters_keep_what_brute_force_keeps(make, oracle, values, seed):
  rows = np.random.default_rng(seed).normal(size=(6, 20)).astype(np.float32)
  rows[:, 5] = -_INF  # dropped by someone before
  for value in values:
    out = _filter(make(value), rows)
    for row, filtered in zip(rows, out, strict=True):
      kept = oracle(row, value) - {5}
      assert set(np.flatnonzero(filtered > -_INF)) == kept
      np.testing.assert_array_equal(
        filtered[list(kept)], row[list(kept)].astype(np.float64)
      )


@pytest.mark.parametrize("seed", range(3))
def test_sampler_filters_in_order_and_renormalises(seed):
  rng = np.random.default_rng(seed)
  rows = rng.normal(size=(4, 50)).astype(np.float32) * 3
  sampler = controllers.Sampler(temperature=0.7, top_k=12, top_p=0.9, min_p=0.1)
  out = _filter(sampler.controller(), rows)
  for row, filtered in zip(rows, out, strict=True):
    left = row / 0.7
    for oracle, value in [
      (_kept_top_k, 12),
      (_kept_top_p, 0.9),
      (_kept_min_p, 0.1),
    ]:
      kept = oracle(left, value)
      left = np.array(
        [x if i in kept else -_INF for i, x in enumerate(left)], np.float64
      )
    np.testing.assert_allclose(_softmax(filtered), _softmax(left), atol=1e-6)


@hypothesis.given(
  st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6),
  st.sampled_from([0.25, 1.0, 3.0]),
)
@hypothesis.settings(max_examples=25)
def test_filters_that_keep_all_are_the_identity(row, tau):
  rows = np.asarray([row], np.float32)
  for filter_ in [
    controllers.top_k(len(row)),
    controllers.top_k(len(row) + 3),
    controllers.top_p(1.0),
    controllers.min_p(0.0),
    controllers.repetition_penalty(1.0, len(row)),
    controllers.temperature(1.0),
    controllers.identity(),
    controllers.chain(),
  ]:
    np.testing.assert_array_equal(_filter(filter_, rows), rows)
  np.testing.assert_allclose(
    _softmax(_filter(controllers.temperature(tau), rows)[0]),
    _softmax(rows[0].astype(np.float64) / tau),
    atol=1e-5,
  )


@hypothesis.given(
  st.lists(st.integers(-3, 3), min_size=9, max_size=9),
  st.floats(0.05, 0.99),
)
@hypothesis.settings(max_examples=40)
def test_top_p_is_the_smallest_likeliest_set_even_with_ties(row, p):
  out = _filter(controllers.top_p(p), [row])[0]
  kept = np.flatnonzero(out > -_INF)
  probs = _softmax(row)
  order = sorted(range(len(row)), key=lambda i: (-row[i], i))
  assert sorted(kept) == sorted(order[: len(kept)])
  assert probs[kept].sum() >= p - 1e-5
  assert probs[order[: len(kept) - 1]].sum() < p + 1e-5


def test_ties_and_bfloat16():
  row = [[1.0, 2.0, 2.0, 0.0]]
  kept = lambda c, dtype: np.flatnonzero(_filter(c, row, dtype)[0] > -_INF)  # noqa: E731
  for dtype in (jnp.float32, jnp.bfloat16):
    assert list(kept(controllers.top_k(1), dtype)) == [1, 2]
    assert list(kept(controllers.top_p(0.3), dtype)) == [1]
    assert list(kept(controllers.min_p(1.0), dtype)) == [1, 2]
    assert list(kept(controllers.temperature(0.0), dtype)) == [1]
  logits = jnp.asarray(row, jnp.bfloat16)
  token, logprob = controllers.greedy(logits)
  assert token.tolist() == [1] and logprob.dtype == jnp.float32
  exact = np.log(_softmax(row[0])[1])
  np.testing.assert_allclose(logprob, [exact], rtol=1e-6)


def test_a_mass_that_rounding_never_reaches_keeps_all():
  rows = np.random.default_rng(0).normal(size=(64, 300)).astype(np.float32)
  out = _filter(controllers.top_p(1 - 1e-8), rows)
  assert (out > -_INF).all()


def test_a_tiny_temperature_does_not_overflow():
  rows = jnp.asarray([[3e38, -3e38, 1.0], [0.0, 1e-3, -_INF]])
  cooled = controllers.temperature(1e-30).apply((), rows)
  token, _ = controllers.sample(_keys(2), cooled)
  assert token.tolist() == [0, 1]


@pytest.mark.parametrize("tau", [0.6, 1.0, 2.5])
def test_draws_have_the_controlled_distribution(tau):
  row = np.array([0.3, -1.0, 2.0, 0.0, -_INF, 1.1, -0.2, 0.7], np.float32)
  n = 100_000
  controller = controllers.temperature(tau)

  @jax.jit
  def draw(keys):
    logits = jnp.broadcast_to(jnp.asarray(row), (n, row.size))
    return controllers.sample(keys, controller.apply((), logits))

  token, logprob = map(np.asarray, draw(_keys(n)))
  probs = _softmax(row.astype(np.float64) / tau)
  seen = np.bincount(token, minlength=row.size)
  assert seen[4] == 0
  some = probs > 0
  assert stats.chisquare(seen[some], n * probs[some]).pvalue > 1e-3
  np.testing.assert_allclose(logprob, np.log(probs[token]), atol=1e-5)


def test_a_row_does_not_depend_on_its_batch_mates():
  keys = _keys(9, seed=3)
  logits = jax.random.normal(jax.random.key(1), (9, 40))
  everyone, logprob = controllers.sample(keys, logits)
  rows = jnp.asarray([7, 2, 5])
  few, few_logprob = controllers.sample(keys[rows], logits[rows])
  np.testing.assert_array_equal(few, everyone[rows])
  np.testing.assert_allclose(few_logprob, logprob[rows], rtol=1e-6)
  assert len(set(everyone.tolist())) > 3


def test_draws_the_token_at_which_cumulative_mass_passes_the_uniform():
  logits = jax.random.normal(jax.random.key(2), (200, 37)) * 3
  logits = logits.at[:, 5].set(-jnp.inf)
  token, _ = controllers.sample(_keys(200), logits)
  uniform = np.asarray(jax.vmap(jax.random.uniform)(_keys(200)), np.float64)
  mass = np.exp(np.asarray(logits, np.float64))
  upto = np.cumsum(mass, axis=1) / mass.sum(axis=1, keepdims=True)
  expected = (upto <= uniform[:, None]).sum(axis=1)
  clear = np.abs(upto - uniform[:, None]).min(axis=1) > 1e-5
  np.testing.assert_array_equal(np.asarray(token)[clear], expected[clear])
  assert clear.sum() > 150


@pytest.mark.parametrize(
  "sampler",
  [
    controllers.Sampler(),
    controllers.Sampler(temperature=0.0),
    controllers.Sampler(temperature=0.5, top_k=2),
    controllers.Sampler(top_p=0.5),
    controllers.Sampler(min_p=0.5, repetition_penalty=1.3),
  ],
)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_token_is_invented_for_broken_rows(sampler, dtype):
  nan = float("nan")
  rows = [
    [0.0, 1.0, 2.0, -1.0],
    [nan, 1.0, 2.0, 3.0],
    [5.0, 1.0, 2.0, nan],
    [-_INF] * 4,
    [0.0, _INF, 1.0, -_INF],
    [-_INF, -_INF, 0.0, -_INF],
  ]
  controller = sampler.controller(vocab_size=4)
  logits = controller.apply(controller.init(6), jnp.asarray(rows, dtype))
  token, logprob = sampler.draw(_keys(6), logits)
  assert token.dtype == jnp.int32
  assert (np.asarray(token) == -1).tolist() == [0, 1, 1, 1, 1, 0]
  assert token[5] == 2
  np.testing.assert_array_equal(np.isfinite(logprob), np.asarray(token) >= 0)
  with pytest.raises(ValueError, match=r"4 rows \(1, 2, 3, \.\.\.\)"):
    controllers.check_tokens(token)
  controllers.check_tokens(token[jnp.asarray([0, 5])])


def test_greedy_sampler_takes_the_best_and_is_certain():
  logits = jax.random.normal(jax.random.key(4), (5, 30))
  sampler = controllers.Sampler(temperature=0, top_k=3, top_p=0.9)
  controlled = sampler.controller().apply((), logits)
  token, logprob = sampler.draw(_keys(5), controlled)
  np.testing.assert_array_equal(token, np.argmax(logits, axis=-1))
  np.testing.assert_array_equal(logprob, np.zeros(5))
  drawn, _ = controllers.sample(_keys(5), controlled)
  np.testing.assert_array_equal(drawn, token)


def test_token_logprob_is_the_log_softmax():
  logits = jnp.asarray([[0.0, 1.0, -_INF], [2.0, 2.0, 2.0]])
  out = controllers.token_logprob(logits, jnp.asarray([1, 0]))
  np.testing.assert_allclose(
    out, [-np.log1p(np.exp(-1.0)), -np.log(3.0)], rtol=1e-6
  )
  out = controllers.token_logprob(logits, jnp.asarray([2, -1]))
  assert np.asarray(out).tolist() == [-_INF, -_INF]


def test_repetition_penalty_follows_what_occurred():
  controller = controllers.repetition_penalty(2.0, 5)
  prompt = jnp.asarray([[-1, 3], [0, 0]])
  state = controller.init(2, prompt)
  logits = jnp.asarray([[1.0, -1.0, 0.5, 4.0, -_INF]] * 2)
  np.testing.assert_allclose(
    controller.apply(state, logits),
    [[1.0, -1.0, 0.5, 2.0, -_INF], [0.5, -1.0, 0.5, 4.0, -_INF]],
  )
  token, state = controller.commit(
    state, jnp.asarray([1, 2]), jnp.asarray([True, False])
  )
  assert token.tolist() == [1, 2]
  _, state = controller.commit(
    state, jnp.asarray([-1, -1]), jnp.asarray([True, True])
  )
  np.testing.assert_array_equal(
    state, [[False, True, False, True, False], [True] + [False] * 4]
  )
  with pytest.raises(ValueError, match="over 4 tokens; expected"):
    controller.apply(state, logits[:, :4])


def _recorder():
  """Writes token + 1, and keeps what it saw and what it wrote."""

  def init(batch, prompt=None):
    del prompt
    return jnp.full((batch, 2), -1)

  def apply(state, logits, context=None):
    del state, context
    return logits + 1.0

  def commit(state, token, active):
    new = jnp.stack([token, token + 1], axis=-1)
    state = jnp.where(active[:, None], new, state)
    return jnp.where(active, token + 1, token), state

  return controllers.Controller(init, apply, commit)


def test_chain_bends_forward_and_writes_backward():
  double = controllers.stateless(lambda logits: logits * 2)
  controller = controllers.chain(_recorder(), double, _recorder())
  state = controller.init(2)
  logits = controller.apply(state, jnp.asarray([[0.0, 3.0]] * 2))
  np.testing.assert_array_equal(logits, [[3.0, 9.0]] * 2)
  token, (first, _, last) = controller.commit(
    state, jnp.asarray([10, 20]), jnp.asarray([True, False])
  )
  assert token.tolist() == [12, 20]
  assert last.tolist() == [[10, 11], [-1, -1]]
  assert first.tolist() == [[11, 12], [-1, -1]]


def test_reset_and_fork_move_whole_rows():
  controller = controllers.chain(
    controllers.repetition_penalty(1.5, 4), controllers.identity(), _recorder()
  )
  state = controller.init(3)
  _, state = controller.commit(state, jnp.asarray([0, 1, 2]), jnp.ones(3, bool))
  again = controllers.reset(
    controller,
    state,
    jnp.asarray([False, True, False]),
    jnp.asarray([[3], [3], [-1]]),
  )
  assert np.argwhere(again[0]).tolist() == [[0, 1], [1, 3], [2, 3]]
  assert again[2].tolist() == [[0, 1], [-1, -1], [2, 3]]
  copies = controllers.fork(state, jnp.asarray([2, 2, 0, 1]))
  assert np.argwhere(copies[0]).tolist() == [[0, 3], [1, 3], [2, 1], [3, 2]]
  assert copies[2][:, 0].tolist() == [2, 2, 0, 1]


def test_a_decode_loop_under_jit_writes_no_token_twice():
  # A penalty this hard forbids repetition: what was drawn has no mass left.
  sampler = controllers.Sampler(
    temperature=0.8, top_k=8, top_p=0.999, min_p=1e-6, repetition_penalty=1e4
  )
  controller = sampler.controller(vocab_size=8)
  base = jnp.abs(jax.random.normal(jax.random.key(0), (3, 8))) + 40.0

  @jax.jit
  def decode(key):
    def body(carry):
      step, state, out = carry
      keys = jax.random.split(jax.random.fold_in(key, step), 3)
      logits = controller.apply(state, base)
      token, _ = sampler.draw(keys, logits)
      token, state = controller.commit(state, token, jnp.ones(3, bool))
      return step + 1, state, out.at[:, step].set(token)

    start = (0, controller.init(3), jnp.zeros((3, 8), jnp.int32))
    return jax.lax.while_loop(lambda carry: carry[0] < 8, body, start)[2]

  out = np.asarray(decode(jax.random.key(1)))
  assert all(len(set(row)) == 8 for row in out.tolist())


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("temperature", -0.1),
    ("temperature", float("nan")),
    ("temperature", _INF),
    ("top_k", 0),
    ("top_k", True),
    ("top_p", 0.0),
    ("top_p", 1.01),
    ("top_p", float("nan")),
    ("min_p", -0.01),
    ("min_p", 1.5),
    ("repetition_penalty", 0.0),
    ("repetition_penalty", _INF),
  ],
)
def test_sampler_refuses_values_out_of_range(field, value):
  with pytest.raises(ValueError, match=rf"^{field} is .*; expected"):
    controllers.Sampler(**{field: value}).validate()
  with pytest.raises(ValueError, match=rf"^{field} is "):
    controllers.Sampler(**{field: value}).controller(vocab_size=4)


def test_bad_calls_are_refused():
  with pytest.raises(ValueError, match="needs vocab_size"):
    controllers.Sampler(repetition_penalty=1.2).controller()
  with pytest.raises(ValueError, match="vocab_size is 0"):
    controllers.repetition_penalty(1.2, 0)
  with pytest.raises(TypeError, match="jax.random.key"):
    controllers.sample(jnp.zeros((2, 2), jnp.uint32), jnp.zeros((2, 3)))
  with pytest.raises(ValueError, match="one key a row"):
    controllers.sample(_keys(3), jnp.zeros((2, 3)))
