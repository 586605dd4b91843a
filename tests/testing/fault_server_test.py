# SPDX-License-Identifier: Apache-2.0
import json
import urllib.error
import urllib.request

import pytest

from jaxttc.testing import fault_server


def _post(server, path="/v1/completions", **payload):
  body = {"prompt": "Problem\n\n", "max_tokens": 30, "seed": 3, **payload}
  request = urllib.request.Request(
    server.url.removesuffix("/v1") + path, json.dumps(body).encode()
  )
  with urllib.request.urlopen(request, timeout=10) as response:
    return json.load(response)


@pytest.mark.parametrize("keeps", [False, True])
def test_stop_strings_and_the_end_of_a_text(keeps):
  with fault_server.FaultServer() as server:
    step = _post(server, stop=["\n\n"], include_stop_str_in_output=keeps)
    (choice,) = step["choices"]
    assert choice["stop_reason"] == "\n\n" and choice["finish_reason"] == "stop"
    assert choice["text"].endswith("\n\n") == keeps
    (whole,) = _post(server)["choices"]
    assert whole["text"].startswith(choice["text"])
    assert "####" in whole["text"] and whole["stop_reason"] is None
    books = server.ledger("Problem\n\n")
    assert (
      books.told
      == books.generated
      == (len(choice["text"].split()) + len(whole["text"].split()) + 1)
    )


@pytest.mark.parametrize("limit", [1, 4, 9])
def test_limits_count_the_end_of_a_text(limit):
  with fault_server.FaultServer() as server:
    body = _post(server, max_tokens=limit)
    assert body["usage"]["completion_tokens"] <= limit
    assert body["choices"][0]["finish_reason"] == "length"


def test_texts_and_their_tokens_are_the_same_prompt():
  with fault_server.FaultServer() as server:
    ids = _post(server, "/tokenize", prompt="Problem\n\nso 4\n\n")["tokens"]
    assert ids == server.ids("Problem\n\nso 4\n\n") and ids[0] == 0
    by_ids = _post(server, prompt=ids)
    assert by_ids == _post(server, prompt="Problem\n\nso 4\n\n")
    assert by_ids["usage"]["prompt_tokens"] == len(ids)


def test_random_faults_depend_on_the_request_and_pass():
  schedule = fault_server.at_random(0.5, most=2)
  bodies = [b"%d" % i for i in range(400)]
  first = [schedule(body, 0) for body in bodies]
  assert first == [schedule(body, 0) for body in bodies]
  assert 0.4 < sum(map(bool, first)) / 400 < 0.6
  assert set(first) == {"", *fault_server.FAULTS}
  assert not any(schedule(body, 2) for body in bodies)
  assert first != [fault_server.at_random(0.5, salt=1)(b, 0) for b in bodies]


def test_faults_are_written_down():
  faults = iter(["error", "no_usage", ""])
  with fault_server.FaultServer(schedule=lambda *_: next(faults)) as server:
    with pytest.raises(urllib.error.HTTPError, match="500"):
      _post(server)
    assert "usage" not in _post(server)
    told = _post(server)["usage"]["completion_tokens"]
    books = server.ledger("Problem\n\n")
    assert (books.requests, books.told, books.generated) == (3, told, 2 * told)
    assert books.faults == {"error": 1, "no_usage": 1}
