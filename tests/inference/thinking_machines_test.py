# SPDX-License-Identifier: Apache-2.0
"""What every machine that closes a thought keeps to, whatever is drawn."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, thinking_policies

_VOCAB, _END, _LINE, _WAIT, _TAIL = 6, 0, 1, 2, 3
_ROWS, _STEPS = 32, 24
_GRACE = 2
# Each with how far a span may go beyond its budget, and what closing writes.
_MACHINES = {
  "hard cap": (thinking_policies.hard_cap(end=_END), 0, (_END,)),
  "hard cap with a tail": (
    thinking_policies.hard_cap(end=_END, close=[_END, _TAIL]),
    0,
    (_END, _TAIL),
  ),
  "budget forcing": (
    thinking_policies.forced(
      end=_END, wait=[_WAIT], least_share=0.5, ignores=2
    ),
    0,
    (_END,),
  ),
  "no wait": (thinking_policies.no_wait(end=_END, words=[_WAIT]), 0, (_END,)),
  "soft close": (
    thinking_policies.soft_close(end=_END, lines=[_LINE]),
    0,
    (_END,),
  ),
  "soft close with grace": (
    thinking_policies.soft_close(end=_END, lines=[_LINE], grace=_GRACE),
    _GRACE,
    (_END,),
  ),
}


@functools.partial(jax.jit, static_argnames="name")
def _run(name, drawn, active, budgets):
  """Feeds drawn tokens i32[T, B] through a machine; also what it would force.

  Returns:
    written i32[T, B], and forced i32[T, B]: the one token that the logits left
    possible, -1 where they left several.
  """
  policy = _MACHINES[name][0]
  parts = [policy.make(budgets)]
  if policy.before is not None:
    parts.insert(0, policy.before(budgets))
  machine = controllers.chain(*parts)

  def step(state, row):
    token, moves = row
    logits = machine.apply(state, jnp.zeros((_ROWS, _VOCAB)))
    possible = jnp.isfinite(logits)
    only = jnp.where(possible.sum(1) == 1, jnp.argmax(possible, 1), -1)
    token, state = machine.commit(state, token, moves)
    return state, (token, only)

  _, found = jax.lax.scan(step, machine.init(_ROWS), (drawn, active))
  return found


@pytest.mark.parametrize("name", _MACHINES)
@hypothesis.settings(max_examples=15)
@hypothesis.given(
  st.integers(0, 2**32 - 1),
  st.sampled_from([0.01, 0.2, 0.7]),
  st.sampled_from([0.5, 1.0]),
)
def test_a_span_keeps_its_budget_and_is_closed_once(
  name, seed, end_share, active_share
):
  _, grace, close = _MACHINES[name]
  rng = np.random.default_rng(seed)
  drawn = rng.integers(1, _VOCAB, (_STEPS, _ROWS))
  drawn[rng.random(drawn.shape) < end_share] = _END
  active = rng.random(drawn.shape) < active_share
  budgets = rng.integers(1, 14, _ROWS)
  arrays = [jnp.asarray(x, jnp.int32) for x in (drawn, budgets)]
  written, only = map(
    np.asarray, _run(name, arrays[0], jnp.asarray(active), arrays[1])
  )
  # A row that does not move is left alone.
  np.testing.assert_array_equal(written[~active], drawn[~active])
  for row, budget in enumerate(budgets):
    moved = active[:, row]
    said, wanted = written[moved, row], drawn[moved, row]
    forced = only[moved, row]
    # What alone was possible is what was written, drawn or not.
    np.testing.assert_array_equal(said[forced >= 0], forced[forced >= 0])
    ends = np.flatnonzero(said == _END)
    if not ends.size:
      assert said.size < budget + grace
      continue
    spent = ends[0] + 1
    assert spent <= budget + grace
    changed = np.flatnonzero(said != wanted)
    closing = [place for place in changed if said[place] == _END]
    assert len(closing) <= 1
    # Behind the close, and what it brings, nothing is touched.
    cut = forced[ends[0]] == _END
    after = ends[0] + (len(close) if cut else 1)
    np.testing.assert_array_equal(said[after:], wanted[after:])
    assert (forced[after:] < 0).all()
    if cut:
      whole = close[: said.size - ends[0]]
      assert tuple(said[ends[0] : after]) == whole
    # Before it, only "wait" is put in, and only in place of an end.
    put_in = changed[changed < ends[0]]
    assert (said[put_in] == _WAIT).all()
    assert (wanted[put_in] == _END).all()
