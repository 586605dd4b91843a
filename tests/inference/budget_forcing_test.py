# SPDX-License-Identifier: Apache-2.0
"""The compiled state machine against a plain-Python account of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import budget_forcing as bf
from jaxttc.inference import controllers

_VOCAB = 8
_ENDS = ((6,), (4, 5))  # a tag of one token, and one of two
_WAIT = (3, 2)
_CLOSE = (6, 7)


def _reference(stream, low, high, ignore, ends=_ENDS, wait=_WAIT, close=_CLOSE):
  """Writes tokens one at a time; returns (written, length, ignored, cut)."""
  written, queue, thinking = [], [], True
  length, ignored, cut, span_start = None, 0, False, 0
  for token in stream:
    if thinking and len(written) >= high:
      thinking, cut, length = False, True, len(written)
      queue = list(close)
    if queue:
      written.append(queue.pop(0))
      if thinking:
        span_start = len(written)  # no end sequence reaches into `wait`
      continue
    if thinking:
      text = [*written[span_start:], token]
      sizes = [
        len(e)
        for e in ends
        if len(text) >= len(e) and tuple(text[-len(e) :]) == tuple(e)
      ]
      if sizes:
        before = len(written) + 1 - max(sizes)
        if before < low and ignored < ignore:
          ignored += 1
          written.append(wait[0])
          span_start = len(written)
          queue = list(wait[1:])
          continue
        thinking, length = False, before
    written.append(token)
  used = len(written) if length is None else length
  return written, used, ignored, cut


@functools.partial(jax.jit, static_argnames=("ends", "wait", "close"))
def _run(streams, low, high, ignore, ends=_ENDS, wait=_WAIT, close=_CLOSE):
  """Feeds drawn tokens i32[B, T] through `commit`."""
  controller = bf.budget_forcing(
    ends=ends,
    wait=wait,
    close=close,
    min_tokens=low,
    max_tokens=high,
    num_ignore=ignore,
  )
  active = jnp.ones(streams.shape[0], bool)

  def step(state, token):
    token, state = controller.commit(state, token, active)
    return state, token

  init = controller.init(streams.shape[0])
  state, written = jax.lax.scan(step, init, streams.T)
  return written.T, state


def _fuzz(seed, rows=1000, steps=40):
  rng = np.random.default_rng(seed)
  # Three kinds of rows: ends are rare, frequent, or nearly everything.
  weights = np.ones((3, _VOCAB))
  weights[0, 4:7] = 0.1
  weights[2, 4:7] = 6.0
  streams = np.stack(
    [
      rng.choice(_VOCAB, size=steps, p=w / w.sum())
      for w in weights[np.arange(rows) % 3]
    ]
  )
  low = rng.integers(0, 20, rows)
  high = low + rng.integers(0, 12, rows)
  ignore = rng.integers(0, 4, rows)
  return tuple(jnp.asarray(x, jnp.int32) for x in (streams, low, high, ignore))


@pytest.mark.parametrize("seed", [0, 1])
def test_machine_equals_the_plain_account(seed):
  streams, low, high, ignore = _fuzz(seed)
  written, state = jax.tree.map(np.asarray, _run(streams, low, high, ignore))
  inputs = jax.tree.map(np.asarray, (streams, low, high, ignore))
  for i, row in enumerate(zip(*inputs, strict=True)):
    expected, used, ignored, cut = _reference(*row)
    np.testing.assert_array_equal(written[i], expected, err_msg=f"row {i}")
    assert (state.used[i], state.ignored[i]) == (used, ignored)
    assert state.cut[i] == cut
  assert state.cut.any() and not state.cut.all()
  assert (state.ignored == 3).any()


def test_thinking_length_is_always_within_the_bounds():
  streams, low, high, _ = _fuzz(2)
  _, state = _run(streams, low, high, jnp.full_like(low, bf.UNLIMITED))
  assert (state.phase == bf.Phase.DONE).all()
  assert (state.used >= low).all() and (state.used <= high).all()
  _, free = _run(
    streams, 0 * low, jnp.full_like(low, bf.UNLIMITED), jnp.zeros_like(low)
  )
  natural = (free.used >= low) & (free.used <= high)
  assert 0.02 < natural.mean() < 0.9  # the bounds had work to do


def test_some_ignores_left_is_the_only_excuse_for_a_short_span():
  streams, low, high, ignore = _fuzz(3)
  _, state = _run(streams, low, high, ignore)
  short = state.used < low
  assert short.any()
  assert ((state.ignored == ignore) | ~short).all()


def test_nothing_to_ignore_and_no_maximum_is_the_identity():
  streams, low, _, ignore = _fuzz(4)
  free = jnp.full_like(low, bf.UNLIMITED)
  written, state = _run(streams, low, free, jnp.zeros_like(ignore))
  np.testing.assert_array_equal(written, streams)
  assert not state.cut.any()
  controller = bf.budget_forcing(ends=_ENDS, wait=_WAIT, num_ignore=0)
  logits = jax.random.normal(jax.random.key(0), (1000, _VOCAB))
  np.testing.assert_array_equal(controller.apply(state, logits), logits)


def test_worked_example():
  # 6 is ignored once at length 1, then 4 5 ends the span.
  written, state = _run(
    jnp.asarray([[0, 6, 1, 1, 0, 4, 5, 0, 6]]), 3, bf.UNLIMITED, 1
  )
  assert written.tolist() == [[0, 3, 2, 1, 0, 4, 5, 0, 6]]
  assert state.used.tolist() == [5] and state.ignored.tolist() == [1]
  # At three tokens the span is closed, and 4 5 later means nothing.
  written, state = _run(jnp.asarray([[0, 0, 4, 5, 5, 4, 5, 1]]), 0, 3, 0)
  assert written.tolist() == [[0, 0, 4, 6, 7, 4, 5, 1]]
  assert state.used.tolist() == [3] and state.cut.tolist() == [True]
  # No budget at all: closed before the first token.
  written, state = _run(jnp.asarray([[0, 0, 0]]), 0, 0, 0)
  assert written.tolist() == [[6, 7, 0]]
  assert state.used.tolist() == [0]


def test_a_wait_that_does_not_fit_is_cut_short():
  written, state = _run(jnp.asarray([[0, 6, 1, 1, 1]]), 2, 2, bf.UNLIMITED)
  assert written.tolist() == [[0, 3, 6, 7, 1]]
  assert state.used.tolist() == [2]


def test_close_defaults_to_the_first_end():
  written, _ = _run(
    jnp.asarray([[0, 0, 0, 0, 1]]), 0, 1, 0, ends=((4, 5),), close=None
  )
  assert written.tolist() == [[0, 4, 5, 0, 1]]


def test_forced_tokens_are_certain_and_masks_cannot_undo_them():
  mask = controllers.stateless(lambda x: jnp.where(x < 0.5, -jnp.inf, x))
  forcing = bf.budget_forcing(ends=_ENDS, wait=_WAIT, max_tokens=0)
  controller = controllers.chain(mask, forcing)
  logits = jnp.asarray([[9.0] * 6 + [0.0, 9.0]], jnp.bfloat16)
  out = controller.apply(controller.init(1), logits)
  token, logprob = controllers.sample(
    jax.random.split(jax.random.key(0), 1), out
  )
  assert token.tolist() == [6] and logprob.tolist() == [0.0]


def test_controllers_before_it_see_what_is_written():
  controller = controllers.chain(
    controllers.repetition_penalty(2.0, _VOCAB),
    bf.budget_forcing(ends=_ENDS, wait=_WAIT, min_tokens=5),
  )
  state = controller.init(1)
  token, state = controller.commit(state, jnp.asarray([6]), jnp.ones(1, bool))
  assert token.tolist() == [_WAIT[0]]
  assert np.flatnonzero(state[0][0]).tolist() == [_WAIT[0]]


def test_inactive_rows_and_missing_tokens_change_nothing():
  controller = bf.budget_forcing(ends=_ENDS, wait=_WAIT, max_tokens=2)
  before = controller.init(2)
  token, after = controller.commit(
    before, jnp.asarray([6, -1]), jnp.asarray([False, True])
  )
  assert token.tolist() == [6, -1]
  for old, new in zip(
    jax.tree.leaves(before), jax.tree.leaves(after), strict=True
  ):
    np.testing.assert_array_equal(old, new)


def test_new_rows_may_bring_new_budgets_into_a_compiled_step():
  @jax.jit
  def refill(state, rows, budgets):
    fresh = bf.budget_forcing(ends=_ENDS, wait=_WAIT, max_tokens=budgets)
    return controllers.reset(fresh, state, rows)

  controller = bf.budget_forcing(ends=_ENDS, wait=_WAIT, max_tokens=9)
  active = jnp.ones(2, bool)
  _, state = controller.commit(controller.init(2), jnp.asarray([1, 1]), active)
  state = refill(state, jnp.asarray([False, True]), jnp.asarray([3, 4]))
  assert state.max_tokens.tolist() == [9, 4]
  assert state.used.tolist() == [1, 0]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"ends": ()}, "ends is empty"),
    ({"ends": ((),)}, "stop sequence 0 is empty"),
    ({"wait": ()}, "wait is"),
    ({"wait": (3, 5)}, "wait shares token 5 with ends"),
    ({"close": (-2,)}, "close is"),
    ({"min_tokens": -1}, "min_tokens is -1"),
    ({"num_ignore": -1}, "num_ignore is -1"),
    ({"max_tokens": 2**31}, "max_tokens is 2147483648; expected at most"),
    ({"min_tokens": 5, "max_tokens": 4}, "expected min <= max"),
  ],
)
def test_bad_specifications_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    bf.budget_forcing(**({"ends": _ENDS, "wait": _WAIT} | change))
