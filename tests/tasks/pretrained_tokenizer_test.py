# SPDX-License-Identifier: Apache-2.0
"""Tokenizers and chat templates of published models."""

import json
import pathlib

import hypothesis
from hypothesis import strategies as st
import pytest

from benchmarks import parity_text
from jaxttc.tasks import chat_template, pretrained_tokenizer

pytest.importorskip("tokenizers")
pytest.importorskip("jinja2")

_DATA = pathlib.Path(__file__).parents[1] / "data" / "hf"
_FILES = {
  path.name: path.read_text(encoding="utf-8")
  for path in (_DATA / "tokenizer").iterdir()
}
_TOKENIZER = pretrained_tokenizer.PretrainedTokenizer(_FILES)


def _with(**files):
  names = {name.replace("_json", ".json"): text for name, text in files.items()}
  return pretrained_tokenizer.PretrainedTokenizer(_FILES | names)


def test_ids_and_chats_are_those_of_transformers():
  expected = json.loads((_DATA / "text.json").read_text(encoding="utf-8"))
  ours = parity_text.ours(_DATA)
  assert set(ours["chats"]) == set(expected["chats"]) and ours["chats"]
  assert ours == expected


@hypothesis.given(st.text(max_size=40), st.text(max_size=40))
@hypothesis.settings(max_examples=100)
def test_text_survives_and_spans_join(left, right):
  encode, decode = _TOKENIZER.encode, _TOKENIZER.decode
  assert decode(encode(left)) == left
  assert decode(encode(left)) + decode(encode(right)) == left + right
  assert all(0 <= i < _TOKENIZER.vocab_size for i in encode(left))


def test_special_tokens_are_text_unless_asked_for():
  text = "a<|end|>b"
  assert _TOKENIZER.eos_id not in _TOKENIZER.encode(text)
  assert _TOKENIZER.decode(_TOKENIZER.encode(text)) == text
  ids = _TOKENIZER.encode(text, specials=True)
  assert ids.count(_TOKENIZER.eos_id) == 1
  assert _TOKENIZER.decode(ids) == "ab"
  assert _TOKENIZER.decode(ids, specials=True) == text


def test_a_prompt_begins_once():
  ids = _TOKENIZER.encode_prompt("hello")
  assert ids[0] == _TOKENIZER.bos_id and ids.count(_TOKENIZER.bos_id) == 1
  assert _TOKENIZER.encode_prompt("<|begin|>hello") == ids
  raw = json.loads(_FILES["tokenizer.json"]) | {"post_processor": None}
  bare = _with(tokenizer_json=json.dumps(raw))
  assert bare.encode_prompt("hello") == bare.encode("hello") == ids[1:]


def test_token_texts_are_what_each_token_adds():
  texts = _TOKENIZER.token_texts
  assert len(texts) == _TOKENIZER.vocab_size == 384
  assert texts[_TOKENIZER.eos_id] == ""
  ids = _TOKENIZER.encode("so x = 3.\n\nThus")
  assert "".join(texts[i] for i in ids) == "so x = 3.\n\nThus"


def test_ends_come_from_the_generation_config_first():
  assert _TOKENIZER.eos_ids == (1,)
  several = _with(generation_config_json='{"eos_token_id": [7, 1]}')
  assert several.eos_ids == (7, 1) and several.eos_id == 7
  assert _with(generation_config_json='{"eos_token_id": 5}').eos_ids == (5,)
  files = _FILES | {"tokenizer_config.json": "{}"}
  given = pretrained_tokenizer.PretrainedTokenizer(files, [9])
  assert given.eos_ids == (9,) and given.bos_id == -1
  with pytest.raises(ValueError, match="no token ends a text"):
    pretrained_tokenizer.PretrainedTokenizer(files)


def test_fingerprints_tell_vocabularies_apart():
  raw = json.loads(_FILES["tokenizer.json"])
  raw["added_tokens"][4]["content"] = "<|other|>"
  other = _with(tokenizer_json=json.dumps(raw))
  assert _TOKENIZER.fingerprint == _with().fingerprint != other.fingerprint


@pytest.mark.parametrize(
  ("files", "message"),
  [
    ({"tokenizer_json": "{}"}, "tokenizer.json cannot be read"),
    ({"tokenizer_config_json": "{"}, "tokenizer_config.json: not JSON"),
    ({"generation_config_json": "3"}, "generation_config.json: expected a"),
    ({"generation_config_json": '{"eos_token_id": ["x"]}'}, "no token ends"),
  ],
)
def test_damaged_files_are_named(files, message):
  with pytest.raises(ValueError, match=message) as caught:
    _with(**files)
  assert "\n" not in str(caught.value)


_CHAT = [{"role": "user", "content": "Hi"}]


def test_templates_are_found_where_they_are_kept():
  with pytest.raises(ValueError, match="has no chat template"):
    _TOKENIZER.chat(_CHAT)
  say = "{{ messages[0].content }}"
  settings = json.loads(_FILES["tokenizer_config.json"])
  for template in (say, [{"name": "default", "template": say}]):
    text = json.dumps(settings | {"chat_template": template})
    assert _with(tokenizer_config_json=text).chat(_CHAT) == "Hi"
  files = _FILES | {
    "tokenizer_config.json": json.dumps(settings | {"chat_template": "no"}),
    "chat_template.jinja": say,
  }
  assert pretrained_tokenizer.PretrainedTokenizer(files).chat(_CHAT) == "Hi"


@pytest.mark.parametrize(
  ("template", "expected"),
  [
    ("{{ bos }}{{ messages | tojson }}", '[{"role": "user", "content": "Hi"}]'),
    ("{{ strftime_now('%%') }}", "%"),
    ("{% generation %}x{% endgeneration %}", "x"),
    ("{% for m in messages %}{% break %}{% endfor %}y", "y"),
    ("{{ enable_thinking }}", "False"),
    ("{{ add_generation_prompt }}{{ tools is none }}", "TrueTrue"),
  ],
)
def test_templates_find_the_names_that_they_count_on(template, expected):
  got = chat_template.render(
    template,
    _CHAT,
    special_tokens={},
    variables={"enable_thinking": False},
  )
  assert got == expected


@pytest.mark.parametrize(
  ("template", "messages", "message"),
  [
    ("{% if %}", _CHAT, "not valid Jinja"),
    ("{{ raise_exception('no\nsystem') }}", _CHAT, "refuses .*: no system"),
    ("{{ messages[0].content + 3 }}", _CHAT, "refuses the messages"),
    ("{{ messages.__class__.__mro__ }}", _CHAT, "unsafe"),
    ("{{ messages.append(1) }}", _CHAT, "unsafe"),
    ("x", [], "there are no messages"),
    ("x", ["Hi"], "message 0 is 'Hi'; expected a dict"),
    ("x", [{"content": "Hi"}], "expected a dict with 'role'"),
  ],
)
def test_bad_templates_and_messages_are_refused(template, messages, message):
  with pytest.raises(ValueError, match=message) as caught:
    chat_template.render(template, messages, special_tokens={})
  assert "\n" not in str(caught.value)
