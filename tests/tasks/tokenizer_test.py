# SPDX-License-Identifier: Apache-2.0
"""Tests of the tokenizer: lossless, fixed layout, no bytes in task text."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxttc.tasks import arithmetic, stories
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib

_TOKENIZER = tokenizer_lib.WordTokenizer()

# Text near the tokenizer's own pieces finds more than random unicode does.
_NEAR = st.lists(
  st.sampled_from(
    [*tokenizer_lib.WORDS, *tokenizer_lib.SPECIALS, " ", "#", "0", "7", "\t"]
  )
  | st.integers(0, 10**5).map(str)
).map("".join)


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(text=st.text() | _NEAR)
def test_round_trip(text):
  ids = _TOKENIZER.encode(text)
  assert _TOKENIZER.decode(ids) == text
  assert all(5 <= i < _TOKENIZER.vocab_size for i in ids)


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(text=_NEAR)
def test_round_trip_with_specials(text):
  ids = _TOKENIZER.encode(text, specials=True)
  assert _TOKENIZER.decode(ids, specials=True) == text


@hypothesis.settings(deadline=None, max_examples=100)
@hypothesis.given(ids=st.lists(st.integers(0, tokenizer_lib.VOCAB_SIZE - 1)))
def test_any_ids_decode(ids):
  text = _TOKENIZER.decode(ids)
  assert _TOKENIZER.decode(_TOKENIZER.encode(text)) == text


def test_layout():
  tokenizer = _TOKENIZER
  assert tokenizer.vocab_size == 704
  assert (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
  assert (tokenizer.think_id, tokenizer.end_think_id) == (3, 4)
  assert tokenizer.encode("é") == [16 + 0xC3, 16 + 0xA9]
  assert tokenizer.encode("0") == [272] and tokenizer.encode("99") == [371]
  assert tokenizer.encode(" 0") == [372] and tokenizer.encode(" 99") == [471]
  assert tokenizer.answer_marker_id == 472
  assert tokenizer.newline_id == 473


def test_the_vocabulary_never_changes():
  """Trained models ship with it; a change needs new models."""
  assert _TOKENIZER.fingerprint == "c7f027eb586cf094"


def test_larger_numbers_are_spelled_digit_by_digit():
  encode = _TOKENIZER.encode
  assert encode("120") == [273, 274, 272]
  assert encode(" 120") == [373, 274, 272]
  assert encode("07") == [272, 279]
  assert encode("4+7=11") == [276, *encode("+"), 279, *encode("="), 283]


def test_specials_are_made_on_request_only():
  text = "<think>4+7=11</think>\n<eos>"
  plain = _TOKENIZER.encode(text)
  assert min(plain) >= tokenizer_lib.BYTE_OFFSET
  ids = _TOKENIZER.encode(text, specials=True)
  assert (ids[0], ids[6], ids[-1]) == (3, 4, 2)
  assert _TOKENIZER.decode(ids) == "4+7=11\n"


def test_task_text_has_no_byte_tokens():
  first = tokenizer_lib.NUMBER_OFFSET
  for i in range(1500):
    prompt, completion = arithmetic.training_example(i)
    assert min(_TOKENIZER.encode(prompt + completion)) >= first, prompt
  for style in problems_lib.STYLES:
    problem = arithmetic.problem(0, split="test")
    assert min(_TOKENIZER.encode(problems_lib.prompt(problem, style))) >= first


def test_every_story_word_is_one_token():
  for template in stories.TEMPLATES:
    for kind in ("add", "sub", "double", "triple", "half"):
      for row in getattr(template, kind):
        for text in row:
          filled = text.format(
            who="Ann", other="Ben", before="Cy", things="hats", n=7, v=7
          )
          # A sentence follows the opening, so it comes after a space.
          ids = _TOKENIZER.encode(f" {filled}")
          assert min(ids) >= tokenizer_lib.NUMBER_OFFSET, filled
  for word in (*stories.NAMES, *stories.THINGS):
    assert len(_TOKENIZER.encode(f" {word}")) == 1


def test_ids_and_pieces():
  assert _TOKENIZER.id_of(" 42") == tokenizer_lib.SPACED_NUMBER_OFFSET + 42
  assert _TOKENIZER.id_of("</think>") == 4
  with pytest.raises(ValueError, match="'zebra' is not in the vocabulary"):
    _TOKENIZER.id_of("zebra")


def test_decode_accepts_arrays_and_replaces_broken_bytes():
  assert _TOKENIZER.decode(np.array([1, 276, 473, 2, 0])) == "4\n"
  assert _TOKENIZER.decode([16 + 0xC3]) == "\ufffd"


@pytest.mark.parametrize("bad", [-1, 704])
def test_decode_rejects_ids_out_of_range(bad):
  with pytest.raises(ValueError, match=f"id {bad}, expected 0..703"):
    _TOKENIZER.decode([bad])


def test_encode_rejects_a_lone_surrogate():
  with pytest.raises(ValueError, match="surrogates not allowed"):
    _TOKENIZER.encode("\ud800")


def test_json_round_trip():
  other = tokenizer_lib.WordTokenizer.from_json(_TOKENIZER.to_json())
  assert other.words == _TOKENIZER.words
  assert other.fingerprint == _TOKENIZER.fingerprint
  fewer = tokenizer_lib.WordTokenizer(tokenizer_lib.WORDS[:-1])
  assert fewer.fingerprint != _TOKENIZER.fingerprint


@pytest.mark.parametrize(
  "text", ["", "[]", '{"kind": "BPE"}', '{"kind": "WordTokenizer"}']
)
def test_bad_json(text):
  with pytest.raises(ValueError):
    tokenizer_lib.WordTokenizer.from_json(text)


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (("\n", "####", "a", "a"), "'a' occurs twice"),
    (("\n", "####", "7"), "'7' occurs twice"),
    (("\n", "####", "two words"), "'two words' is not one piece"),
    ([f"{chr(192 + i)}" for i in range(233)], "233 words, expected at most"),
    (("####",), "is not in the vocabulary"),
  ],
)
def test_bad_words(words, message):
  with pytest.raises(ValueError, match=message):
    tokenizer_lib.WordTokenizer(words)
