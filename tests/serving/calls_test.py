# SPDX-License-Identifier: Apache-2.0
import json

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.serving import calls, errors

_TEXT = {"model": "m", "prompt": "hi"}
_CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _parse(more=None, *, chat=False):
  base = _CHAT if chat else _TEXT
  return calls.parse(json.dumps(base | (more or {})).encode(), chat=chat)


def test_defaults():
  call = _parse()
  assert call.prompts == ("hi",) and call.messages is None
  assert (call.n, call.max_tokens, call.seed, call.stop) == (1, None, None, ())
  assert not (call.stream or call.include_usage or call.chat)
  assert call.logprobs is None and call.search is None and call.sampling == {}
  assert _parse(dict.fromkeys(("n", "stop", "seed", "temperature"))) == call


def test_all_fields_of_a_chat():
  call = _parse(
    {
      "messages": [
        {"role": "system", "content": "be brief"},
        {
          "role": "user",
          "content": [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b"},
          ],
        },
      ],
      "n": 3,
      "max_completion_tokens": 7,
      "stop": ["x", "y"],
      "seed": -5,
      "stream": True,
      "stream_options": {"include_usage": True},
      "logprobs": True,
      "top_logprobs": 2,
      "temperature": 0,
      "top_p": 0.5,
      "top_k": 4,
      "min_p": 0.1,
      "user": "someone",
      "presence_penalty": 0,
      "response_format": {"type": "text"},
    },
    chat=True,
  )
  assert call.messages == (
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "ab"},
  )
  assert (call.n, call.max_tokens, call.stop) == (3, 7, ("x", "y"))
  assert (call.seed, call.logprobs) == (-5, 2)
  assert call.stream and call.include_usage and call.chat
  assert call.sampling == {
    "temperature": 0.0,
    "top_p": 0.5,
    "top_k": 4,
    "min_p": 0.1,
  }


def test_fields_of_a_search():
  call = _parse(
    {"decoder": "greedy", "budget": {"flops": 1e9}, "max_thinking_tokens": 9}
  )
  assert call.search == calls.SearchFields(
    decoder="greedy", budget={"flops": 1e9}, max_thinking_tokens=9
  )
  assert _parse({"reasoning_effort": "low"}).search == calls.SearchFields(
    effort="low"
  )
  assert _parse({"reasoning_effort": "none"}).search is None
  assert _parse({"thinking": {"type": "disabled"}}).search is None
  anthropic = {"thinking": {"type": "enabled", "budget_tokens": 9}}
  assert _parse(anthropic).search == calls.SearchFields(max_thinking_tokens=9)
  assert _parse(anthropic).thinking.max_thinking_tokens == 9
  assert _parse({"enable_thinking": True}).search == calls.SearchFields()
  assert _parse({"reasoning": {"exclude": True}}).search is None


