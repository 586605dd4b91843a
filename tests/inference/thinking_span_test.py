# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jaxttc.inference import thinking_span
from jaxttc.tasks import pretrained_tokenizer, tokenizer

_WORDS = tokenizer.WordTokenizer()


def _published(*tags):
  """A tokenizer of bytes-as-words with some added tokens."""
  letters = ["a", "b", "?", "\n", "\\", "{", "}", "*", *"FinalAswrboxed "]
  vocab = {piece: i for i, piece in enumerate(dict.fromkeys(letters))}
  added = [
    {
      "id": len(vocab) + i,
      "content": tag,
      "single_word": False,
      "lstrip": False,
      "rstrip": False,
      "normalized": False,
      "special": False,
    }
    for i, tag in enumerate(tags)
  ]
  content = {
    "version": "1.0",
    "added_tokens": added,
    "pre_tokenizer": {
      "type": "Split",
      "pattern": {"Regex": "[\\s\\S]"},
      "behavior": "Isolated",
      "invert": False,
    },
    "decoder": {"type": "Fuse"},
    "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "?"},
  }
  files = {
    "tokenizer.json": json.dumps(content),
    "generation_config.json": json.dumps({"eos_token_id": 0}),
  }
  return pretrained_tokenizer.PretrainedTokenizer(files)


def test_our_models_open_or_empty_their_span():
  asked = [_WORDS.bos_id, *_WORDS.encode("3+4 mod 10?\n")]
  text = "3+4 mod 10?\n"
  assert thinking_span.prompt(_WORDS, text) == [*asked, _WORDS.think_id]
  assert thinking_span.prompt(_WORDS, text, thinks=False) == [
    *asked,
    _WORDS.think_id,
    _WORDS.end_think_id,
  ]
  # A question cannot open the span by spelling it.
  assert thinking_span.prompt(_WORDS, "<think>")[-1] == _WORDS.think_id
  assert thinking_span.prompt(_WORDS, "<think>").count(_WORDS.think_id) == 1


def test_a_span_that_a_template_opened_is_not_opened_again():
  words = _published("<think>", "</think>")
  decode = lambda ids: words.decode(ids, specials=True)  # noqa: E731
  opened = thinking_span.prompt(words, "a?<think>\n")
  assert decode(opened) == "a?<think>\n"
  assert decode(thinking_span.prompt(words, "a?")) == "a?<think>\n"
  # An earlier turn's span is closed: this one is opened.
  earlier = thinking_span.prompt(words, "<think>b</think>a?")
  assert decode(earlier) == "<think>b</think>a?<think>\n"
  at_once = thinking_span.prompt(words, "a?", thinks=False)
  assert decode(at_once) == "a?<think>\n\n</think>\n\n"
  trial = decode(thinking_span.trial(words))
  assert trial.startswith("\n</think>") and trial.endswith("\\boxed{")


def test_thought_and_answer():
  ids = _WORDS.encode("So 3\n</think>#### 3\n", specials=True)
  assert thinking_span.parts(_WORDS, ids) == ("So 3\n", "#### 3\n")
  assert thinking_span.parts(_WORDS, ids[:2]) == ("So 3", None)


def test_models_without_the_tag():
  with pytest.raises(ValueError, match="no token '</think>'"):
    thinking_span.end_id(_published())
