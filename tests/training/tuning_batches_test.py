# SPDX-License-Identifier: Apache-2.0
"""Batches from files: every example once an epoch, cut where it must be."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import packing, tuning_batches

_TOKENIZER = tokenizer_lib.WordTokenizer()


def _example(i, length):
  return packing.Example([i + 1] * length, [0.0] + [1.0] * (length - 1))


@hypothesis.given(
  st.lists(st.integers(2, 9), min_size=1, max_size=20), st.integers(1, 4)
)
@hypothesis.settings(max_examples=25)
def test_every_example_is_seen_once_an_epoch(lengths, rows):
  examples = [_example(i, n) for i, n in enumerate(lengths)]
  batches = tuning_batches.demonstration_batches(examples, rows, 9, seed=3)
  for epoch in range(2):
    first = epoch * batches.steps_an_epoch
    seen = [
      int(batch.tokens[row][batch.segments[row] == segment][0]) - 1
      for step in range(first, first + batches.steps_an_epoch)
      for batch in [batches(step)]
      for row in range(rows)
      for segment in range(1, batch.segments[row].max() + 1)
    ]
    assert sorted(seen) == list(range(len(lengths)))


def test_batches_are_functions_of_the_step():
  examples = [_example(i, 4) for i in range(9)]
  one, other = (
    tuning_batches.demonstration_batches(examples, 2, 8, seed=1)
    for _ in range(2)
  )
  one(0)
  for a, b in zip(one(4), other(4), strict=True):
    np.testing.assert_array_equal(a, b)
  orders = [one(step).tokens.tolist() for step in range(one.steps_an_epoch)]
  again = [one(3 + step).tokens.tolist() for step in range(3)]
  assert orders != again


def test_long_prompts_lose_their_beginning_long_answers_their_end():
  prompt, answer = "1 + 2 + 3 + 4 =", "10"
  whole = tuning_batches.tokenised(_TOKENIZER, prompt, answer, 32, 16)
  ids = _TOKENIZER.encode_prompt(prompt)
  tail = [*_TOKENIZER.encode(answer), _TOKENIZER.eos_id]
  assert whole.tokens == ids + tail
  assert whole.weights == [0.0] * len(ids) + [1.0] * len(tail)
  cut = tuning_batches.tokenised(_TOKENIZER, prompt, answer, 32, 4)
  assert cut.tokens == [ids[0], *ids[-3:], *tail]
  short = tuning_batches.tokenised(_TOKENIZER, prompt, "10 + 11 + 12", 6, 4)
  assert len(short.tokens) == 6 and short.tokens[-1] != _TOKENIZER.eos_id
  assert sum(short.weights) == 2.0


def _pairs(count):
  return [
    tuning_batches.TokenPair(_example(i, 3 + i % 2), _example(i, 5))
    for i in range(count)
  ]


def test_pairs_are_laid_a_row_an_answer():
  batch = tuning_batches.lay_pairs(_pairs(2), 6)
  assert batch.tokens.shape == (2, 2, 6)
  assert batch.lengths.tolist() == [[3, 5], [4, 5]]
  assert batch.tokens[1, 0].tolist() == [2, 2, 2, 2, 0, 0]
  # The first token is a prompt: what follows it counts, and no last token has
  # anything that follows.
  assert batch.mask[1, 0].tolist() == [1, 1, 1, 0, 0, 0]
  assert np.isnan(batch.reference).all()


def test_pair_batches_keep_references_with_their_pairs():
  reference = np.stack([np.arange(5), -np.arange(5)], axis=1).astype(np.float32)
  batches = tuning_batches.pair_batches(_pairs(5), reference, 2, 5, seed=0)
  seen = []
  for step in range(5):
    batch = batches(step)
    who = batch.tokens[:, 0, 0] - 1
    np.testing.assert_array_equal(batch.reference[:, 0], who)
    np.testing.assert_array_equal(batch.reference[:, 1], -who)
    seen += who.tolist()
  assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))


def test_mismatched_answers_are_those_of_other_prompts():
  def pair(prompt, better, worse):
    sides = (
      packing.Example(
        tokens=[*prompt, *answer],
        weights=[0.0] * len(prompt) + [1.0] * len(answer),
      )
      for answer in (better, worse)
    )
    return tuning_batches.TokenPair(*sides)

  pairs = [
    pair([1, 1], [11, 12], [13]),
    pair([1, 1], [21], [22]),  # the same prompt: its answers would match
    pair([2], [31, 32, 33], [34]),
  ]
  found = tuning_batches.mismatched(pairs, 4)
  assert [p.chosen.tokens for p in found] == [
    [1, 1, 31, 32],
    [1, 1, 31, 32],
    [2, 11, 12],
  ]
  assert [p.rejected.tokens for p in found] == [[1, 1, 34], [1, 1, 34], [2, 13]]
  assert found[0].chosen.weights == [0.0, 0.0, 1.0, 1.0]
  with pytest.raises(ValueError, match="all pairs have one prompt"):
    tuning_batches.mismatched(pairs[:2], 4)


def test_empty_data_is_refused():
  with pytest.raises(ValueError, match="no demonstrations"):
    tuning_batches.demonstration_batches([], 2, 8, 0)
  with pytest.raises(ValueError, match="no pairs"):
    tuning_batches.pair_batches([], None, 2, 8, 0)
  with pytest.raises(ValueError, match="nothing of the completion"):
    tuning_batches.tokenised(_TOKENIZER, "1 + 2 + 3 =", "6", 4, 4)