@pytest.mark.parametrize(
  ("more", "param", "message"),
  [
    ({"model": None}, "model", "model is missing; expected a string"),
    ({"model": 3}, "model", "model is 3; expected a string"),
    ({"prompt": None}, "prompt", "prompt is missing"),
    ({"prompt": " \n"}, "prompt", "prompt is empty"),
    ({"prompt": []}, "prompt", "expected a string or an array of strings"),
    ({"prompt": [1, 2]}, "prompt", "expected a string or an array of strings"),
    ({"n": 0}, "n", "n is 0; expected an integer, 1 or more"),
    ({"n": True}, "n", "n is True; expected an integer"),
    ({"n": 1.5}, "n", "n is 1.5; expected an integer"),
    ({"max_tokens": 0}, "max_tokens", "expected an integer, 1 or more"),
    ({"temperature": "hot"}, "temperature", "expected a number"),
    ({"temperature": float("nan")}, "temperature", "expected a finite number"),
    ({"top_p": 10**400}, "top_p", "expected a finite number"),
    ({"stop": [""]}, "stop", "none empty"),
    ({"stop": ["x"] * 17}, "stop", "up to 16"),
    ({"stop": 3}, "stop", "stop is 3"),
    ({"seed": "7"}, "seed", "seed is '7'; expected an integer"),
    ({"stream": 1}, "stream", "stream is 1; expected true or false"),
    ({"stream_options": []}, "stream_options", "expected an object"),
    ({"stream_options": {"x": 1}}, "stream_options", "unknown field"),
    ({"logprobs": 21}, "logprobs", "expected an integer, 0..20"),
    ({"echo": True}, "echo", "echo is not supported"),
    ({"presence_penalty": 0.5}, "presence_penalty", "is not supported"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "is not supported"),
    ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
    ({"messages": []}, "messages", "unknown field 'messages'"),
    ({"decoder": ""}, "decoder", "expected a string that is not empty"),
    ({"budget": 5}, "budget", "budget is 5; expected an object of limits"),
    ({"reasoning_effort": "all"}, "reasoning_effort", "none, minimal, low"),
    (
      {"reasoning_effort": "low", "budget": {}},
      "reasoning_effort",
      "both say what to spend",
    ),
    (
      {"reasoning_effort": "none", "decoder": "greedy"},
      "reasoning_effort",
      "asks for no search",
    ),
    (
      {"max_thinking_tokens": 5, "budget": {"generated_tokens": 6}},
      "max_thinking_tokens",
      "limit the same",
    ),
    ({"max_thinking_tokens": -2}, "max_thinking_tokens", "-1 for no limit"),
    ({"thinking": {"type": "on"}}, "thinking.type", "enabled or disabled"),
    ({"thinking_budget": 4, "think": 5}, "think", "differ; give one"),
    ({"thnking": {}}, "thnking", "did you mean 'thinking'"),
  ],
)
def test_mistakes_are_named(more, param, message):
  with pytest.raises(errors.ApiError) as caught:
    _parse(more)
  assert (caught.value.status, caught.value.param) == (400, param)
  assert message in caught.value.message
  assert "\n" not in caught.value.message


@pytest.mark.parametrize(
  ("messages", "where"),
  [
    ("hi", "messages"),
    (["hi"], "messages[0]"),
    ([{"role": "tool", "content": "x"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "content"),
  ],
)
def test_mistakes_in_messages_are_named(messages, where):
  with pytest.raises(errors.ApiError, match="expected") as caught:
    _parse({"messages": messages}, chat=True)
  assert where in caught.value.message


@pytest.mark.parametrize(
  "more",
  [{"top_logprobs": 2}, {"max_tokens": 3, "max_completion_tokens": 4}],
)
def test_fields_of_a_chat_that_disagree(more):
  with pytest.raises(errors.ApiError):
    _parse(more, chat=True)


@pytest.mark.parametrize(
  "body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000 + b"}", b"[]"]
)
def test_what_is_no_object_is_refused(body):
  with pytest.raises(errors.ApiError, match="the body is"):
    calls.parse(body, chat=False)


_JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers(-3, 30)
  | st.floats()
  | st.sampled_from(["low", "greedy", "x", ""]),
  lambda inner: (
    st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner)
  ),
  max_leaves=4,
)
_NAMES = (
  *("model", "prompt", "messages", "n", "max_tokens", "temperature", "stop"),
  *("seed", "stream", "stream_options", "logprobs", "top_logprobs", "budget"),
  *("decoder", "reasoning_effort", "max_thinking_tokens", "tools", "odd"),
)


@hypothesis.given(
  st.dictionaries(st.sampled_from(_NAMES), _JSON), st.booleans()
)
def test_any_object_is_read_or_refused_in_one_line(body, chat):
  try:
    call = calls.parse(json.dumps(body).encode(), chat=chat)
  except errors.ApiError as error:
    assert error.status == 400 and error.message and "\n" not in error.message
  else:
    assert call.n >= 1 and call.chat == chat
