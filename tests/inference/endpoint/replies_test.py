# SPDX-License-Identifier: Apache-2.0
import json
import math

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.inference.endpoint import replies

_USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def _body(choice=None, **body):
  whole = {"text": "so 4\n\n", "finish_reason": "stop", **(choice or {})}
  return {"choices": [whole], "usage": _USAGE, **body}


def _read(body, chat=False, logprobs=False, stop_field=""):
  return replies.completion(
    body, chat=chat, logprobs=logprobs, stop_field=stop_field
  )


def test_a_completion():
  reply = _read(_body({"stop_reason": "\n\n"}), stop_field="stop_reason")
  assert reply == replies.Reply(
    text="so 4\n\n",
    finish="stop",
    stop="\n\n",
    usage=replies.Usage(7, 3),
    logprob=None,
    tokens=None,
  )


def test_a_chat_reply_with_logprobs_and_cached_tokens():
  usage = {**_USAGE, "prompt_tokens_details": {"cached_tokens": 5}}
  choice = {
    "message": {"content": "so"},
    "logprobs": {"content": [{"logprob": -0.25}, {"logprob": -0.5}]},
  }
  reply = _read(_body(choice, usage=usage), chat=True, logprobs=True)
  assert (reply.text, reply.logprob, reply.tokens) == ("so", -0.75, 2)
  assert reply.usage == replies.Usage(7, 3, cached=5)


@pytest.mark.parametrize(
  "usage",
  [
    None,
    [],
    {},
    {"prompt_tokens": 7},
    {"prompt_tokens": 7, "completion_tokens": -1},
    {"prompt_tokens": True, "completion_tokens": 3},
    {"prompt_tokens": 7.0, "completion_tokens": 3},
    {"prompt_tokens": 7, "completion_tokens": 10**12},
  ],
)
def test_usage_that_is_not_whole_is_none(usage):
  assert _read(_body(usage=usage)).usage is None


def test_more_cached_tokens_than_there_are_count_as_all():
  usage = {**_USAGE, "prompt_tokens_details": {"cached_tokens": 50}}
  assert _read(_body(usage=usage)).usage.cached == 7


@pytest.mark.parametrize(
  ("body", "message"),
  [
    ({}, "no choices, expected 1"),
    ({"error": {"message": "full"}}, r"no choices, expected 1 \(full\)"),
    (_body(choices=[]), "0 choices, expected 1"),
    (_body(choices=[1, 2]), "2 choices, expected 1"),
    (_body(choices=["text"]), "is no object"),
    (_body({"finish_reason": "abort"}), "'abort' is neither"),
    (_body({"finish_reason": None}), "'None' is neither"),
    (_body({"text": None}), "the text is no string"),
    (_body({"text": "half \ud83d"}), "half a character"),
    (_body({"stop_reason": [1]}), "stop_reason is neither a string"),
    (_body({"logprobs": None}), "there are no logprobs"),
    (_body({"logprobs": {}}), "token_logprobs is no list"),
    (_body({"logprobs": {"token_logprobs": [0.5]}}), "of at most 0"),
    (_body({"logprobs": {"token_logprobs": [math.nan]}}), "of at most 0"),
    (_body({"logprobs": {"token_logprobs": [None]}}), "of at most 0"),
  ],
)
def test_malformed_replies_say_what_they_cost(body, message):
  logprobs = message.endswith(("at most 0", "list", "logprobs"))
  with pytest.raises(replies.MalformedReply, match=message) as caught:
    _read(body, logprobs=logprobs, stop_field="stop_reason")
  assert (caught.value.usage is not None) == ("usage" in body)


_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
      st.sampled_from(
        ["choices", "text", "finish_reason", "message", "usage", "content"]
        + ["logprobs", "token_logprobs", "logprob", "error", "data", "id"]
      ),
      inner,
      max_size=4,
    )
  ),
  max_leaves=12,
)


@hypothesis.given(
  st.dictionaries(st.sampled_from(["choices", "usage", "error"]), _JSON),
  st.booleans(),
  st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_whatever_comes_is_read_or_refused_in_one_line(body, chat, logprobs):
  try:
    reply = _read(body, chat=chat, logprobs=logprobs, stop_field="stop_reason")
  except replies.MalformedReply as error:
    assert str(error)
  else:
    json.dumps(reply.text)
    assert reply.finish in ("stop", "length")


def test_the_model_that_was_asked_for():
  entry = {"id": "tiny", "max_model_len": 64}
  assert replies.model_entry({"data": [1, entry]}, "tiny") is entry
  with pytest.raises(replies.MalformedReply, match="no model 'big'; it serves"):
    replies.model_entry({"data": [entry]}, "big")
  with pytest.raises(replies.MalformedReply, match="it serves none"):
    replies.model_entry({"data": []}, "big")
  with pytest.raises(replies.MalformedReply, match="has no 'data'"):
    replies.model_entry({"models": []}, "big")
