# SPDX-License-Identifier: Apache-2.0
"""The soft close against a plain-Python account of it."""

import math

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import soft_close

_END, _LINE, _WORD = 0, 1, 2


def _reference(drawn, budget, ratio, slope, grace):
  """What is written, the weight at each step, and how the span ends."""
  written, weights, line, thinking, finish = [], [], True, True, None
  for token in drawn:
    number = len(written) + 1
    forced = thinking and (
      number >= budget + grace or (number >= budget and line)
    )
    start = math.ceil(np.float32(ratio) * np.float32(budget))
    weight = slope * max(number - start + 1, 0) if thinking else 0.0
    token = _END if forced else token
    if thinking and token == _END:
      finish = "forced" if forced else "soft" if weight > 0 else "natural"
      thinking = False
    written.append(token)
    weights.append(weight)
    line = token == _LINE
  return written, weights, finish


@hypothesis.given(
  st.lists(st.integers(0, 2), min_size=1, max_size=14),
  st.integers(1, 10),
  st.sampled_from([0.25, 0.5, 1.0]),
  st.sampled_from([0.0, 0.5, 2.0]),
  st.integers(0, 3),
)
@hypothesis.settings(max_examples=40)
def test_rows_are_written_as_by_hand(drawn, budget, ratio, slope, grace):
  made = soft_close.soft_close(
    jnp.array([budget]),
    end=_END,
    lines=[_LINE],
    soft_ratio=ratio,
    slope=slope,
    grace=grace,
  )
  state, written, weights = made.init(1), [], []
  for token in drawn:
    logits = made.apply(state, jnp.zeros((1, 3)))
    only = bool(jnp.isneginf(logits[0, _WORD]))
    token, state = made.commit(state, jnp.array([token]), jnp.array([True]))
    weights.append(None if only else float(logits[0, _END]))
    written.append(int(token[0]))
    assert not only or written[-1] == _END
  expected, gained, finish = _reference(drawn, budget, ratio, slope, grace)
  assert written == expected
  for found, right in zip(weights, gained, strict=True):
    assert found is None or found == pytest.approx(right)
  assert bool(state.cut[0]) == (finish == "forced")
  assert bool(state.eased[0]) == (finish == "soft")
  if _END in written:
    assert written.index(_END) + 1 <= budget + grace
  else:
    assert len(written) < budget + grace


def test_rows_that_rest_stay_as_they_are():
  made = soft_close.soft_close(np.array([1, 1]), end=_END, lines=[_LINE])
  state = made.init(2)
  token, state = made.commit(
    state, jnp.array([_WORD, _WORD]), jnp.array([True, False])
  )
  np.testing.assert_array_equal(token, [_END, _WORD])
  np.testing.assert_array_equal(state.thinking, [False, True])
  np.testing.assert_array_equal(state.used, [1, 0])


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"budget": 0}, "expected integers >= 1"),
    ({"soft_ratio": 0.0}, "soft_ratio is 0.0"),
    ({"soft_ratio": 1.5}, "soft_ratio is 1.5"),
    ({"slope": -1.0}, "slope is -1.0"),
    ({"grace": -1}, "grace is -1"),
  ],
)
def test_arguments_that_cannot_be(fields, message):
  fields = {"budget": 5, "end": _END, "lines": [_LINE]} | fields
  with pytest.raises(ValueError, match=message):
    soft_close.soft_close(fields.pop("budget"), **fields)
