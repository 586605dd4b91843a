# SPDX-License-Identifier: Apache-2.0
"""A real server over a tiny model, for all tests of the room."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import threading

import openai
import pytest

from jaxttc import serving
from jaxttc.inference import local_engine
from jaxttc.serving import server as server_lib
from jaxttc.solving import solve_recipe
from jaxttc.testing import tiny_models

DECODER = "astar(children=2, nodes=24, max_steps=4)"


def _recipe(**changes) -> serving.ServeRecipe:
  """Small sizes; nothing is compiled before it is needed."""
  return dataclasses.replace(
    serving.ServeRecipe(
      policy="tiny",
      decoder=DECODER,
      budget="generated_tokens=200",
      sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=24),
      slots=4,
      steps=4,
      searches=2,
      warm_tokens=0,
    ),
    **changes,
  )


class GatedEngine(local_engine.LocalEngine):
  """An engine whose segments wait for a permit each."""

  permits: threading.Semaphore

  def step(self):
    self.permits.acquire()
    return super().step()


class GatedService(serving.Service):
  """A service whose engine runs a segment a permit."""

  def __init__(self, *args):
    self.permits = threading.Semaphore(0)
    super().__init__(*args)

  def _make_engine(self):
    engine = super()._make_engine()
    engine.__class__ = GatedEngine
    engine.permits = self.permits
    return engine

  def open(self) -> None:
    """Lets the engine run from now on."""
    self.permits.release(1_000_000)


@dataclasses.dataclass(frozen=True)
class Running:
  """A server that is up."""

  url: str
  service: serving.Service

  def client(self, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(
      base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120
    )


@pytest.fixture(scope="session")
def models():
  return tiny_models.tiny_bundles(0)


@pytest.fixture(scope="session")
def server(models) -> Iterator[Running]:
  """The server that tests share, as its programs are its own."""
  service = serving.Service(_recipe(), *models)
  with server_lib.running(service) as url:
    yield Running(url, service)


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
  return server.client()


@pytest.fixture(scope="session")
def gated(models) -> Callable[..., contextlib.AbstractContextManager]:
  """Servers whose engine stands still until it is given permits."""

  @contextlib.contextmanager
  def serve(*, key=None, opens=True, **limits):
    """Yields a service and its URL; it may run on at the end if `opens`."""
    recipe = _recipe(limits=serving.Limits(**limits), slots=2)
    service = GatedService(recipe, *models)
    try:
      with server_lib.running(service, key=key) as url:
        try:
          yield service, url
        finally:
          if opens:
            service.open()
    finally:
      service.open()

  return serve


@pytest.fixture(scope="session")
def long_seed(client) -> int:
  """A seed whose completion of "Solve 3 + 4 ." has many tokens."""
  for seed in range(99):
    reply = client.completions.create(
      model="tiny", prompt="Solve 3 + 4 .\n", max_tokens=24, seed=seed
    )
    if reply.usage.completion_tokens >= 16:
      return seed
  raise AssertionError("no seed writes 16 tokens")
