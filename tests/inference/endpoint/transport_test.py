# SPDX-License-Identifier: Apache-2.0
import itertools
import logging
import socket
import threading
import time

import pytest

from jaxttc.inference import endpoint
from jaxttc.inference.endpoint import transport
from jaxttc.testing import fault_server

_ASKED = {"prompt": "Problem\n", "max_tokens": 4, "seed": 1}


class Waits(list):
  """Waits for nothing, and remembers what for."""

  async def __call__(self, seconds):
    self.append(seconds)


def _script(prefix, seed):
  del prefix, seed
  return "one two three #### 4"


def _in_turn(*faults):
  """These faults, and then none."""
  turn = itertools.chain(faults, itertools.repeat(""))
  return lambda body, attempt: next(turn)


class Line:
  """A server with a schedule of faults, and a transport to it."""

  def __init__(self, *faults, now=None, **options):
    served = {
      k: options.pop(k)
      for k in ("key", "echo", "retry_after", "hold")
      if k in options
    }
    self.server = fault_server.FaultServer(
      _script, schedule=_in_turn(*faults), **served
    )
    self.waits = Waits()
    clock = {} if now is None else {"now": now}
    connection = endpoint.Connection(
      url=options.pop("url", self.server.url), **options
    )
    self.transport = transport.Transport(
      connection, sleep=self.waits, random=lambda: 0.5, **clock
    )

  def __enter__(self):
    self.server.__enter__()
    return self

  def __exit__(self, *exception):
    self.transport.close()
    self.server.__exit__(*exception)

  def ask(self, attempt=0, progress=None):
    return self.transport.call(
      self.transport.post(
        "/completions", _ASKED, attempt=attempt, progress=progress
      )
    )

  @property
  def ledger(self):
    return self.server.ledger("Problem\n")


@pytest.mark.parametrize("fault", fault_server.NOT_TAKEN)
def test_what_the_server_did_not_take_is_sent_again(fault):
  with Line(fault, fault) as line:
    progress = transport.Progress()
    assert line.ask(progress=progress)["usage"]["completion_tokens"] == 4
    assert line.ledger.requests == 3 and line.ledger.generated == 4
    assert line.waits == [0.25, 0.5]  # half of a time that doubles


@pytest.mark.parametrize("fault", ["rate_seconds", "rate_date"])
def test_retry_after_is_honoured(fault):
  clock = {}
  if fault == "rate_date":  # a date has no parts of a second
    clock["now"] = time.time
  with Line(fault, retry_after=9.0, **clock) as line:
    line.ask()
    (wait,) = line.waits
    assert wait == 9.0 if fault == "rate_seconds" else 7.0 < wait <= 9.0


def test_a_server_that_asks_for_too_long_a_wait_is_given_up():
  with Line("rate_seconds", retry_after=90.0) as line:
    with pytest.raises(transport.EndpointError) as caught:
      line.ask()
    assert "asks to wait 90 s; longest_wait_s is 60" in str(caught.value)
    assert not caught.value.again and not caught.value.spent
    assert line.waits == []


def test_retries_end():
  with Line(*["unavailable"] * 9, retries=3) as line:
    with pytest.raises(transport.EndpointError, match="503 busy, after 4"):
      line.ask()
    assert line.ledger.requests == 4


@pytest.mark.parametrize("fault", fault_server.LOST)
def test_a_lost_reply_is_left_to_the_caller(fault):
  with Line(fault, read_s=0.2, reply_bytes=1 << 16) as line:
    with pytest.raises(transport.EndpointError) as caught:
      line.ask()
    assert caught.value.again and caught.value.spent
    assert "\n" not in str(caught.value) and line.server.url in str(
      caught.value
    )
    assert line.ledger.requests == 1 and line.waits == []
    line.ask(attempt=1)
    assert line.ledger.requests == 2 and line.waits == [0.25]


def test_the_last_lost_reply_says_that_it_is_the_last():
  with Line("error", retries=2) as line:
    with pytest.raises(transport.EndpointError) as caught:
      line.ask(attempt=2)
    assert "500 out of memory, after 3 attempts" in str(caught.value)
    assert caught.value.spent and not caught.value.again


def test_a_slow_attempt_is_cut_off_as_a_whole():
  with Line("delay", total_s=0.2) as line:
    with pytest.raises(transport.EndpointError, match="no reply in time"):
      line.ask()


def test_a_server_that_is_not_there_costs_nothing():
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with Line(url=url, retries=2) as line:
      progress = transport.Progress()
      with pytest.raises(transport.EndpointError) as caught:
        line.ask(progress=progress)
      assert "cannot be reached" in str(caught.value)
      assert not caught.value.spent and not progress.sent
      assert len(line.waits) == 2


def test_refusals_are_final():
  with Line(key="right") as line:
    with pytest.raises(transport.EndpointError, match="401 wrong key") as got:
      line.ask()
    assert not got.value.again and not got.value.spent and not line.waits


def test_pages_that_are_not_there():
  with Line() as line:
    with pytest.raises(transport.EndpointError, match="404 no such page"):
      line.transport.call(line.transport.get("/nothing"))
    with pytest.raises(transport.EndpointError, match=":[0-9]*/rank: 404 Not"):
      line.transport.call(line.transport.post("//rank", {}))


def test_no_more_requests_in_flight_than_allowed():
  hold = threading.Event()
  with Line(concurrency=3, hold=hold) as line:
    asked = [
      line.transport.start(line.transport.post("/completions", _ASKED))
      for _ in range(12)
    ]
    # The first three are at work; none of the others can begin before.
    for _ in range(3):
      assert line.server.arrived.acquire(timeout=10)
    hold.set()
    for future in asked:
      future.result()
    assert line.server.busiest == 3
    assert line.ledger.requests == 12


def test_the_key_is_sent_and_never_shown(monkeypatch, caplog):
  monkeypatch.setenv("TINY_KEY", "sk-secret-123")
  caplog.set_level(logging.DEBUG)
  with Line(key="sk-secret-123", key_variable="TINY_KEY") as line:
    line.ask()
    assert line.server.headers["authorization"] == "Bearer sk-secret-123"
  with Line(key="other", echo=True, key_variable="TINY_KEY") as line:
    with pytest.raises(transport.EndpointError, match="wrong key") as caught:
      line.ask()
  shown = [str(caught.value), repr(line.transport.connection), caplog.text]
  shown += [repr(vars(line.transport)["_client"])]
  assert "Bearer ***" in shown[0]
  assert all("secret" not in text for text in shown)
  assert caught.value.__cause__ is None


def test_closing_drops_what_is_in_flight():
  hold = threading.Event()
  with Line(hold=hold) as line:
    line.transport.start(line.transport.post("/completions", _ASKED))
    assert line.server.arrived.acquire(timeout=10)
    line.transport.close()
    line.transport.close()
    hold.set()
