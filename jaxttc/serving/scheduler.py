# SPDX-License-Identifier: Apache-2.0
"""Completions that share a batch: one thread, one engine, many requests.

Each completion has a group of the engine to itself, of one row. The thread
turns

    admit    orders that wait get the groups that are free
    step     the engine runs one segment for all of them
    deliver  what was written is handed back, and ended groups are free again

so an order that arrives joins the others within a segment, and none waits for
another to end unless all groups are taken. What an order gets depends on its
own prompt, seed and sampler, not on what runs beside it.

`deliver` is called in this thread and must come back at once.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
import itertools
import logging
import threading
from typing import NamedTuple

from jaxttc.inference import (
  controllers,
  generation,
  local_engine,
  token_scores,
)
from jaxttc.inference import engine as engine_lib
from jaxttc.serving import errors, span_text
from jaxttc.serving import handle as handle_lib

# Prompts read at a time: one of three shapes a length, whatever arrives.
_READ = 4
_NO_SEED = (0,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
  """One completion to sample.

  Attributes:
    prompt: what it continues.
    limit: most tokens to sample.
    sampler: how they are drawn.
    seed: words of randomness; equal orders give equal completions.
    stop: texts that end it.
    stream: whether pieces are wanted before the end.
    scored: whether its tokens' log-probabilities are wanted.
  """

  prompt: engine_lib.Prompt
  limit: int
  sampler: controllers.Sampler
  seed: tuple[int, ...]
  stop: tuple[str, ...] = ()
  stream: bool = False
  scored: bool = False


class Piece(NamedTuple):
  """Text that a completion has got, and its tokens' scores if wanted."""

  text: str
  scores: tuple[token_scores.TokenScore, ...]


class Ended(NamedTuple):
  """The end of a completion.

  Attributes:
    reason: "stop" or "length".
    tokens: how many it has.
  """

  reason: str
  tokens: int


Event = Piece | Ended | errors.ApiError
Handle = handle_lib.Handle[Order, Event]


class _Span:
  """A completion in its group."""

  def __init__(self, handle: Handle, text: span_text.SpanText):
    self.handle, self.order, self.text = handle, handle.order, text
    self.scored = 0  # tokens whose scores were delivered

  @property
  def watched(self) -> bool:
    """Whether its text is wanted before its end."""
    return self.order.stream or bool(self.order.stop)


