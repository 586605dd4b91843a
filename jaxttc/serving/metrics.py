# SPDX-License-Identifier: Apache-2.0
"""What a server counts, for Prometheus to collect."""

from collections.abc import Callable

import prometheus_client
from prometheus_client import exposition

from jaxttc.cost import costs
from jaxttc.serving import admission as admission_lib
from jaxttc.serving import service as service_lib

CONTENT_TYPE = exposition.CONTENT_TYPE_LATEST
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
  """Counters and gauges of one server, in a registry of their own."""

  def __init__(
    self, service: service_lib.Service, admission: admission_lib.Admission
  ):
    """Everything at zero.

    Args:
      service: whose threads the gauges look at.
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
    scheduler, searches = service.scheduler, service.searches
    for name, text, read in (
      ("active_requests", "Worked on.", lambda: admission.active),
      ("queued_requests", "Waiting.", lambda: admission.waiting),
      ("running_rows", "Completions sampled.", lambda: scheduler.running),
      ("waiting_rows", "Completions waiting.", lambda: scheduler.waiting),
      ("rows", "Completions sampled at most.", lambda: scheduler.groups),
      ("running_searches", "Searches driven.", lambda: searches.running),
      ("waiting_searches", "Searches waiting.", lambda: searches.waiting),
      (
        "compiled_programs",
        "Programs of the engine; steady once it is warm.",
        lambda: scheduler.compilations,
      ),
      ("segments", "Engine segments run.", lambda: scheduler.segments),
      ("filled_rows", "Busy rows, over segments.", lambda: scheduler.filled),
      ("engine_restarts", "Engines lost.", lambda: scheduler.restarts),
    ):
      self._gauge(name, text, read)
    if (thoughts := service.thoughts) is not None:
      self._gauge(
        "running_thoughts", "Thought about.", lambda: thoughts.running
      )
      self._gauge("waiting_thoughts", "Not yet.", lambda: thoughts.waiting)

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
