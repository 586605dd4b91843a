# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, guidance
from jaxttc.tasks import tokenizer

_END, _LINE, _VOCAB = 4, 2, 6


def _table(weights):
  """Chances that do not look at the model; -5 a token beyond what is left."""

  def chance(hidden, candidates, remaining):
    del hidden
    out = jnp.minimum(remaining[:, None] - weights[None], 0) * 5.0
    if candidates is None:
      return out
    return jnp.take_along_axis(out, candidates, axis=1)

  return chance


_LONG = jnp.array([1.0, 9.0, 3.0, 3.0, 1.0, 9.0])  # what a token entails


def _decode(controller, batch, steps=30, seed=0):
  """Tokens that rows draw from fixed logits until they close."""
  state = controller.init(batch)
  active = jnp.ones(batch, bool)
  logits = jnp.tile(jnp.array([[0.0, 1.0, 0.5, 1.0, -1.0, 1.0]]), (batch, 1))

  def step(carry, number):
    state, active = carry
    bent = controller.apply(state, logits)
    keys = jax.vmap(
      lambda i: jax.random.fold_in(jax.random.key(seed), 100 * number + i)
    )(jnp.arange(batch))
    token, _ = controllers.sample(keys, bent)
    token, state = controller.commit(state, token, active)
    written = jnp.where(active, token, -1)
    return (state, active & (token != _END)), written

  run = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.arange(steps)))
  (state, _), written = run((state, active))
  return np.asarray(written).T, state


def _guided(budget, **options):
  return guidance.guidance(
    _table(_LONG), budget=budget, end=_END, lines=[_LINE], **options
  )


def test_state_counts_and_finds_line_starts():
  controller = _guided(7)
  state = controller.init(2)
  on = jnp.array([True, False])
  for token, starts, remaining in ((3, False, 6), (2, True, 5), (4, False, 4)):
    _, state = controller.commit(state, jnp.full(2, token), on)
    np.testing.assert_array_equal(state.line_start, [starts, True])
    np.testing.assert_array_equal(state.remaining, [remaining, 7])
  np.testing.assert_array_equal(state.thinking, [False, True])
  np.testing.assert_array_equal(state.guided, [2, 0])
  _, state = controller.commit(state, jnp.full(2, 1), on)
  np.testing.assert_array_equal(state.used, [3, 0])  # the span is over


def test_an_overrun_span_may_still_close():
  controller = _guided(1)
  state = controller.init(1)
  for _ in range(3):
    _, state = controller.commit(state, jnp.array([1]), jnp.array([True]))
  assert int(state.remaining[0]) == 1


def test_only_line_starts_are_guided_unless_told():
  logits = jnp.zeros((1, _VOCAB))
  for every in (False, True):
    controller = _guided(2, every_token=every)
    state = controller.init(1)
    assert not np.array_equal(controller.apply(state, logits), logits)
    _, state = controller.commit(state, jnp.array([3]), jnp.array([True]))
    same = np.array_equal(controller.apply(state, logits), logits)
    assert same != every


@pytest.mark.parametrize("budget", [1, 2, 5, 12])
def test_a_capped_span_never_overspends(budget):
  controller = controllers.chain(
    _guided(budget), guidance.cap(budget, end=_END)
  )
  written, _ = _decode(controller, 64)
  spent = (written >= 0).sum(1)
  assert (spent <= budget).all()
  assert (written == _END).any(axis=1).all()


def test_rows_have_budgets_of_their_own():
  budgets = jnp.array([2, 5, 9, 20])
  make = lambda b: controllers.chain(  # noqa: E731
    _guided(b, every_token=True), guidance.cap(b, end=_END)
  )
  together, _ = _decode(make(budgets), 4)
  for row, budget in enumerate(budgets.tolist()):
    alone, _ = _decode(make(budget), 4)
    np.testing.assert_array_equal(together[row], alone[row])


def test_jitted_and_plain_steps_agree_and_candidates_restrict():
  controller = _guided(jnp.array([2, 30, 8]), top_k=3)
  logits = jax.random.normal(jax.random.key(0), (3, _VOCAB))
  state = controller.init(3)
  plain = controller.apply(state, logits)
  np.testing.assert_array_equal(jax.jit(controller.apply)(state, logits), plain)
  np.testing.assert_array_equal(np.isfinite(plain).sum(1), 3)
  whole = _guided(jnp.array([2, 30, 8])).apply(state, logits)
  kept = np.isfinite(plain)
  np.testing.assert_array_equal(np.asarray(plain)[kept], whole[kept])


def test_filtered_tokens_stay_out():
  logits = jnp.array([[-jnp.inf, 1.0, 2.0, -jnp.inf, 0.0, -jnp.inf]])
  state = _guided(3).init(1)
  bent = np.asarray(_guided(3).apply(state, logits))
  np.testing.assert_array_equal(np.isneginf(bent), np.isneginf(logits))


def test_line_tokens_are_found_in_the_text_of_ids():
  words = tokenizer.WordTokenizer()
  found = guidance.line_tokens(words)
  assert words.newline_id in found
  assert tokenizer.BYTE_OFFSET + 10 in found  # the byte, spelled out
  assert len(found) == 2


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"budget": 0}, "budget is 0; expected integers >= 1"),
    ({"budget": 2.5}, "budget is 2.5; expected integers >= 1"),
    ({"budget": np.array([3, 0])}, "expected integers >= 1"),
    ({"lines": []}, "lines is empty"),
    ({"lines": [_END]}, "lines holds the closing token 4"),
    ({"strength": -0.5}, "strength is -0.5"),
    ({"strength": float("nan")}, "strength is nan"),
  ],
)
def test_what_cannot_be_is_refused(options, message):
  given = {"budget": 5, "end": _END, "lines": [_LINE]} | options
  with pytest.raises(ValueError, match=message):
    guidance.guidance(_table(_LONG), **given)


def test_caps_that_cannot_be():
  with pytest.raises(ValueError, match="budget is 0"):
    guidance.cap(0, end=_END)
  with pytest.raises(ValueError, match="expected it to begin with 4"):
    guidance.cap(5, end=_END, close=[1, _END])
