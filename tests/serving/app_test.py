# SPDX-License-Identifier: Apache-2.0
"""What clients see: the official client against a real server."""

from concurrent import futures
import functools
import json

import httpx
import openai
import pytest

from jaxttc.inference import engine as engine_lib
from jaxttc.inference import local_engine
from jaxttc.runtime import driver

PROMPT = "Solve 3 + 4 .\n"
LONG = 24  # the tests' max_tokens


def _complete(client, prompt=PROMPT, **fields):
  fields = {"seed": 1, "max_tokens": LONG} | fields
  return client.completions.create(model="tiny", prompt=prompt, **fields)


def _chat(client, prompt=PROMPT, **fields):
  return client.chat.completions.create(
    model="tiny",
    messages=[
      {"role": "system", "content": "not read"},
      {"role": "user", "content": prompt},
    ],
    **({"seed": 1} | fields),
  )


def _search(client, **extra):
  return _chat(client, seed=extra.pop("seed", 1), extra_body=extra)


@functools.lru_cache
def _engine(service):
  return local_engine.LocalEngine(service.policy, groups=1, rows=1)


def _alone(service, prompt, seed, choice=0, limit=LONG):
  """Tokens that an engine without a server samples."""
  engine = _engine(service)
  engine.open({0: engine_lib.Prompt(text=prompt, tokens=engine.encode(prompt))})
  engine.submit(
    [
      engine_lib.Request(
        group=0,
        ticket=0,
        node=0,
        until=engine_lib.END,
        limit=limit,
        seed=service._seed(seed, choice),
      )
    ]
  )
  done = []
  while not done:
    done = engine.step()
  engine.close(0)
  return done[0].tokens


def test_a_completion_is_what_the_engine_samples_alone(client, server):
  for seed in range(4):
    reply = _complete(client, seed=seed)
    tokens = _alone(server.service, PROMPT, seed)
    choice = reply.choices[0]
    assert choice.text == server.service.policy.tokenizer.decode(tokens)
    ended = "length" if len(tokens) == LONG else "stop"
    assert choice.finish_reason == ended
    assert reply.usage.completion_tokens == len(tokens)
    prompt = len(_engine(server.service).encode(PROMPT))
    assert reply.usage.prompt_tokens == prompt
    assert reply.usage.total_tokens == prompt + len(tokens)
    assert (reply.object, reply.model) == ("text_completion", "tiny")


def test_a_chat_is_the_completion_of_its_last_message(client):
  chat = _chat(client, prompt=PROMPT.rstrip("\n"), max_completion_tokens=LONG)
  message = chat.choices[0].message
  assert message.role == "assistant"
  assert message.content == _complete(client).choices[0].text
  assert chat.object == "chat.completion"


def test_seeds_decide_and_none_means_chance(client):
  texts = [_complete(client, seed=seed).choices[0].text for seed in range(5)]
  again = [_complete(client, seed=seed).choices[0].text for seed in range(5)]
  assert texts == again and len(set(texts)) > 1
  big = {_complete(client, seed=s).choices[0].text for s in (2**70, -3)}
  assert all(big)
  free = {_complete(client, seed=None).choices[0].text for _ in range(6)}
  assert len(free) > 1


def test_choices_are_numbered_prompt_by_prompt(client, server):
  prompts = [PROMPT, "Solve 9 .\n"]
  reply = _complete(client, prompt=prompts, n=3, seed=5)
  assert [choice.index for choice in reply.choices] == list(range(6))
  decode = server.service.policy.tokenizer.decode
  expected = [
    decode(_alone(server.service, prompt, 5, choice))
    for prompt in prompts
    for choice in range(3)
  ]
  assert [choice.text for choice in reply.choices] == expected
  one = _complete(client, prompt=prompts[1], n=2, seed=5)
  assert [choice.text for choice in one.choices] == expected[3:5]


@pytest.mark.parametrize("ask", [_complete, _chat])
def test_a_stream_is_the_whole_reply_in_pieces(client, long_seed, ask):
  seed = long_seed
  whole = ask(client, n=2, seed=seed)
  stream = ask(
    client,
    n=2,
    seed=seed,
    stream=True,
    stream_options={"include_usage": True},
  )
  texts, reasons, chunks = ["", ""], [None, None], 0
  usage = None
  for chunk in stream:
    usage = chunk.usage or usage
    for choice in chunk.choices:
      piece = choice.text if ask is _complete else choice.delta.content
      texts[choice.index] += piece or ""
      chunks += bool(piece)
      reasons[choice.index] = choice.finish_reason or reasons[choice.index]
  expected = [
    choice.text if ask is _complete else choice.message.content
    for choice in whole.choices
  ]
  assert texts == expected
  assert reasons == [choice.finish_reason for choice in whole.choices]
  assert usage == whole.usage
  assert chunks >= 4  # a piece a segment, not all at the end


