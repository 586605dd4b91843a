# SPDX-License-Identifier: Apache-2.0
"""Aggregations by hand; packed as unpacked; parts as the whole."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import sequences as sequences_lib

# Two sequences that count, of 3 and 1 tokens, and one that is empty.
_VALUES = jnp.array([[1.0, 2.0, 6.0], [5.0, 9.0, 9.0], [7.0, 7.0, 7.0]])
_MASK = jnp.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
_BY_HAND = {
  "token_mean": (14.0, 4.0),
  "seq_mean_token_mean": (3.0 + 5.0, 2.0),
  "seq_mean_token_sum": (14.0, 2.0),
  "fixed_length": (14.0, 20.0),
}


def _aggregate(values, sequences, mode):
  length = 10 if mode == "fixed_length" else None
  return sequences_lib.aggregate(values, sequences, mode, length=length)


def _packed(values, mask):
  """The same rows laid end to end in one, with a place of padding behind."""
  rows, steps = values.shape
  segments = np.repeat(np.arange(rows), steps) + 1
  flat = lambda x, end: jnp.append(x.reshape(-1), end)[None]  # noqa: E731
  return flat(values, np.nan), sequences_lib.Sequences(
    flat(mask, 0.0), flat(jnp.array(segments), 0), most=rows
  )


@pytest.mark.parametrize("mode", sequences_lib.MODES)
def test_modes_by_hand(mode):
  found = _aggregate(_VALUES, sequences_lib.Sequences(_MASK), mode)
  np.testing.assert_allclose(found, _BY_HAND[mode])
  assert float(found.value) == pytest.approx(np.divide(*_BY_HAND[mode]))


@pytest.mark.parametrize("mode", sequences_lib.MODES)
def test_packed_equals_unpacked(mode):
  values, sequences = _packed(_VALUES, _MASK)
  sequences.check()
  found = _aggregate(values, sequences, mode)
  np.testing.assert_allclose(found, _BY_HAND[mode])


@pytest.mark.parametrize("mode", sequences_lib.MODES)
@hypothesis.given(seed=st.integers(0, 1000))
@hypothesis.settings(max_examples=10)
def test_parts_add_up_and_neither_order_nor_padding_counts(mode, seed):
  rng = np.random.default_rng(seed)
  values = rng.normal(size=(8, 5)).astype(np.float32)
  mask = (rng.random((8, 5)) < 0.6).astype(np.float32)

  def of(values, mask):
    return np.array(
      _aggregate(
        jnp.asarray(values), sequences_lib.Sequences(jnp.asarray(mask)), mode
      )
    )

  whole = of(values, mask)
  parts = sum(of(values[i : i + 2], mask[i : i + 2]) for i in range(0, 8, 2))
  np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
  order = rng.permutation(8)
  wide = ((0, 0), (0, 3))
  np.testing.assert_allclose(
    of(
      np.pad(values[order], wide, constant_values=np.nan),
      np.pad(mask[order], wide),
    ),
    whole,
    rtol=1e-5,
    atol=1e-5,
  )


def test_nothing_that_counts_is_zero():
  nothing = sequences_lib.Sequences(jnp.zeros((2, 3)))
  for mode in sequences_lib.MODES:
    assert float(_aggregate(_VALUES[:2], nothing, mode).value) == 0.0


def test_bad_modes_and_masks_are_refused():
  sequences = sequences_lib.Sequences(_MASK)
  with pytest.raises(ValueError, match="'mean' is not one of token_mean"):
    sequences_lib.aggregate(_VALUES, sequences, "mean")
  with pytest.raises(ValueError, match="needs a length"):
    sequences_lib.aggregate(_VALUES, sequences, "fixed_length")
  with pytest.raises(ValueError, match="length=7 would be ignored"):
    sequences_lib.aggregate(_VALUES, sequences, "token_mean", length=7)
  with pytest.raises(ValueError, match="no token"):
    sequences_lib.Sequences(jnp.zeros((2, 3))).check()
  with pytest.raises(ValueError, match="3 sequences, more than most=1"):
    _, packed = _packed(_VALUES, _MASK)
    packed.replace(most=1).check()


def test_shapes_that_do_not_fit_are_refused():
  sequences = sequences_lib.Sequences(jnp.ones((3, 3)))
  with pytest.raises(ValueError, match=r"values have shape \(3, 2\)"):
    sequences.sums(jnp.ones((3, 2)))
  for wrong in (jnp.ones((3, 3)), jnp.ones((2, 1))):
    with pytest.raises(ValueError, match=r"expected \(3, 1\)"):
      sequences.spread(wrong)
  _, packed = _packed(_VALUES, _MASK)
  with pytest.raises(ValueError, match="figures of sequences have shape"):
    packed.spread(jnp.ones((packed.mask.shape[0], packed.most)))


def test_lost_sequences_are_refused_where_they_can_be_seen():
  values, packed = _packed(_VALUES, _MASK)
  with pytest.raises(ValueError, match="3 sequences, more than most=1"):
    sequences_lib.aggregate(values, packed.replace(most=1))
  jax.jit(sequences_lib.aggregate)(values, packed)
