# SPDX-License-Identifier: Apache-2.0
import contextlib

import pytest

from jaxttc.inference import controllers, endpoint
from jaxttc.inference.endpoint import servers, transport
from jaxttc.testing import fault_server


@contextlib.contextmanager
def _probed(path="/v1", model="tiny", key_variable="", **options):
  with fault_server.FaultServer(lambda prefix, seed: "", **options) as server:
    url = server.url.removesuffix("/v1") + path
    line = transport.Transport(
      endpoint.Connection(url=url, key_variable=key_variable)
    )
    try:
      yield servers.probe(line, model)
    finally:
      line.close()


@pytest.mark.parametrize("owner", ["vllm", "sglang", "llamacpp"])
def test_known_servers_are_recognised(owner):
  with _probed(owner=owner) as (server, entry):
    assert server.name == owner and entry["max_model_len"] == 4096


def test_unknown_servers_offer_little():
  with _probed(owner="someone") as (server, _):
    assert server.name == "" and server.offers == {"seeds", "logprobs"}


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"model": "big"}, "there is no model 'big'; it serves 'tiny'"),
    ({"path": ""}, "404 no such page; no OpenAI-compatible server answers"),
    ({"key": "right"}, "401 wrong key; name the environment variable with"),
    (
      {"key": "right", "key_variable": "TINY_KEY"},
      "401 wrong key; the key in TINY_KEY was not accepted",
    ),
  ],
)
def test_what_cannot_be_used_is_refused_at_once(monkeypatch, options, message):
  monkeypatch.setenv("TINY_KEY", "hush")
  with pytest.raises(ValueError, match=message) as caught:
    with _probed(**options):
      pass
  assert "\n" not in str(caught.value) and "hush" not in str(caught.value)


@pytest.mark.parametrize(
  ("server", "sampler", "needs", "lacking"),
  [
    ("vllm", {}, ["hidden_states"], "hidden_states"),
    ("vllm", {}, ["logit_controllers", "seeds"], "logit_controllers"),
    ("llamacpp", {}, ["stop_reason"], "stop_reason"),
    ("", {"top_k": 4}, [], "top_k"),
    ("", {"min_p": 0.1, "repetition_penalty": 1.1}, [], "min_p, repetition"),
  ],
)
def test_what_a_server_lacks_is_named(server, sampler, needs, lacking):
  sampler = controllers.Sampler(**sampler)
  with pytest.raises(ValueError, match=f"does not offer {lacking}"):
    servers.require(servers.SERVERS[server], "http://x", sampler, needs)


def test_what_a_server_offers_passes():
  sampler = controllers.Sampler(top_k=4, min_p=0.1, repetition_penalty=1.1)
  servers.require(servers.SERVERS["vllm"], "http://x", sampler, ["seeds"])
  with pytest.raises(ValueError, match="unknown capability 'magic'"):
    servers.require(servers.SERVERS["vllm"], "http://x", sampler, ["magic"])
