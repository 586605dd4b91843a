# SPDX-License-Identifier: Apache-2.0
import sys
import threading

import numpy as np
import pytest

from jaxttc.cost import costs
from jaxttc.inference import controllers, endpoint
from jaxttc.inference import engine as engine_lib
from jaxttc.inference.endpoint import transport

_PROMPT = "Problem 1 :\n\n"
_STEP, _END = engine_lib.STEP, engine_lib.END


def _opened(engine, text=_PROMPT, groups=(0,)):
  ids = engine.encode(text)
  engine.open({g: engine_lib.Prompt(text=text, tokens=ids) for g in groups})
  return ids


def _request(ticket=0, node=0, until=_STEP, limit=20, group=0, attempt=0):
  return engine_lib.Request(
    group=group,
    ticket=ticket,
    node=node,
    until=until,
    limit=limit,
    seed=(1, 2 + ticket),
    attempt=attempt,
  )


def _run(engine, *requests):
  engine.submit(requests)
  found = []
  while len(found) < len(requests):
    found += engine.step()
  return sorted(found, key=lambda completion: completion.ticket)


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp", "other"])
def test_steps_go_on_behind_their_stop_strings(serve, owner):
  server, make = serve(owner=owner)
  engine = make()
  assert isinstance(engine, engine_lib.Engine)
  _opened(engine)
  text, node = _PROMPT, 0
  while True:
    (got,) = _run(engine, _request(node=node))
    text += got.text
    assert got.stopped and got.failure is None
    if got.finished:
      break
    assert got.text.endswith("\n\n") and got.answer == -1
    engine.file(0, {0: node + 1})
    node += 1
  assert node == 2
  assert "####" in got.text and got.answer >= 0
  sent = server.payloads[-1]["prompt"]
  assert server.text(sent) + got.text == text
  assert isinstance(sent, str) == (owner == "other")
  books = server.ledger(_PROMPT)
  assert books.told == books.generated > 0


def test_a_solution_in_one_request(serve):
  server, make = serve()
  engine = make()
  _opened(engine)
  got = _run(engine, *(_request(t, until=_END, limit=40) for t in range(3)))
  assert all(g.stopped and g.finished for g in got)
  assert all(g.text.count("\n\n") == 2 for g in got)
  assert len({g.text for g in got}) > 1  # the seeds differ
  again = _run(engine, _request(7, until=_END, limit=40))
  assert "stop" not in server.payloads[-1] and again[0].text
  assert {p["n"] for p in server.payloads} == {1}


def test_equal_seeds_give_equal_spans(serve):
  _, make = serve()
  engine = make(groups=2)
  _opened(engine, groups=(0, 1))
  first, second = _run(engine, _request(group=0), _request(group=1))
  assert first.text == second.text


def test_a_limit_is_sent_and_counted(serve):
  server, make = serve()
  engine = make()
  ids = _opened(engine)
  (got,) = _run(engine, _request(limit=1))
  assert (got.length, got.stopped, got.finished) == (1, False, False)
  assert server.payloads[0]["max_tokens"] == 1
  assert got.bill == engine_lib.Bill(
    spent=costs.Cost(prompt_tokens=len(ids), generated_tokens=1)
  )
  assert got.bill.spent == engine.tariff.price(1, len(ids))


def test_the_prefix_is_paid_for_again_and_known_beforehand(serve):
  server, make = serve()
  engine = make(prompt_dollars=1e-6, generated_dollars=2e-6)
  ids = _opened(engine)
  (first,) = _run(engine, _request())
  engine.file(0, {0: 1})
  (second,) = _run(engine, _request(node=1))
  assert first.end == second.bill.spent.prompt_tokens
  assert first.end == len(ids) + len(first.text.split())
  spent = first.bill.spent + second.bill.spent
  books = server.ledger(_PROMPT)
  assert spent.prompt_tokens == books.prompts
  assert spent.generated_tokens == books.generated
  assert spent.dollars == pytest.approx(
    1e-6 * books.prompts + 2e-6 * books.generated
  )
  assert {"prompt_tokens", "dollars"} <= engine.metered


def test_without_a_tokenizer_only_sampled_tokens_are_metered(serve):
  server, make = serve(tokenize=False)
  engine = make(prompt_dollars=1e-6, generated_dollars=2e-6)
  assert _opened(engine) == (-1,) * (len(_PROMPT) + 2)
  assert engine.metered == {
    "generated_tokens",
    "verifier_tokens",
    "verifier_calls",
    "tool_calls",
  }
  (got,) = _run(engine, _request())
  assert server.payloads[0]["prompt"] == _PROMPT
  assert got.bill.spent.prompt_tokens == 4 and got.bill.assumed == costs.Cost()
  assert got.end is None


