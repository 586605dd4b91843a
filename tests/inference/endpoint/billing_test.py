# SPDX-License-Identifier: Apache-2.0
import dataclasses

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.cost import costs
from jaxttc.inference import endpoint
from jaxttc.inference.endpoint import billing, replies

_TEXT = "Is it?\n\n"


def _billing(exact=True):
  spec = endpoint.EndpointSpec(
    connection=endpoint.Connection(url="http://localhost:1/v1"),
    model="tiny",
    prompt_dollars=0.25,
    generated_dollars=2.0,
  )
  return billing.Billing(spec, exact)


def _reply(**changes):
  reply = replies.Reply(
    text="so 4", finish="stop", stop=None, usage=None, logprob=None, tokens=None
  )
  return dataclasses.replace(reply, **changes)


_USAGES = st.builds(
  replies.Usage, st.integers(0, 60), st.integers(0, 60), st.integers(0, 60)
)


@hypothesis.given(
  st.none() | _USAGES,
  st.booleans(),
  st.integers(1, 40),
  st.none() | st.integers(0, 50),
  st.sampled_from(["stop", "length"]),
  st.text(max_size=30),
)
@hypothesis.settings(deadline=None, max_examples=100)
def test_no_bill_is_beyond_what_was_set_aside(
  usage, exact, limit, tokens, finish, text
):
  bills = _billing(exact)
  order = billing.Order(_TEXT, (1, 2, 3) if exact else (), limit)
  reply = _reply(usage=usage, tokens=tokens, finish=finish, text=text)
  worst = bills.worst(order).spent
  for bill in (bills.told(order, usage), bills.usable(order, reply)):
    spent = bill.spent
    assert spent.generated_tokens <= limit
    if exact:  # else prompts and dollars are not metered
      assert spent.prompt_tokens <= 3 and spent.dollars <= worst.dollars
    assert bill.assumed.fits_within(dataclasses.replace(spent, dollars=1e9))
    assert spent.cached_tokens <= spent.prompt_tokens
    if usage is not None:
      assert bill.assumed == costs.Cost()


def test_bills_are_what_the_server_says():
  order = billing.Order(_TEXT, (1, 2, 3), 10)
  got = _billing().told(order, replies.Usage(3, 7, cached=2))
  assert got.spent == costs.Cost(
    prompt_tokens=3, cached_tokens=2, generated_tokens=7, dollars=14.75
  )


def test_what_is_not_said_is_assumed():
  order = billing.Order(_TEXT, (1, 2, 3), 10)
  bills = _billing()
  by_bytes = bills.usable(order, _reply())  # 4 + 2 + 1 bytes
  assert by_bytes.spent.generated_tokens == 7
  assert by_bytes.assumed == costs.Cost(generated_tokens=7, dollars=14.0)
  by_length = bills.usable(order, _reply(finish="length"))
  assert by_length.assumed.generated_tokens == 10
  counted = bills.usable(order, _reply(tokens=3))
  assert counted.spent.generated_tokens == 3
  assert counted.assumed == costs.Cost()
  assert bills.told(order, None) == bills.worst(order)
  unsure = _billing(exact=False).worst(billing.Order(_TEXT, (), 10))
  assert unsure.spent.prompt_tokens == len(_TEXT) + 2


@pytest.mark.parametrize(
  ("usage", "exact", "line"),
  [
    (None, True, ""),
    (replies.Usage(3, 10), True, ""),
    (replies.Usage(2, 0), True, ""),
    (replies.Usage(3, 11), True, "sampled 11 tokens, max_tokens was 10"),
    (replies.Usage(4, 1), True, "read 4 prompt tokens, 3 were sent"),
    (replies.Usage(40, 1), False, ""),
  ],
)
def test_broken_limits_are_named(usage, exact, line):
  order = billing.Order(_TEXT, (1, 2, 3), 10)
  found = _billing(exact).broken(order, usage)
  assert line in found and bool(line) == bool(found)
