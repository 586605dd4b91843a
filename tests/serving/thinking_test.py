# SPDX-License-Identifier: Apache-2.0
"""A model that thinks, behind a real server, and budgets in every dialect."""

import json

import httpx
import openai
import pytest

from jaxttc import serving
from jaxttc.inference import bundle as bundle_lib
from jaxttc.serving import errors
from jaxttc.serving import server as server_lib
from jaxttc.serving import service as service_lib
from jaxttc.solving import solve_recipe

_QUESTION = "3+4+7 mod 10?"


def _recipe(**changes):
  fields = {
    "policy": "thinking_lm",
    "verifier": "",
    "decoder": "self_consistency(n=2)",
    "thinking": "hard_cap(budget=20)",
    "sampling": solve_recipe.SamplingOptions(min_p=0.01, max_tokens=48),
    "slots": 2,
    "thoughts": 2,
    "warm_tokens": 0,
  }
  return serving.ServeRecipe(**(fields | changes))


@pytest.fixture(scope="module")
def model():
  return bundle_lib.load("thinking_lm")


@pytest.fixture(scope="module")
def service(model):
  return service_lib.Service(_recipe(), model, None)


@pytest.fixture(scope="module")
def url(model):
  service = service_lib.Service(_recipe(), model, None)
  with server_lib.running(service) as url:
    yield url


@pytest.fixture(scope="module")
def client(url):
  return openai.OpenAI(
    base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120
  )


def _chat(client, **fields):
  return client.chat.completions.create(
    model="thinking_lm",
    messages=[{"role": "user", "content": _QUESTION}],
    **({"seed": 1} | fields),
  )


def _read(service, chat=True, **fields):
  what = {"messages": [{"role": "user", "content": _QUESTION}]}
  if not chat:
    what = {"prompt": f"{_QUESTION}\n"}
  body = {"model": "thinking_lm"} | what | fields
  return service.read(json.dumps(body).encode(), chat=chat)


def test_a_budget_is_kept_and_told(client, model):
  seen = set()
  for budget in (4, 10, 30):
    reply = _chat(client, extra_body={"thinking_budget": budget})
    [about] = reply.thinking
    message = reply.choices[0].message
    assert about["budget"] == budget and about["tokens"] <= budget
    details = reply.usage.completion_tokens_details
    assert details.reasoning_tokens == about["tokens"]
    words = model.tokenizer
    thought = words.encode(message.reasoning_content)
    assert len(thought) == about["tokens"] - 1
    answer = reply.usage.completion_tokens - about["tokens"]
    if about["finish"] == "natural":  # a cut one may be followed by anything
      assert answer == len(words.encode(message.content))
      assert message.content.startswith("####")
    else:
      assert (about["finish"], about["tokens"]) == ("forced", budget)
    seen.add(message.reasoning_content)
  assert len(seen) > 1


def test_dialects_that_say_the_same_get_the_same(client):
  replies = [
    _chat(client, extra_body=body).choices[0].message
    for body in (
      {"thinking": {"type": "enabled", "budget_tokens": 10}},
      {"reasoning": {"max_tokens": 10}},
      {"max_thinking_tokens": 10},
    )
  ]
  texts = {(m.reasoning_content, m.content) for m in replies}
  assert len(texts) == 1
  hidden = _chat(
    client, extra_body={"reasoning": {"max_tokens": 10, "exclude": True}}
  )
  assert not hasattr(hidden.choices[0].message, "reasoning_content")
  assert hidden.choices[0].message.content == replies[0].content
  assert hidden.usage.completion_tokens_details.reasoning_tokens > 0


def test_a_stream_brings_the_thought_first(client):
  whole = _chat(client, n=2).choices
  stream = _chat(
    client, n=2, stream=True, stream_options={"include_usage": True}
  )
  thoughts, texts, last = ["", ""], ["", ""], None
  for chunk in stream:
    for choice in chunk.choices:
      thought = getattr(choice.delta, "reasoning_content", None)
      if thought:
        assert not texts[choice.index]
        thoughts[choice.index] += thought
      texts[choice.index] += choice.delta.content or ""
    last = chunk
  assert texts == [choice.message.content for choice in whole]
  assert thoughts == [choice.message.reasoning_content for choice in whole]
  assert last.usage.completion_tokens_details.reasoning_tokens == sum(
    about["tokens"] for about in last.thinking
  )


def test_at_once_and_plain_prompts(client):
  reply = _chat(client, reasoning_effort="none")
  assert reply.choices[0].message.content.startswith("####")
  assert reply.usage.completion_tokens_details.reasoning_tokens == 0
  assert not hasattr(reply, "thinking")
  plain = client.completions.create(
    model="thinking_lm",
    prompt=f"{_QUESTION}\n",
    seed=1,
    extra_body={"think": 12},
  )
  [about] = plain.thinking
  assert about["budget"] == 12
  assert plain.choices[0].reasoning_content
  chat = _chat(client, extra_body={"think": 12})
  assert chat.choices[0].message.content == plain.choices[0].text


def test_searches_are_still_there(client):
  found = _chat(client, extra_body={"budget": {"generated_tokens": 30}})
  assert found.search["decoder"] == "self_consistency(n=2)"


def test_metrics_know_thoughts(url):
  page = httpx.get(f"{url}/metrics").text
  assert "jaxttc_running_thoughts" in page


def test_orders_are_what_the_request_says(service):
  [order] = _read(service, max_tokens=30, thinking_budget=9).thoughts
  assert (order.budget, order.limit) == (9, 30)
  assert _read(service).thoughts[0].budget == 20
  assert _read(service, max_tokens=10).thoughts[0].budget == 9
  assert _read(service, thinking_budget=-1).thoughts[0].budget == 47
  low = _read(service, reasoning_effort="low").thoughts[0]
  assert low.budget == int(0.2 * 48)
  assert len(_read(service, n=3).thoughts) == 3
  assert not _read(service, chat=False).thoughts
  end = service.policy.tokenizer.end_think_id
  assert (
    _read(service, enable_thinking=False).orders[0].prompt.tokens[-1] == end
  )


@pytest.mark.parametrize(
  ("fields", "param", "message"),
  [
    ({"thinking_budget": 48}, "thinking_budget", "less than the 48 tokens"),
    ({"thinking_budget": 9, "max_tokens": 9}, "thinking_budget", "less than"),
    ({"thinking": {"type": "x"}}, "thinking.type", "enabled or disabled"),
    ({"max_tokens": 49}, "max_tokens", "expected 2..48"),
    ({"max_tokens": 1}, "max_tokens", "expected 2..48"),
    ({"stop": "x"}, "stop", "cannot be given with thinking"),
    ({"logprobs": True}, "logprobs", "cannot be given with thinking"),
    ({"min_thinking_tokens": 4}, "min_thinking_tokens", "not supported"),
    ({"temperature": -1}, "temperature", "temperature is -1"),
  ],
)
def test_requests_that_cannot_be(service, fields, param, message):
  with pytest.raises(errors.ApiError, match=message) as caught:
    _read(service, **fields)
  assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
  ("thinking", "message"),
  [
    ("full", "expected a way that keeps a budget"),
    ("prompt_hint()", "expected a way that keeps a budget"),
    ("guided(budget=48)", "budget is 48; expected 1..47"),
    ("gilded()", "did you mean 'guided'"),
  ],
)
def test_ways_that_cannot_be_served(model, thinking, message):
  with pytest.raises(ValueError, match=message):
    service_lib.Service(_recipe(thinking=thinking), model, None)