class Scheduler:
  """Samples orders; see the module docstring.

  Attributes:
    segments: segments run so far.
    filled: rows that had work in them, over all segments.
    restarts: engines lost to an error.
  """

  def __init__(
    self,
    make_engine: Callable[[], local_engine.LocalEngine],
    scorer: token_scores.TokenScorer,
  ):
    """A scheduler whose thread has not begun.

    Args:
      make_engine: makes an engine with row samplers; called again after an
        error, which may have left the old one without its buffers.
      scorer: of the same model.
    """
    self.segments = self.filled = self.restarts = 0
    self._make, self._scorer = make_engine, scorer
    self._engine = make_engine()
    self._running: dict[int, _Span] = {}
    self._waiting: collections.deque[Handle] = collections.deque()
    self._changed = threading.Condition()
    self._error: errors.ApiError | None = None
    self._closed = False
    # A second signal ends the process without waiting for it.
    self._thread = threading.Thread(
      target=self._run, name="scheduler", daemon=True
    )

  @property
  def groups(self) -> int:
    """Completions sampled at once."""
    return self._engine.groups

  @property
  def running(self) -> int:
    """Completions being sampled."""
    return len(self._running)

  @property
  def waiting(self) -> int:
    """Completions without a group."""
    return len(self._waiting)

  @property
  def compilations(self) -> int:
    """Programs that the present engine has traced."""
    return self._engine.compilations

  def start(self) -> None:
    """Begins the thread; once."""
    self._thread.start()

  def warm_up(self, tokens: int) -> None:
    """Compiles for prompts of up to `tokens` tokens, before `start`."""
    policy = self._engine.policy
    longest = min(tokens, policy.config.max_length - 1)
    # The longest first: what grows for it is compiled for all.
    size = generation.bucket(longest)
    while size >= generation.bucket(1):
      for count in (1, 2, _READ):
        if count <= self.groups:
          self._read_blank(min(size, longest), count)
      size //= 2

  def _read_blank(self, length: int, count: int) -> None:
    """Has the engine continue some prompts that say nothing by a token."""
    blank = (self._engine.policy.tokenizer.eos_id,) * length
    prompt = engine_lib.Prompt(text="", tokens=blank)
    self._engine.open(dict.fromkeys(range(count), prompt))
    order = Order(
      prompt=prompt, limit=1, sampler=controllers.Sampler(), seed=_NO_SEED
    )
    self._engine.submit([_request(group, order) for group in range(count)])
    self._engine.step()
    for group in range(count):
      self._engine.close(group)

  def submit(
    self, orders: Sequence[Order], deliver: Callable[[int, Event], None]
  ) -> list[Handle]:
    """Takes orders.

    Args:
      orders: completions to sample.
      deliver: is given an order's index and what came of it, in the thread of
        the scheduler: pieces, and then an end or an error.

    Raises:
      ApiError: 503, after `close`.
    """

    def deliverer(index: int) -> Callable[[Event], None]:
      return lambda event: deliver(index, event)

    handles = [Handle(order, deliverer(i)) for i, order in enumerate(orders)]
    with self._changed:
      if self._closed:
        raise errors.closing()
      self._waiting.extend(handles)
      self._changed.notify()
    return handles

  def abort(self, error: errors.ApiError) -> None:
    """Ends all that runs or waits with an error."""
    with self._changed:
      self._error = error
      self._changed.notify()

  def close(self) -> None:
    """Ends the thread; what still runs or waits gets a 503."""
    with self._changed:
      self._closed = True
      self._changed.notify()
    if self._thread.is_alive():
      self._thread.join()

  def _run(self) -> None:
    while True:
      with self._changed:
        self._changed.wait_for(self._has_work)
        error, self._error = self._error, None
        closed = self._closed
        fresh = {} if error or closed else self._take()
      if error or closed:
        self._fail(error or errors.closing())
        if closed:
          return
        continue
      try:
        self._turn(fresh)
      except Exception:
        logging.exception("the engine failed; it is made anew")
        self._fail(errors.failed(), close=False)
        self._engine = self._make()
        self.restarts += 1

  def _has_work(self) -> bool:
    return bool(self._waiting or self._running or self._error or self._closed)

  def _take(self) -> dict[int, _Span]:
    """Gives free groups to waiting orders, first come, first served."""
    decode = self._engine.policy.tokenizer.decode
    free = (g for g in range(self.groups) if g not in self._running)
    fresh: dict[int, _Span] = {}
    while self._waiting:
      if self._waiting[0].cancelled:
        self._waiting.popleft()
        continue
      group = next(free, None)
      if group is None:
        break
      handle = self._waiting.popleft()
      text = span_text.SpanText(decode, handle.order.stop)
      fresh[group] = _Span(handle, text)
    return fresh

  def _turn(self, fresh: dict[int, _Span]) -> None:
    self._running |= fresh
    for group in [g for g, s in self._running.items() if s.handle.cancelled]:
      self._free(group)
    fresh = {g: span for g, span in fresh.items() if g in self._running}
    opening = iter(fresh.items())
    while part := dict(itertools.islice(opening, _READ)):
      prompts = {g: span.order.prompt for g, span in part.items()}
      self._engine.open(prompts)
    self._engine.submit([_request(g, s.order) for g, s in fresh.items()])
    self.segments += 1
    self.filled += len(self._running)
    done = {completion.group: completion for completion in self._engine.step()}
    for group, span in list(self._running.items()):
      if group in done:
        self._deliver(group, span, done[group].tokens, done[group])
      elif span.watched:
        self._deliver(group, span, self._engine.so_far(group)[0], None)

  def _deliver(
    self,
    group: int,
    span: _Span,
    tokens: tuple[int, ...],
    completion: engine_lib.Completion | None,
  ) -> None:
    """Hands back what a span has got; frees its group if that was all."""
    order, text = span.order, span.text
    piece = text.advance(tokens, ended=completion is not None)
    ended = text.stopped or completion is not None
    scores: list[token_scores.TokenScore] = []
    if order.scored and (ended or order.stream):
      before = [*order.prompt.tokens, *tokens[: span.scored]]
      scores = self._scorer.score(before, tokens[span.scored : text.count])
      span.scored = text.count
    if piece or scores:
      span.handle.deliver(Piece(piece, tuple(scores)))
    if ended:
      span.handle.deliver(_end(span, completion))
      self._free(group)

  def _free(self, group: int) -> None:
    self._engine.close(group)
    del self._running[group]

  def _fail(self, error: errors.ApiError, close: bool = True) -> None:
    """Ends all with an error; the engine's groups too, if it is to go on."""
    with self._changed:
      handles = [span.handle for span in self._running.values()]
      handles += self._waiting
      self._waiting.clear()
    for group in list(self._running):
      if close:
        self._engine.close(group)
      del self._running[group]
    for handle in handles:
      if not handle.cancelled:
        handle.deliver(error)


def _request(group: int, order: Order) -> engine_lib.Request:
  return engine_lib.Request(
    group=group,
    ticket=0,
    node=0,
    until=engine_lib.END,
    limit=order.limit,
    seed=order.seed,
    sampler=order.sampler,
  )


def _end(
  span: _Span, completion: engine_lib.Completion | None
) -> Ended | errors.ApiError:
  if span.text.stopped or (completion is not None and completion.stopped):
    return Ended("stop", span.text.count)
  if completion is not None and completion.length < span.order.limit:
    return errors.ApiError(
      500, "no further token could be drawn: the model's logits are not finite"
    )
  return Ended("length", span.text.count)
