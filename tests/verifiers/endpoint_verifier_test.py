# SPDX-License-Identifier: Apache-2.0
import contextlib
import math

import numpy as np
import pytest

from jaxttc.cost import costs
from jaxttc.inference import endpoint
from jaxttc.inference import engine as engine_lib
from jaxttc.inference.endpoint import replies, transport
from jaxttc.testing import fault_server
from jaxttc.verifiers import endpoint_verifier, process_reward

_PROMPT = "Problem 1 :\n\n"
_Aggregate = process_reward.Aggregate


def _spec(url="http://localhost:1/v1", **options):
  connection = endpoint.Connection(url=url, read_s=0.3)
  return endpoint_verifier.RewardSpec(
    **{"connection": connection, "model": "tiny", **options}
  )


@contextlib.contextmanager
def _verifier(schedule=fault_server.never, **options):
  async def sleep(seconds):
    del seconds

  with fault_server.FaultServer(schedule=schedule) as server:
    spec = _spec(server.url, **options)
    line = transport.Transport(spec.connection, sleep=sleep)
    made = endpoint_verifier.EndpointVerifier(spec, groups=2, line=line)
    made.open({0: engine_lib.Prompt(text=_PROMPT, tokens=(1, 2))})
    try:
      yield made, server
    finally:
      made.shutdown()


def _span(text, ticket=0, parent=0, attempt=0):
  return engine_lib.Span(
    group=0,
    ticket=ticket,
    parent=parent,
    text=text,
    tokens=(),
    finished=False,
    attempt=attempt,
  )


@pytest.mark.parametrize("api", ["pooling", "score"])
def test_prefixes_are_scored_whole(api):
  with _verifier(api=api) as (verifier, server):
    assert isinstance(verifier, engine_lib.Verifier)
    (first,) = verifier.score([_span("so 1\n\n")])
    assert first.reward == fault_server.length_reward(_PROMPT + "so 1\n\n")
    verifier.file(0, {0: 3})
    (second,) = verifier.score([_span("so 2\n\n", parent=3)])
    whole = _PROMPT + "so 1\n\nso 2\n\n"
    assert second.reward == fault_server.length_reward(whole)
    assert second.bill.spent == costs.Cost(
      verifier_calls=1, verifier_tokens=len(server.ids(whole))
    )
    assert second.bill.assumed == costs.Cost()


def test_a_text_is_paid_for_once():
  with _verifier() as (verifier, server):
    texts = ["so 1\n\n", "so 1\n\n", "so 2 2\n\n"]
    first = verifier.score([_span(t, ticket=i) for i, t in enumerate(texts)])
    (again,) = verifier.score([_span("so 1\n\n", ticket=5)])
    assert first[0].reward == first[1].reward == again.reward
    calls = [v.bill.spent.verifier_calls for v in [*first, again]]
    assert calls == [1, 0, 1, 0]
    assert server.ledger(_PROMPT).requests == 2


@pytest.mark.parametrize("fault", ["drop", "html", "delay", "error"])
def test_a_lost_verdict_is_billed_and_may_be_asked_again(fault):
  once = lambda body, attempt: "" if attempt else fault  # noqa: E731
  with _verifier(once) as (verifier, server):
    spans = [_span("so 1\n\n", ticket=i) for i in range(2)]
    lost, twin = verifier.score(spans)
    assert lost.failure.again and twin.failure == lost.failure
    assert lost.bill.spent == lost.bill.assumed
    assert lost.bill.spent.verifier_calls == 1
    assert twin.bill.spent == costs.Cost()
    (got,) = verifier.score([_span("so 1\n\n", attempt=1)])
    assert got.failure is None and got.bill.assumed == costs.Cost()


def test_a_reply_without_usage_is_a_call_of_unknown_length():
  once = lambda body, attempt: "no_usage"  # noqa: E731
  with _verifier(once) as (verifier, server):
    (got,) = verifier.score([_span("so 1\n\n")])
    assert got.bill.assumed.verifier_calls == 0
    tokens = len(server.ids(_PROMPT + "so 1\n\n"))
    assert got.bill.assumed.verifier_tokens >= tokens


@pytest.mark.parametrize("fault", ["no_choice", "two_choices", "bad_finish"])
def test_odd_replies_fail_in_the_end(fault):
  with _verifier(lambda body, attempt: fault) as (verifier, _):
    (lost,) = verifier.score([_span("so 1\n\n")])
    assert lost.failure.again and lost.failure.error.startswith("/pooling: ")
    assert lost.bill.assumed == costs.Cost()
    (lost,) = verifier.score([_span("so 1\n\n", attempt=5)])
    assert not lost.failure.again


