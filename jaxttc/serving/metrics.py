# SPDX-License-Identifier: Apache-2.0
"""What a server counts, for Prometheus to collect."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import prometheus_client
from prometheus_client import exposition

from jaxttc.cost import costs
from jaxttc.serving import admission as admission_lib
from jaxttc.serving import routed_service

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
  """Counters and gauges of one server, in a registry of their own."""

  def __init__(
    self,
    service: routed_service.AnyService,
    admission: admission_lib.Admission,
  ):
    """Everything at zero.

    Args:
      service: whose threads the gauges look at; of several models, all
        together.
      admission: whose queue they look at.
    """
    self._registry = prometheus_client.CollectorRegistry()
    self._requests = self._counter(
      "requests", "Replies, by path and HTTP status.", ("path", "status")
    )
    self._seconds = prometheus_client.Histogram(
      "jaxttc_request_seconds",
      "Time from a request's arrival to the end of its reply.",
      ("path",),
      buckets=_SECONDS,
      registry=self._registry,
    )
    self._prompt = self._counter("prompt_tokens", "Tokens of prompts.")
    self._completion = self._counter("completion_tokens", "Tokens sampled.")
    self._cost = self._counter(
      "search_cost", "Spent by searches, by field of Cost.", ("field",)
    )
    schedulers = [part.scheduler for part in service.parts]
    searches = [part.searches for part in service.parts]
    thoughts = [p.thoughts for p in service.parts if p.thoughts is not None]
    for name, text, read in (
      ("active_requests", "Worked on.", lambda: admission.active),
      ("queued_requests", "Waiting.", lambda: admission.waiting),
    ):
      self._gauge(name, text, read)
    for name, text, parts, field in (
      ("running_rows", "Completions sampled.", schedulers, "running"),
      ("waiting_rows", "Completions waiting.", schedulers, "waiting"),
      ("rows", "Completions sampled at most.", schedulers, "groups"),
      ("running_searches", "Searches driven.", searches, "running"),
      ("waiting_searches", "Searches waiting.", searches, "waiting"),
      (
        "compiled_programs",
        "Programs of the engine; steady once it is warm.",
        schedulers,
        "compilations",
      ),
      ("segments", "Engine segments run.", schedulers, "segments"),
      ("filled_rows", "Busy rows, over segments.", schedulers, "filled"),
      ("engine_restarts", "Engines lost.", schedulers, "restarts"),
      ("running_thoughts", "Thought about.", thoughts, "running"),
      ("waiting_thoughts", "Not yet.", thoughts, "waiting"),
    ):
      if parts:
        self._gauge(name, text, functools.partial(_total, parts, field))

  def _gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
    gauge = prometheus_client.Gauge(
      f"jaxttc_{name}", text, registry=self._registry
    )
    gauge.set_function(read)

  def _counter(
    self, name: str, text: str, labels: tuple[str, ...] = ()
  ) -> prometheus_client.Counter:
    return prometheus_client.Counter(
      f"jaxttc_{name}", text, labels, registry=self._registry
    )

  def replied(self, path: str, status: int, seconds: float) -> None:
    """Counts a reply."""
    self._requests.labels(path, str(status)).inc()
    self._seconds.labels(path).observe(seconds)

  def used(self, prompt_tokens: int, completion_tokens: int) -> None:
    """Counts the tokens of a reply."""
    self._prompt.inc(prompt_tokens)
    self._completion.inc(completion_tokens)

  def spent(self, cost: costs.Cost) -> None:
    """Counts the cost of a search."""
    for field, value in cost.as_dict().items():
      self._cost.labels(field).inc(value)

  def page(self) -> bytes:
    """What Prometheus reads."""
    return exposition.generate_latest(self._registry)


def _total(parts: Sequence[Any], field: str) -> float:
  return float(sum(getattr(part, field) for part in parts))
