# SPDX-License-Identifier: Apache-2.0
"""Orders that are worked on together, a batch a turn, in a thread of their own.

What arrives during a turn waits for the next one. `deliver` is called in the
queue's thread and must come back at once.
"""

from collections.abc import Callable, Iterator, Sequence
import logging
import threading
from typing import Generic, TypeVar

from jaxttc.serving import errors
from jaxttc.serving import handle as handle_lib

Order = TypeVar("Order")
Outcome = TypeVar("Outcome")


class TurnQueue(Generic[Order, Outcome]):
  """A queue and its thread; who inherits says what a turn is."""

  def __init__(self, name: str):
    """A queue whose thread has not begun; `name` is the thread's."""
    self._waiting: list[handle_lib.Handle] = []
    self._driven: dict[int, handle_lib.Handle] = {}  # without an outcome yet
    self._changed = threading.Condition()
    self._closed = False
    # A second signal ends the process without waiting for it.
    self._thread = threading.Thread(target=self._run, name=name, daemon=True)

  @property
  def running(self) -> int:
    """Orders being worked on, or about to be."""
    return len(self._driven)

  @property
  def waiting(self) -> int:
    """Orders that another turn will take."""
    return len(self._waiting)

  def start(self) -> None:
    """Begins the thread; once."""
    self._thread.start()

  def submit(
    self,
    order: Order,
    deliver: Callable[[Outcome | errors.ApiError], None],
  ) -> handle_lib.Handle:
    """Takes an order; `deliver` is given what comes of it, in the thread.

    Raises:
      ApiError: 503, after `close`.
    """
    handle = handle_lib.Handle(order, deliver)
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

  def _turn(self, waiting: Sequence[Order]) -> list[int]:
    """Which of the waiting orders to take now, the first one among them."""
    raise NotImplementedError

  def _results(
    self, batch: Sequence[handle_lib.Handle]
  ) -> Iterator[tuple[int, Outcome]]:
    """What comes of each order of a turn, by its place there."""
    raise NotImplementedError

  def _recover(self, batch: Sequence[handle_lib.Handle]) -> None:
    """Makes anew what a failed turn may have left broken."""

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

  def _take(self) -> list[handle_lib.Handle]:
    """The next turn; those that were let go are dropped."""
    self._waiting = [h for h in self._waiting if not h.cancelled]
    if not self._waiting:
      return []
    taken = set(self._turn([handle.order for handle in self._waiting]))
    batch = [h for i, h in enumerate(self._waiting) if i in taken]
    self._waiting = [h for i, h in enumerate(self._waiting) if i not in taken]
    return batch

  def _drive(self, batch: list[handle_lib.Handle]) -> None:
    try:
      for index, outcome in self._results(batch):
        with self._changed:
          handle = self._driven.pop(index)
        if not handle.cancelled:
          handle.deliver(outcome)
    except Exception:
      logging.exception("a turn of %s failed", self._thread.name)
      self._recover(batch)
      with self._changed:
        left, self._driven = list(self._driven.values()), {}
      for handle in left:
        if not handle.cancelled:
          handle.deliver(errors.failed())
