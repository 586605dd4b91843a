# SPDX-License-Identifier: Apache-2.0
"""Who is let in, who is refused, and how it ends."""

from concurrent import futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import httpx
import openai
import pytest

from jaxttc import serving
from jaxttc.inference import bundle
from jaxttc.serving import server as server_lib

_BODY = {"model": "tiny", "prompt": "Solve 3 + 4 .\n", "max_tokens": 24}
_ROOT = pathlib.Path(__file__).resolve().parents[2]


def _post(url, **fields):
  return httpx.post(
    f"{url}/v1/completions", json=_BODY | {"seed": 1} | fields, timeout=120
  )


def _metric(url, name):
  for line in httpx.get(f"{url}/metrics").text.splitlines():
    if line.startswith(f"{name} "):
      return float(line.split()[1])
  raise AssertionError(f"no metric {name}")


def _until(reached):
  """Asks until it is so; the time-out of the test ends what never comes."""
  while not reached():
    pass


def test_a_full_queue_refuses_and_says_when_to_come_again(gated):
  with (
    gated(requests=1, queue=1) as (service, url),
    futures.ThreadPoolExecutor() as pool,
  ):
    first = pool.submit(_post, url)
    _until(lambda: _metric(url, "jaxttc_active_requests") == 1)
    second = pool.submit(_post, url)
    _until(lambda: _metric(url, "jaxttc_queued_requests") == 1)
    third = _post(url)
    assert third.status_code == 429
    assert int(third.headers["Retry-After"]) >= 1
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert third.json()["error"]["code"] == "queue_full"
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    with pytest.raises(openai.RateLimitError, match="try again later"):
      client.completions.create(**_BODY)
    service.open()
    texts = [f.result().json()["choices"][0]["text"] for f in (first, second)]
    assert texts[0] == texts[1]
    assert _metric(url, "jaxttc_active_requests") == 0


def test_a_client_that_goes_takes_its_rows_along(gated, long_seed):
  with gated() as (service, url):
    body = _BODY | {"seed": long_seed, "stream": True, "n": 3}
    with httpx.stream("POST", f"{url}/v1/completions", json=body) as reply:
      service.permits.release()  # a segment: four tokens
      assert next(reply.iter_lines()).startswith("data: ")
      assert service.scheduler.running == 2
    _until(lambda: _metric(url, "jaxttc_active_requests") == 0)
    service.permits.release(2)
    _until(lambda: service.scheduler.running + service.scheduler.waiting == 0)


def test_a_client_that_goes_before_its_reply_makes_room(gated):
  with gated(requests=1, queue=5) as (service, url):
    content = json.dumps(_BODY).encode()
    head = (
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
      f"Content-Length: {len(content)}\r\n\r\n"
    )
    host, port = url.removeprefix("http://").split(":")
    lines = []
    for name in ("active", "queued"):
      lines.append(socket.create_connection((host, int(port))))
      lines[-1].sendall(head.encode() + content)
      _until(lambda name=name: _metric(url, f"jaxttc_{name}_requests") == 1)
    lines[1].close()
    _until(lambda: _metric(url, "jaxttc_queued_requests") == 0)
    lines[0].close()
    _until(lambda: _metric(url, "jaxttc_active_requests") == 0)
    service.permits.release(2)
    _until(lambda: service.scheduler.running == 0)
    service.open()
    assert _post(url).status_code == 200


def test_a_failing_engine_costs_its_requests_and_no_others(gated):
  with (
    gated() as (service, url),
    futures.ThreadPoolExecutor() as pool,
  ):
    lost = pool.submit(_post, url)
    _until(lambda: service.scheduler.running == 1)
    service.scheduler._engine._table = None  # as a bug would leave it
    service.open()
    assert lost.result().status_code == 500
    error = lost.result().json()["error"]
    assert error["type"] == "server_error" and "log" in error["message"]
    assert _post(url).status_code == 200
    assert _metric(url, "jaxttc_engine_restarts") == 1


