# SPDX-License-Identifier: Apache-2.0
"""Requests that bring a budget: searches, several of one decoder together.

One thread runs `driver.drive` on engines of its own, beside the scheduler of
plain completions: it takes the searches that wait for the decoder of the one
that came first, drives them together, each under its own budget, and goes on
with what has come meanwhile. Engines are kept for the decoders used last.

A search is a function of its prompt, seed, sampler, decoder and budget, not of
those it is driven with.
"""

import collections
from collections.abc import Callable, Iterator
import dataclasses
import logging
import threading

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import driver
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.serving import errors
from jaxttc.serving import handle as handle_lib

_KEPT = 4  # decoders whose engines are kept
_TURNS = 4  # most searches a turn, in times of those that run at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOrder:
  """One search.

  Attributes:
    text: the decoder as written; searches of one text run together.
    decoder: what it builds.
    prompt: what the policy continues.
    budget: most that may be spent.
    sampler: how tokens are drawn.
    seed: of all sampling.
  """

  text: str
  decoder: base.Decoder
  prompt: str
  budget: budget_lib.Budget
  sampler: controllers.Sampler
  seed: int

  @property
  def name(self) -> str:
    """What the driver makes the search's random key of."""
    return f"{self.seed}/{self.prompt}"


Outcome = search_lib.SearchResult | errors.ApiError
SearchHandle = handle_lib.Handle[SearchOrder, Outcome]


@dataclasses.dataclass(frozen=True)
class _Engines:
  """What runs the searches of one decoder, which is compiled once."""

  decoder: base.Decoder
  engine: engine_lib.Engine
  verifier: engine_lib.Verifier | None


class SearchQueue:
  """Runs searches; see the module docstring."""

  def __init__(
    self,
    policy: bundle_lib.Bundle,
    verifier: bundle_lib.Bundle | None,
    settings: settings_lib.SearchSettings,
    *,
    slots: int,
  ):
    """A queue whose thread has not begun.

    Args:
      policy: the language model.
      verifier: the reward model; None if no decoder needs one.
      settings: sizes.
      slots: searches driven at once.
    """
    self._models = (policy, verifier)
    self._settings, self._slots = settings, slots
    self._engines: collections.OrderedDict[str, _Engines] = (
      collections.OrderedDict()
    )
    self._waiting: list[SearchHandle] = []
    self._driven: dict[int, SearchHandle] = {}  # without a result yet
    self._changed = threading.Condition()
    self._closed = False
    # A second signal ends the process without waiting for it.
    self._thread = threading.Thread(
      target=self._run, name="searches", daemon=True
    )

  @property
  def running(self) -> int:
    """Searches being driven, or about to be."""
    return len(self._driven)

  @property
  def waiting(self) -> int:
    """Searches that another turn will drive."""
    return len(self._waiting)

  def start(self) -> None:
    """Begins the thread; once."""
    self._thread.start()

  def warm_up(self, order: SearchOrder) -> None:
    """Compiles for a search's decoder, before `start`."""
    for _ in self._results([SearchHandle(order, lambda outcome: None)]):
      pass

  def submit(
    self, order: SearchOrder, deliver: Callable[[Outcome], None]
  ) -> SearchHandle:
    """Takes a search; `deliver` is given its result, in the queue's thread.

    Raises:
      ApiError: 503, after `close`.
    """
    handle = SearchHandle(order, deliver)
    with self._changed:
      if self._closed:
        raise errors.closing()
      self._waiting.append(handle)
      self._changed.notify()
    return handle

  def abort(self, error: errors.ApiError) -> None:
    """Ends all that runs or waits with an error."""
    with self._changed:
      handles = [*self._driven.values(), *self._waiting]
      self._waiting = []
    for handle in handles:
      if not handle.cancelled:
        handle.cancel()
        handle.deliver(error)

  def close(self) -> None:
    """Ends the thread; what still runs or waits gets a 503."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    self.abort(errors.closing())
    if self._thread.is_alive():
      self._thread.join()

  def _run(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(lambda: self._waiting or self._closed)
        if self._closed:
          return
        batch = self._take()
        self._driven = dict(enumerate(batch))
      if batch:
        self._drive(batch)

  def _take(self) -> list[SearchHandle]:
    """The next turn: the first search, and what can be driven with it."""
    self._waiting = [h for h in self._waiting if not h.cancelled]
    batch: dict[str, SearchHandle] = {}
    for handle in self._waiting:
      order = handle.order
      if len(batch) >= _TURNS * self._slots:
        break
      # Names make keys, so the driver wants them unique.
      if order.text == self._waiting[0].order.text and order.name not in batch:
        batch[order.name] = handle
    taken = set(map(id, batch.values()))
    self._waiting = [h for h in self._waiting if id(h) not in taken]
    return list(batch.values())

  def _drive(self, batch: list[SearchHandle]) -> None:
    try:
      for result in self._results(batch):
        with self._changed:
          handle = self._driven.pop(result.problem)
        if not handle.cancelled:
          handle.deliver(result)
    except Exception:
      logging.exception("a search failed; its engines are made anew")
      self._engines.pop(batch[0].order.text, None)
      with self._changed:
        left, self._driven = list(self._driven.values()), {}
      for handle in left:
        if not handle.cancelled:
          handle.deliver(errors.failed())

  def _results(
    self, batch: list[SearchHandle]
  ) -> Iterator[search_lib.SearchResult]:
    first = self._ready(batch[0].order)
    return driver.drive(
      first.engine,
      first.verifier,
      first.decoder,
      [handle.order.prompt for handle in batch],
      [handle.order.name for handle in batch],
      budget=[handle.order.budget for handle in batch],
      samplers=[handle.order.sampler for handle in batch],
      settings=self._settings,
      cancelled=lambda i: batch[i].cancelled,
    )

  def _ready(self, order: SearchOrder) -> _Engines:
    """The engines of a decoder; the ones used longest ago make room."""
    if order.text not in self._engines:
      engine, verifier = driver.local_engines(
        *self._models,
        order.decoder,
        self._settings,
        slots=self._slots,
        row_samplers=True,
      )
      self._engines[order.text] = _Engines(order.decoder, engine, verifier)
    self._engines.move_to_end(order.text)
    while len(self._engines) > _KEPT:
      self._engines.popitem(last=False)
    return self._engines[order.text]
