# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.serving import span_text
from jaxttc.tasks import tokenizer

_TOKENIZER = tokenizer.WordTokenizer()
# Ends of lines, digits, words that hold others, and characters of many bytes.
_TEXTS = st.text("ab12\n#. é猫", max_size=24)


def _whole(tokens, stops):
  """Text and tokens of a span, token by token, without any holding back."""
  for count in range(len(tokens) + 1):
    text = _TOKENIZER.decode(tokens[:count])
    found = [text.find(stop) for stop in stops if stop in text]
    if found:
      return text[: min(found)], count, True
  return _TOKENIZER.decode(tokens), len(tokens), False


@hypothesis.given(
  _TEXTS,
  st.lists(st.text("ab12\n#é", min_size=1, max_size=3), max_size=3),
  st.lists(st.integers(1, 5), min_size=1, max_size=30),
)
def test_any_rhythm_gives_the_same_text_and_never_takes_any_back(
  text, stops, sizes
):
  tokens = _TOKENIZER.encode(text)
  expected, count, stopped = _whole(tokens, stops)
  span = span_text.SpanText(_TOKENIZER.decode, stops)
  shown, end = "", 0
  while end < len(tokens) and not span.stopped:
    end = min(end + sizes[end % len(sizes)], len(tokens))
    shown += span.advance(tokens[:end], ended=end == len(tokens))
    assert expected.startswith(shown)
  assert (shown, span.stopped) == (expected, stopped)
  assert span.count == count


def test_half_a_character_and_half_a_stop_string_are_held():
  tokens = _TOKENIZER.encode("猫") + _TOKENIZER.encode(".\n#")
  span = span_text.SpanText(_TOKENIZER.decode, ["\n####"])
  assert span.advance(tokens[:2], ended=False) == ""
  assert span.advance(tokens[:3], ended=False) == "猫"
  assert span.advance(tokens, ended=False) == "."
  assert span.advance(tokens, ended=True) == "\n#"


def test_after_a_stop_nothing_more_is_shown():
  tokens = _TOKENIZER.encode("1\n2\n3")
  span = span_text.SpanText(_TOKENIZER.decode, ["\n"])
  assert span.advance(tokens, ended=False) == "1"
  assert (span.stopped, span.count) == (True, 2)
  assert span.advance(tokens, ended=True) == ""


@pytest.mark.parametrize("ended", [False, True])
def test_no_tokens_no_text(ended):
  span = span_text.SpanText(_TOKENIZER.decode)
  assert span.advance([], ended) == ""
  assert span.count == 0
