# SPDX-License-Identifier: Apache-2.0
"""Served models for tests: a script behind a socket, and lines to it."""

import zlib

import pytest

from jaxttc.inference import endpoint
from jaxttc.inference.endpoint import transport
from jaxttc.testing import fault_server


def classify():
  """Classes by what follows the marker."""

  def of(text):
    _, marker, answer = text.partition("####")
    return zlib.crc32(answer.strip().encode()) & 0xFFFF if marker else -1

  return of


@pytest.fixture
def serve():
  """Makes a server and a function that makes engines for it; ends both."""
  opened = []

  def make(**options):
    server = fault_server.FaultServer(**options)
    server.__enter__()
    waits = []

    async def sleep(seconds):
      waits.append(seconds)

    def engine(sampler=None, needs=(), groups=4, connection=None, **spec):
      spec = endpoint.EndpointSpec(
        connection=endpoint.Connection(
          **({"url": server.url, "read_s": 0.3} | (connection or {}))
        ),
        **({"model": "tiny"} | spec),
      )
      line = transport.Transport(spec.connection, sleep=sleep)
      made = endpoint.EndpointEngine(
        spec,
        classify=classify,
        needs=needs,
        groups=groups,
        line=line,
        **({} if sampler is None else {"sampler": sampler}),
      )
      opened.append(made)
      return made

    server.waits = waits
    opened.append(server)
    return server, engine

  yield make
  for one in opened:
    if isinstance(one, fault_server.FaultServer):
      one.__exit__()
    else:
      one.shutdown()