def test_steps_are_tagged_and_their_rewards_aggregated():
  spec = _spec(
    step_tag="<t>",
    template="Q: {problem} A: {solution}!",
    aggregate=_Aggregate.MIN,
  )
  # What the problem says is not taken for a field of the template.
  payload, steps = spec.payload("{solution}", "a b\n\n\n\nc\n\nd")
  assert payload == {
    "model": "tiny",
    "input": "Q: {solution} A: a b<t>c<t>d<t>!",
  }
  assert steps == 3
  body = {"data": [{"data": [[0.1, 0.9], [0.75, 0.25], [0.5, 0.5]]}]}
  for how, want in (
    (_Aggregate.LAST, 0.5),
    (_Aggregate.MIN, 0.25),
    (_Aggregate.PRODUCT, 0.9 * 0.25 * 0.5),
    (_Aggregate.MEAN, 0.55),
  ):
    spec = _spec(step_tag="<t>", aggregate=how)
    assert spec.reward(body, 3) == pytest.approx(want)
  with pytest.raises(replies.MalformedReply, match="3 rewards for 2 steps"):
    spec.reward(body, 2)


def test_a_prefix_without_steps_costs_nothing():
  with _verifier(step_tag="<t>") as (verifier, server):
    (got,) = verifier.score([_span(" \n\n")])
    assert got.reward == 1.0 and got.bill.spent == costs.Cost()
    assert not server.payloads


@pytest.mark.parametrize(
  ("options", "data", "want"),
  [
    ({}, [0.25, 0.75], 0.75),
    ({"positive": 0}, [0.25, 0.75], 0.25),
    ({}, [[0.1], [0.4]], 0.4),
    ({"logits": True}, [[3.0], [-math.log(3)]], 0.25),
    ({"logits": True}, [-1e9], 0.0),
    ({}, [1.0004], 1.0),
    ({"step_tag": "<t>"}, [0.3], 0.3),
  ],
)
def test_the_forms_of_a_pooled_reward(options, data, want):
  spec = _spec(**options)
  steps = 1 if spec.step_tag else 0
  got = spec.reward({"data": [{"data": data}]}, steps)
  assert got == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize(
  ("options", "body", "message"),
  [
    ({}, {}, "'data' is no list of one object"),
    ({}, {"error": {"message": "full"}}, r"one object \(full\)"),
    ({}, {"data": [{"data": []}]}, "is no list of rewards"),
    ({}, {"data": [{"data": ["x"]}]}, "a reward is no number"),
    ({}, {"data": [{"data": [[]]}]}, "has none at -1"),
    ({"positive": 2}, {"data": [{"data": [0.1, 0.9]}]}, "has none at 2"),
    ({}, {"data": [{"data": [3.5]}]}, "3.5 is no probability; are they log"),
    ({}, {"data": [{"data": [math.nan]}]}, "is no probability"),
    ({"logits": True}, {"data": [{"data": [math.nan]}]}, "is no logit"),
    ({"api": "score"}, {"data": [{"score": True}]}, "a reward is no number"),
  ],
)
def test_malformed_rewards(options, body, message):
  with pytest.raises(replies.MalformedReply, match=message):
    _spec(**options).reward(body, 0)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"model": ""}, "model must name the served reward model"),
    ({"api": "rank"}, "api must be one of pooling, score, got 'rank'"),
    ({"template": "{problem}"}, "must hold {problem} and {solution} once"),
    ({"api": "score", "step_tag": "<t>"}, "step_tag needs the pooling"),
    ({"aggregate": _Aggregate.MIN}, "'min' needs the rewards of all steps"),
  ],
)
def test_reward_models_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    _spec(**options).validate()


def test_an_unknown_model_is_refused_at_the_start():
  with pytest.raises(ValueError, match="there is no model 'big'"):
    with _verifier(model="big"):
      pass


def test_nodes_and_groups_that_are_not_there():
  with _verifier() as (verifier, _):
    with pytest.raises(ValueError, match="group 0 has no node 4"):
      verifier.score([_span("x", parent=4)])
    verifier.score([_span("so 1\n\n")])
    verifier.file(0, {0: 1})
    verifier.release(0, np.array([True, False]))
    with pytest.raises(ValueError, match="group 0 has no node 1"):
      verifier.score([_span("x", parent=1)])
    verifier.close(0)
    verifier.close(0)
    with pytest.raises(ValueError, match="group 0 is not open"):
      verifier.score([_span("x")])