def test_the_end_lets_finish_what_runs_and_refuses_what_waits(gated):
  with futures.ThreadPoolExecutor() as pool:
    with gated(requests=1, queue=5, opens=False) as (service, url):
      runs = pool.submit(_post, url)
      _until(lambda: _metric(url, "jaxttc_active_requests") == 1)
      waits = pool.submit(_post, url)
      _until(lambda: _metric(url, "jaxttc_queued_requests") == 1)
      pool.submit(lambda: (waits.result(), service.open()))
    assert waits.result().status_code == 503
    assert "shutting down" in waits.result().json()["error"]["message"]
    assert runs.result().status_code == 200


def test_the_end_refuses_what_does_not_finish_in_time(gated, long_seed):
  with futures.ThreadPoolExecutor() as pool:
    with gated(drain_s=0.0, opens=False) as (service, url):
      abort = service.abort
      service.abort = lambda error: (abort(error), service.open())
      whole = pool.submit(_post, url, seed=long_seed)
      streamed = pool.submit(_post, url, seed=long_seed, stream=True)
      _until(lambda: _metric(url, "jaxttc_active_requests") == 2)
    assert whole.result().status_code == 503
    last = streamed.result().text.strip().splitlines()[-1]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert "shutting down" in error["message"]


def test_the_key_is_asked_for_and_never_shown(gated):
  with gated(key="s3cret-é") as (service, url):
    service.open()
    path = f"{url}/v1/completions"
    for headers in (
      {},
      {"Authorization": "Bearer wrong"},
      {"Authorization": "Basic s3cret"},
      {"Authorization": "Bearer \xff".encode("latin-1")},
    ):
      reply = httpx.post(path, json=_BODY, headers=headers)
      assert reply.status_code == 401
      assert reply.json()["error"]["code"] == "invalid_api_key"
      assert "s3cret" not in reply.text
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/health").status_code == 200
    key = {"Authorization": "Bearer s3cret-é".encode()}
    assert httpx.post(path, json=_BODY, headers=key).status_code == 200


def test_keys_come_from_the_environment(monkeypatch):
  monkeypatch.setenv("JAXTTC_TEST_KEY", " abc\n")
  assert server_lib.api_key("JAXTTC_TEST_KEY") == "abc"
  assert server_lib.api_key("") is None
  monkeypatch.setenv("JAXTTC_TEST_KEY", "")
  with pytest.raises(ValueError, match="JAXTTC_TEST_KEY is not set; expected"):
    server_lib.api_key("JAXTTC_TEST_KEY")


def test_an_address_that_is_taken_is_one_line():
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    with pytest.raises(ValueError, match=f"cannot listen at 127.0.0.1:{port}"):
      server_lib.serve(serving.ServeRecipe(), port=port)


def _script(*arguments):
  return subprocess.Popen(
    [sys.executable, str(_ROOT / "scripts" / "serve.py"), *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu"},
  )


@pytest.mark.slow
def test_the_script_serves_until_it_is_told_to_stop(models, tmp_path):
  path = tmp_path / "tiny.safetensors"
  bundle.save(str(path), models[0])
  program = _script(
    "--port=0",
    f"--config.policy={path}",
    "--config.verifier=",
    "--config.warm_tokens=0",
    "--config.slots=2",
  )
  line = ""
  while "serving at" not in line:
    line = program.stdout.readline()
    assert line, "the program ended"
  url = line.split()[-1].removesuffix("/v1")
  assert _post(url).json()["usage"]["completion_tokens"] > 0
  search = _post(url, budget={"generated_tokens": 50})
  assert search.status_code == 400
  assert "this server has no verifier" in search.json()["error"]["message"]
  program.send_signal(signal.SIGTERM)
  rest = program.communicate(timeout=60)[0]
  assert program.returncode == 0
  assert "Traceback" not in rest


@pytest.mark.slow
def test_the_script_says_in_one_line_what_it_cannot_serve():
  program = _script("--port=0", "--config.policy=nowhere")
  out = program.communicate(timeout=60)[0]
  assert program.returncode == 1
  line = "serve.py: no model named 'nowhere' ships"
  assert out.strip().splitlines()[-1].startswith(line)
  assert "Traceback" not in out


def test_threads_end_with_the_server(gated):
  before = set(threading.enumerate())
  with gated() as (service, _):
    service.open()
  left = {t.name for t in set(threading.enumerate()) - before}
  assert not left & {"scheduler", "searches", "server"}
