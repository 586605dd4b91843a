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
from collections.abc import Iterator, Sequence
import dataclasses

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import driver
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.serving import errors, turn_queue
from jaxttc.serving import handle as handle_lib
from jaxttc.solving import decoder_text

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


class SearchQueue(turn_queue.TurnQueue[SearchOrder, search_lib.SearchResult]):
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
    super().__init__("searches")
    self._models = (policy, verifier)
    self._settings, self._slots = settings, slots
    self._engines: collections.OrderedDict[str, _Engines] = (
      collections.OrderedDict()
    )

  def warm_up(self, order: SearchOrder) -> None:
    """Compiles for a search's decoder, before `start`."""
    for _ in self._results([SearchHandle(order, lambda outcome: None)]):
      pass

  def _turn(self, waiting: Sequence[SearchOrder]) -> list[int]:
    """The first search, and what can be driven with it."""
    batch: dict[str, int] = {}
    for index, order in enumerate(waiting):
      if len(batch) >= _TURNS * self._slots:
        break
      # Names make keys, so the driver wants them unique.
      if order.text == waiting[0].text and order.name not in batch:
        batch[order.name] = index
    return list(batch.values())

  def _recover(self, batch: Sequence[SearchHandle]) -> None:
    self._engines.pop(batch[0].order.text, None)

  def _results(
    self, batch: Sequence[SearchHandle]
  ) -> Iterator[tuple[int, search_lib.SearchResult]]:
    first = self._ready(batch[0].order)
    results = driver.drive(
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
    return ((result.problem, result) for result in results)

  def _ready(self, order: SearchOrder) -> _Engines:
    """The engines of a decoder; the ones used longest ago make room."""
    if order.text not in self._engines:
      settings = self._settings
      checks = decoder_text.parse(order.text).verifications
      if checks is not None:
        own = dataclasses.replace(settings.checks, samples=checks)
        settings = dataclasses.replace(settings, checks=own)
      engine, verifier = driver.local_engines(
        *self._models,
        order.decoder,
        settings,
        slots=self._slots,
        row_samplers=True,
      )
      self._engines[order.text] = _Engines(order.decoder, engine, verifier)
    self._engines.move_to_end(order.text)
    while len(self._engines) > _KEPT:
      self._engines.popitem(last=False)
    return self._engines[order.text]
