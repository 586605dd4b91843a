# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.inference import endpoint


def test_the_key_is_that_of_the_variable(monkeypatch):
  monkeypatch.setenv("TINY_KEY", " sk-1 \n")
  url = "http://x/v1"
  named = endpoint.Connection(url=url, key_variable="TINY_KEY")
  assert named.key() == "sk-1" and "sk-1" not in repr(named)
  assert endpoint.Connection(url=url).key() == ""


@pytest.mark.parametrize("value", [None, "", "  ", "sk\nsecret", "sk-\xe9"])
def test_keys_that_cannot_be(monkeypatch, value):
  monkeypatch.delenv("TINY_KEY", raising=False)
  if value is not None:
    monkeypatch.setenv("TINY_KEY", value)
  connection = endpoint.Connection(url="http://x/v1", key_variable="TINY_KEY")
  with pytest.raises(ValueError, match="variable TINY_KEY holds") as caught:
    connection.key()
  assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"url": "localhost:8000/v1"}, "url must be of the form"),
    ({"url": "http://[::1/v1"}, "url must be of the form"),
    ({"url": "http://host:99999/v1"}, "url must be of the form"),
    ({"url": "ftp://host/v1"}, "url must be of the form"),
    ({"url": "http://me:hush@host/v1"}, "must hold no user, password or"),
    ({"url": "http://host/v1?key=hush"}, "must hold no user, password or"),
    ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
    ({"retries": -1}, "retries must be at least 0, got -1"),
    ({"reply_bytes": 0}, "reply_bytes must be at least 1"),
    ({"read_s": 0.0}, "read_s must be positive and finite"),
    ({"total_s": float("inf")}, "total_s must be positive and finite"),
    ({"first_wait_s": 99.0}, r"first_wait_s must lie in 0\.\.longest_wait_s"),
  ],
)
def test_connections_that_cannot_be(change, message):
  options = {"url": "http://localhost:8000/v1", **change}
  with pytest.raises(ValueError, match=message) as caught:
    endpoint.Connection(**options).validate()
  assert "hush" not in str(caught.value)