def test_logprobs(serve):
  _, make = serve()
  engine = make(logprobs=True)
  _opened(engine)
  (got,) = _run(engine, _request())
  assert got.logprob == -0.5 * got.length


def test_sampling_is_passed_on(serve):
  server, make = serve()
  sampler = controllers.Sampler(
    temperature=0.5, top_k=7, top_p=0.9, min_p=0.1, repetition_penalty=1.2
  )
  engine = make(sampler=sampler)
  _opened(engine)
  _run(engine, _request())
  sent = server.payloads[0]
  assert sent["temperature"] == 0.5 and sent["top_k"] == 7
  assert sent["top_p"] == 0.9 and sent["min_p"] == 0.1
  assert sent["repetition_penalty"] == 1.2 and sent["stop"] == ["\n\n"]


@pytest.mark.parametrize(
  ("owner", "plain"),
  [
    ("vllm", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
    ("sglang", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
    ("llamacpp", {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}),
    ("other", {}),
  ],
)
def test_a_servers_own_defaults_are_turned_off(serve, owner, plain):
  server, make = serve(owner=owner)
  engine = make()
  _opened(engine)
  _run(engine, _request())
  sent = server.payloads[0]
  names = ("top_k", "min_p", "repetition_penalty", "repeat_penalty")
  assert {k: sent[k] for k in names if k in sent} == plain
  assert (sent["temperature"], sent["top_p"]) == (1.0, 1.0)


def test_chats_are_whole_solutions(serve):
  server, make = serve()
  engine = make(chat=True, logprobs=True)
  _opened(engine)
  (got,) = _run(engine, _request(until=_END, limit=40))
  assert got.finished and got.logprob == -0.5 * got.length
  assert server.payloads[0]["messages"] == [
    {"role": "user", "content": _PROMPT}
  ]
  assert "prompt_tokens" not in engine.metered
  with pytest.raises(ValueError, match="a chat cannot be continued"):
    engine.submit([_request()])


def _once(*faults):
  return lambda body, attempt: faults[attempt] if attempt < len(faults) else ""


@pytest.mark.parametrize(
  "fault", ["drop", "drop_late", "error", "html", "cut", "garble", "delay"]
)
def test_a_lost_reply_is_billed_in_full_as_assumed(serve, fault):
  server, make = serve(schedule=_once(fault))
  engine = make()
  ids = _opened(engine)
  (lost,) = _run(engine, _request(limit=9))
  assert lost.failure.again and "\n" not in lost.failure.error
  assert lost.length == 0 and not lost.stopped
  assert (
    lost.bill.spent == lost.bill.assumed == engine.tariff.price(9, len(ids))
  )
  assert lost.bill.spent.generated_tokens >= server.ledger(_PROMPT).generated
  (got,) = _run(engine, _request(limit=9, attempt=1))
  assert got.failure is None and got.bill.assumed == costs.Cost()
  assert got.length == server.ledger(_PROMPT).told


@pytest.mark.parametrize("fault", ["no_choice", "two_choices", "bad_finish"])
def test_an_unusable_reply_is_billed_as_it_says(serve, fault):
  server, make = serve(schedule=_once(fault))
  engine = make()
  _opened(engine)
  (lost,) = _run(engine, _request())
  assert lost.failure.again and lost.bill.assumed == costs.Cost()
  assert lost.bill.spent.generated_tokens == server.ledger(_PROMPT).told > 0


@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize("limit", [2, 20])
def test_a_reply_without_usage_is_billed_by_what_it_can_have_been(
  serve, logprobs, limit
):
  server, make = serve(schedule=_once("no_usage"))
  engine = make(logprobs=logprobs)
  ids = _opened(engine)
  (got,) = _run(engine, _request(limit=limit))
  books = server.ledger(_PROMPT)
  assert got.failure is None and books.generated <= got.length <= limit
  assert got.bill.spent.prompt_tokens == len(ids)
  assert got.bill.assumed.generated_tokens == (0 if logprobs else got.length)
  if logprobs:
    assert got.length == books.generated


def test_a_request_that_was_not_taken_costs_nothing(serve):
  server, make = serve(schedule=_once(*["unavailable"] * 9))
  engine = make()
  _opened(engine)
  (got,) = _run(engine, _request())
  assert got.failure.error.endswith("503 busy, after 6 attempts")
  assert not got.failure.again and got.bill.spent == costs.Cost()
  assert len(server.waits) == 5


def test_a_server_that_breaks_its_limits_is_caught(serve):
  _, make = serve(script=lambda prefix, seed: "so " * 9 + "\n\n")
  engine = make()
  ids = _opened(engine)
  payload = engine._payload
  engine._payload = lambda call: payload(call) | {"max_tokens": 20}
  (got,) = _run(engine, _request(limit=3))
  assert "sampled 9 tokens, max_tokens was 3" in got.failure.error
  assert not got.failure.again
  assert got.bill.spent == engine.tariff.price(3, len(ids))
  engine._payload = lambda call: payload(call) | {"prompt": _PROMPT + "and so "}
  (got,) = _run(engine, _request(ticket=1))
  assert "the server read 6 prompt tokens, 4 were sent" in got.failure.error


def test_cancelled_requests_are_billed_if_they_were_sent(serve):
  hold = threading.Event()
  server, make = serve(hold=hold)
  engine = make(
    connection={"url": server.url, "concurrency": 1, "read_s": 20.0}
  )
  ids = _opened(engine, groups=(0, 1))
  engine.submit([_request(t, limit=5) for t in range(3)])
  assert server.arrived.acquire(timeout=10)
  gone = sorted(engine.cancel(0), key=lambda completion: completion.ticket)
  spent = [completion.bill.spent for completion in gone]
  assert spent == [engine.tariff.price(5, len(ids)), costs.Cost(), costs.Cost()]
  assert gone[0].bill.assumed == spent[0]
  assert all(c.length == 0 and c.failure is None for c in gone)
  assert engine.step() == [] and engine.cancel(0) == []
  hold.set()
  (got,) = _run(engine, _request(group=1))
  assert got.stopped


def test_closing_forgets_what_is_under_way(serve):
  hold = threading.Event()
  server, make = serve(hold=hold)
  engine = make()
  _opened(engine)
  engine.submit([_request()])
  assert server.arrived.acquire(timeout=10)
  engine.close(0)
  engine.close(0)
  hold.set()
  assert engine.step() == []
  _opened(engine)
  assert _run(engine, _request())[0].stopped


def test_bad_requests_are_refused(serve):
  _, make = serve()
  engine = make()
  with pytest.raises(ValueError, match="group 0 is not open"):
    engine.submit([_request()])
  _opened(engine)
  with pytest.raises(ValueError, match="group 0 is out of range or open"):
    _opened(engine)
  with pytest.raises(ValueError, match="group 0 has no node 3"):
    engine.submit([_request(node=3)])
  with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
    engine.submit([_request(limit=0)])
  _run(engine, _request(4))
  with pytest.raises(ValueError, match="ticket 4 of group 0 is taken"):
    engine.submit([_request(4)])
  engine.file(0, {4: 1})
  engine.release(0, np.array([True, False]))
  with pytest.raises(ValueError, match="group 0 has no node 1"):
    engine.submit([_request(node=1)])


@pytest.mark.parametrize(
  ("server", "spec", "message"),
  [
    ({}, {"model": "big"}, "there is no model 'big'; it serves 'tiny'"),
    ({}, {"model": ""}, "model must name the served model"),
    ({}, {"step_ends": ()}, "step_ends must be texts, not empty"),
    ({}, {"step_ends": ("",)}, "step_ends must be texts, not empty"),
    ({}, {"max_length": 0}, "max_length must be at least 1, got 0"),
    ({}, {"prompt_dollars": 1e-6}, "give both prompt_dollars and"),
    ({}, {"groups": 0}, "EndpointEngine groups must be >= 1, got 0"),
    ({}, {"needs": ("hidden_states",)}, "does not offer hidden_states"),
    ({}, {"needs": ("logit_controllers",)}, "does not offer logit_contr"),
    (
      {"owner": "other"},
      {"sampler": controllers.Sampler(top_k=3)},
      "does not offer top_k; it offers logprobs, seeds",
    ),
    (
      {"owner": "llamacpp"},
      {"step_ends": ("\n", "\n\n")},
      "does not say what stopped a step; give one of",
    ),
    ({"max_model_len": None}, {}, "does not say how long its context is"),
  ],
)
def test_what_could_never_work_is_refused_at_the_start(
  serve, server, spec, message
):
  _, make = serve(**server)
  with pytest.raises(ValueError, match=message) as caught:
    make(**spec)
  assert "\n" not in str(caught.value)


def test_the_shorter_context_counts(serve):
  _, make = serve()
  assert make().max_length == 4096
  assert make(max_length=100).max_length == 100
  assert make(max_length=10_000).max_length == 4096


def test_a_mistake_in_the_engine_is_raised_and_does_not_hang(serve):
  _, make = serve()
  engine = make()
  _opened(engine)

  def broken(call):
    raise KeyError("mine")

  engine._payload = broken
  engine.submit([_request()])
  with pytest.raises(KeyError, match="mine"):
    while True:
      engine.step()


def test_httpx_is_named_where_it_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, "httpx", None)
  with pytest.raises(ValueError, match=r"pip install 'jaxttc\[serve\]'"):
    transport.Transport(endpoint.Connection(url="http://localhost:1/v1"))