def test_a_stream_without_usage_has_none(client):
  assert all(not chunk.usage for chunk in _complete(client, stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_a_completion_and_are_left_out(
  client, server, long_seed, stream
):
  seed = long_seed
  whole = _complete(client, seed=seed)
  text = whole.choices[0].text
  stop = text[6:8]
  reply = _complete(client, seed=seed, stop=[stop, "never"], stream=stream)
  chunks = list(reply) if stream else [reply]
  shown = "".join(choice.text for c in chunks for choice in c.choices)
  assert shown == text[: text.index(stop)]
  assert chunks[-1].choices[0].finish_reason == "stop"
  if not stream:
    assert reply.usage.completion_tokens < whole.usage.completion_tokens
    tokens = _alone(server.service, PROMPT, seed)
    billed = tokens[: reply.usage.completion_tokens]
    decode = server.service.policy.tokenizer.decode
    assert stop in decode(billed) and stop not in decode(billed[:-1])


def test_requests_draw_in_ways_of_their_own(client):
  """Side by side, and each as it would be alone."""
  ways = [
    {"temperature": 0},
    {"temperature": 0.5, "extra_body": {"top_k": 2}},
    {"top_p": 0.3},
    {},
  ]
  alone = [_complete(client, **way).choices[0].text for way in ways]
  with futures.ThreadPoolExecutor(len(ways)) as pool:
    beside = list(pool.map(lambda way: _complete(client, **way), ways))
  assert [reply.choices[0].text for reply in beside] == alone
  greedy = _complete(client, seed=99, temperature=0).choices[0].text
  assert greedy == alone[0] and len(set(alone)) > 1


def test_log_probabilities_of_a_completion(client, server):
  reply = _complete(client, logprobs=3)
  found = reply.choices[0].logprobs
  assert "".join(found.tokens).replace("<eos>", "") == reply.choices[0].text
  assert len(found.token_logprobs) == reply.usage.completion_tokens
  for i, logprob in enumerate(found.token_logprobs):
    assert found.text_offset[i] == len("".join(found.tokens[:i]))
    tops = list(found.top_logprobs[i].values())
    assert len(tops) == 3 and tops == sorted(tops, reverse=True)
    assert logprob <= tops[0] + 1e-6
  none = _complete(client, logprobs=0).choices[0].logprobs
  assert none.top_logprobs is None
  assert none.token_logprobs == pytest.approx(found.token_logprobs, abs=1e-5)
  assert _complete(client).choices[0].logprobs is None


def test_log_probabilities_of_a_chat_in_a_stream(client):
  whole = _chat(client, logprobs=True, top_logprobs=2)
  entries = []
  for chunk in _chat(client, logprobs=True, top_logprobs=2, stream=True):
    if chunk.choices[0].logprobs:
      entries += chunk.choices[0].logprobs.content
  expected = whole.choices[0].logprobs.content
  assert [e.token for e in entries] == [e.token for e in expected]
  for ours, theirs in zip(entries, expected, strict=True):
    assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
    assert bytes(ours.bytes).decode() == ours.token
    assert len(ours.top_logprobs) == 2


def test_length_limits(client, long_seed):
  seed = long_seed
  reply = _complete(client, seed=seed, max_tokens=3)
  assert reply.choices[0].finish_reason == "length"
  assert reply.usage.completion_tokens == 3
  default = _complete(client, seed=seed, max_tokens=None)
  assert default.usage.completion_tokens <= 24
  room = 256 - reply.usage.prompt_tokens
  with pytest.raises(openai.BadRequestError, match="exceed the context") as e:
    _complete(client, max_tokens=room + 1)
  assert e.value.code == "context_length_exceeded"
  with pytest.raises(openai.BadRequestError, match="exceed the context"):
    _complete(client, prompt="7 " * 300)


def test_a_search_gives_what_the_driver_gives(client, server):
  extra = {"decoder": "best_of_n(n=4)", "budget": {"generated_tokens": 60}}
  reply = _search(client, seed=3, **extra)
  service = server.service
  order = service.read(
    json.dumps(
      {
        "model": "tiny",
        "messages": [{"role": "user", "content": PROMPT}],
        "seed": 3,
        **extra,
      }
    ).encode(),
    chat=True,
  ).search
  engines = driver.local_engines(  # of the server's sizes: compiled once
    service.policy,
    service.verifier,
    order.decoder,
    service.settings,
    slots=2,
    row_samplers=True,
  )
  result = next(
    driver.drive(
      *engines,
      order.decoder,
      [PROMPT],
      [order.name],
      budget=order.budget,
      settings=service.settings,
    )
  )
  assert reply.choices[0].message.content == (result.completion or "")
  cost = dict(reply.usage.cost)
  assert cost.pop("seconds") > 0
  expected = result.cost.as_dict()
  del expected["seconds"]
  assert cost == expected
  assert reply.usage.completion_tokens == cost["generated_tokens"] <= 60
  details = reply.usage.completion_tokens_details
  answer = len(service.policy.tokenizer.encode(result.completion or ""))
  assert details.reasoning_tokens == cost["generated_tokens"] - answer
  assert reply.search["stop"] == result.stop
  assert reply.search["budget"] == {"generated_tokens": 60}


def test_a_search_can_be_streamed(client):
  extra = {"decoder": "best_of_n(n=4)", "budget": {"generated_tokens": 60}}
  whole = _search(client, seed=3, **extra)
  chunks = list(
    _chat(
      client,
      seed=3,
      stream=True,
      stream_options={"include_usage": True},
      extra_body=extra,
    )
  )
  text = "".join(
    choice.delta.content or "" for c in chunks for choice in c.choices
  )
  assert text == whole.choices[0].message.content
  assert chunks[-1].usage.cost["flops"] == whole.usage.cost["flops"]
  assert chunks[-1].search == whole.search


def test_efforts_and_thinking_limits_become_budgets(client):
  plain = {"decoder": "best_of_n(n=4)"}
  budgets = {
    effort: _chat(client, reasoning_effort=effort, extra_body=plain).search
    for effort in ("low", "high")
  }
  assert budgets["low"]["budget"] == {"generated_tokens": 40}
  assert budgets["high"]["budget"] == {"generated_tokens": 200}
  short = _search(client, **plain, max_thinking_tokens=7)
  assert short.search["budget"] == {"generated_tokens": 7}
  assert short.usage.completion_tokens <= 7
  none = _chat(client, reasoning_effort="none")
  assert not hasattr(none, "search")
  bounded = _search(client, **plain, budget={"generated_tokens": 10**6})
  assert bounded.search["budget"] == {"generated_tokens": 200}


def test_searches_side_by_side_are_as_alone(client):
  asks = [{"decoder": "best_of_n(n=4)", "seed": seed % 3} for seed in range(6)]
  alone = [_search(client, **ask) for ask in asks[:3]]
  with futures.ThreadPoolExecutor(6) as pool:
    beside = list(pool.map(lambda ask: _search(client, **ask), asks))
  for i, reply in enumerate(beside):
    assert reply.choices[0].message == alone[i % 3].choices[0].message
    assert reply.usage.cost["flops"] == alone[i % 3].usage.cost["flops"]


@pytest.mark.parametrize(
  ("fields", "status", "param", "message"),
  [
    ({"model": "gpt"}, 404, "model", "there is no model 'gpt'"),
    ({"n": 65}, 400, "n", "up to 64 a request"),
    ({"temperature": -1}, 400, "temperature", "temperature is -1.0"),
    ({"top_p": 0}, 400, "top_p", r"expected in \(0, 1\]"),
    ({"prompt": "\ud800"}, 400, "prompt", "half a surrogate"),
    ({"decoder": "astar("}, 400, "decoder", "is not of the form"),
    ({"decoder": "x" * 300}, 400, "decoder", "expected up to 256"),
    ({"decoder": "asta"}, 400, "decoder", "did you mean 'astar'"),
    ({"decoder": "best_of_n(n=9999)"}, 400, "decoder", "this server allows"),
    ({"decoder": "best_of_n(n='x')"}, 400, "decoder", "best_of_n"),
    ({"budget": {"token": 3}}, 400, "budget", "has no field 'token'"),
    ({"budget": {"flops": "1"}}, 400, "budget", "must be a number"),
    ({"budget": {"verifier_calls": 1.5}}, 400, "budget", "whole units"),
    ({"budget": {"joules": 5}}, 400, "budget", "joules cannot be kept"),
    ({"budget": {}, "n": 2}, 400, "n", "one prompt and n=1"),
    ({"budget": {}, "stop": "x"}, 400, "stop", "stop cannot be given"),
    ({"budget": {}, "prompt": " 7" * 249}, 400, "prompt", "a step needs 8"),
    ({"temprature": 1}, 400, "temprature", "did you mean 'temperature'"),
  ],
)
def test_errors_are_one_line_in_the_shape_of_openai(
  server, fields, status, param, message
):
  body = {"model": "tiny", "prompt": PROMPT} | fields
  reply = httpx.post(f"{server.url}/v1/completions", content=json.dumps(body))
  error = reply.json()["error"]
  assert reply.status_code == status
  assert set(error) == {"message", "type", "param", "code"}
  assert error["type"] == "invalid_request_error"
  assert error["param"] == param and "\n" not in error["message"]
  pytest.raises(ValueError, _raise, error["message"]).match(message)


def _raise(message):
  raise ValueError(message)


@pytest.mark.parametrize(
  ("method", "path", "content", "status"),
  [
    ("POST", "/v1/completions", b"{", 400),
    ("POST", "/v1/completions", b"x" * 2_000_000, 413),
    ("GET", "/v1/completions", None, 405),
    ("POST", "/v1/embeddings", b"{}", 404),
    ("GET", "/v1/models/other", None, 404),
  ],
)
def test_errors_before_a_request_is_read(server, method, path, content, status):
  reply = httpx.request(method, f"{server.url}{path}", content=content)
  assert reply.status_code == status
  assert reply.json()["error"]["message"]


def test_a_body_of_unknown_length_is_cut_off(server):
  reply = httpx.post(
    f"{server.url}/v1/completions",
    content=(b"x" * 100_000 for _ in range(20)),
  )
  assert reply.status_code == 413


def test_models_health_and_metrics(client, server):
  assert [model.id for model in client.models.list()] == ["tiny"]
  card = client.models.retrieve("tiny")
  assert card.owned_by == "jaxttc" and card.max_model_len == 256
  assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
  before = _metric(server, "jaxttc_completion_tokens_total")
  used = _complete(client).usage.completion_tokens
  assert _metric(server, "jaxttc_completion_tokens_total") == before + used
  assert _metric(server, "jaxttc_rows") == 4
  assert _metric(server, "jaxttc_compiled_programs") > 0
  page = httpx.get(f"{server.url}/metrics")
  assert page.headers["content-type"].startswith("text/plain")
  assert 'jaxttc_requests_total{path="/v1/completions",status="200"}' in (
    page.text
  )


def _metric(server, name):
  for line in httpx.get(f"{server.url}/metrics").text.splitlines():
    if line.startswith(f"{name} "):
      return float(line.split()[1])
  raise AssertionError(f"no metric {name}")


def test_many_clients_get_what_they_would_get_alone(client, server):
  """More requests than rows, streamed and not, of mixed lengths and prompts."""
  asks = [
    {
      "prompt": f"Solve {i % 7} + {i % 5} .\n",
      "seed": i,
      "max_tokens": 4 + i % 20,
      "stream": i % 3 == 0,
    }
    for i in range(64)
  ]

  def ask(fields):
    reply = _complete(client, **fields)
    if not fields["stream"]:
      return reply.choices[0].text
    return "".join(chunk.choices[0].text for chunk in reply)

  with futures.ThreadPoolExecutor(64) as pool:
    together = list(pool.map(ask, asks))
  decode = server.service.policy.tokenizer.decode
  for fields, text in zip(asks, together, strict=True):
    tokens = _alone(
      server.service,
      fields["prompt"],
      fields["seed"],
      limit=fields["max_tokens"],
    )
    assert text == decode(tokens)


def test_nothing_compiles_once_the_shapes_are_known(client, server):
  for i in range(6):
    _complete(client, seed=i, temperature=0.1 * i, top_p=1 - 0.1 * i)
  traced = server.service.scheduler.compilations
  for i in range(6):
    _complete(client, seed=9 + i, temperature=1.5, extra_body={"top_k": 1 + i})
  assert server.service.scheduler.compilations == traced
