# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.predictors.routing import hashed_ngrams

_TEXTS = [
  "Write a function to reverse a list.",
  "Write a function to sort a list.",
  "Who wrote the opera Carmen?",
  "who sang the opera song in 1999",
  "Tom has 3 apples and 12 pears. How many fruits has Tom?",
  "Ann has 5 apples and 44 pears. How many fruits has Ann?",
]


def test_vectors_are_a_function_of_the_text_alone():
  embed = hashed_ngrams.fit(_TEXTS, rank=4, bits=10)
  whole = embed(_TEXTS)
  assert whole.dtype == np.float32
  # A text's batch mates do not matter.
  np.testing.assert_allclose(embed(_TEXTS[2:3])[0], whole[2], atol=1e-6)
  again = hashed_ngrams.fit(_TEXTS, rank=4, bits=10)
  np.testing.assert_array_equal(again(_TEXTS), whole)


def test_similar_texts_are_near():
  vectors = hashed_ngrams.fit(_TEXTS, rank=4, bits=12)(_TEXTS)
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  near = unit @ unit.T - 2 * np.eye(len(_TEXTS))
  assert near[0].argmax() == 1 and near[4].argmax() == 5


def test_the_projection_keeps_what_an_exact_decomposition_keeps():
  full = hashed_ngrams.fit(_TEXTS, rank=None, bits=9)(_TEXTS)
  content = full[:, : 2 * 2**9].astype(np.float64)
  lengths = np.linalg.norm(content, axis=1)
  np.testing.assert_allclose(lengths, np.sqrt(lengths[0] ** 2), atol=0.3)
  part = hashed_ngrams.fit(_TEXTS, rank=3, bits=9)(_TEXTS)[:, :3]
  left, values, _ = np.linalg.svd(content, full_matrices=False)
  gram = (left[:, :3] * values[:3] ** 2) @ left[:, :3].T
  np.testing.assert_allclose(part @ part.T, gram, atol=1e-4)


def test_buckets_count_runs_exactly_once():
  # One word of one letter: one run of words, none of two characters.
  embed = hashed_ngrams.fit(["a"], rank=None, bits=8)
  content = embed(["a"])[0, : 2 * 2**8]
  assert (content != 0).sum() == 1
  # Runs never cross from one text to the next.
  two = hashed_ngrams.fit(["ab", "cd"], rank=None, bits=16)
  vectors = two(["ab", "cd"])[:, : 2 * 2**16]
  assert ((vectors != 0).sum(1) == 2).all()


def test_counts_can_be_shared():
  counted = hashed_ngrams.count(_TEXTS, bits=9)
  shared = hashed_ngrams.fit(counted.take(np.arange(4)), rank=3)
  plain = hashed_ngrams.fit(_TEXTS[:4], rank=3, bits=9)
  np.testing.assert_allclose(shared.vectors(counted), plain(_TEXTS), atol=1e-6)


def test_digits_are_read_as_one():
  texts = ["add 17 to 25", "add 38 to 99"]
  embed = hashed_ngrams.fit(texts, rank=None, bits=10, characters=1)
  first, second = embed(texts)
  np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("settings", [{"words": 0}, {"bits": 0}, {"rank": 0}])
def test_bad_settings_are_refused(settings):
  with pytest.raises(ValueError, match="hashed n-grams: expected"):
    hashed_ngrams.fit(_TEXTS, **settings)


def test_no_texts_are_refused():
  with pytest.raises(ValueError, match="at least one text"):
    hashed_ngrams.fit([])
  with pytest.raises(ValueError, match="at least one text"):
    hashed_ngrams.fit(_TEXTS, bits=8)([])
