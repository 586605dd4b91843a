# SPDX-License-Identifier: Apache-2.0
"""How many requests are worked on, how many wait, and who is refused.

For one event loop, and to be used from it only.
"""

import asyncio
import collections
from collections.abc import Callable, Iterator
import math
import time

from jaxttc.serving import errors

_FIRST_GUESS_S = 1.0
_LONGEST_WAIT_S = 60
_NEWEST = 0.2  # weight of the newest request in the mean of their seconds


class Admission:
  """Lets in a number of requests, keeps more in a queue, refuses the rest.

  Attributes:
    active: requests that were let in and have not left.
  """

  def __init__(
    self,
    requests: int,
    queue: int,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Nobody is in yet.

    Args:
      requests: most to be in at once.
      queue: most to wait.
      clock: seconds that never run backwards.
    """
    self.active = 0
    self._requests, self._queue, self._clock = requests, queue, clock
    self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
    self._seconds = _FIRST_GUESS_S
    self._refusal: errors.ApiError | None = None

  @property
  def waiting(self) -> int:
    """Requests in the queue."""
    return len(self._waiting)

  async def enter(self) -> float:
    """Waits to be let in; whoever is must `leave`.

    Returns:
      The time, for `leave` to tell how long the request took.

    Raises:
      ApiError: 429 if the queue is full, 503 once it is closed.
    """
    if self._refusal is not None:
      raise self._refusal
    if self.active < self._requests:
      self.active += 1
      return self._clock()
    if len(self._waiting) >= self._queue:
      raise errors.ApiError(
        429,
        f"{self.active} requests are worked on and {len(self._waiting)} wait; "
        "try again later",
        code="queue_full",
        retry_after=self._wait_s(),
      )
    turn = asyncio.get_running_loop().create_future()
    self._waiting.append(turn)
    try:
      await turn
    except asyncio.CancelledError:
      if not turn.cancelled() and turn.exception() is None:
        self._pass_on()  # the place was given just now
      raise
    finally:
      if turn in self._waiting:
        self._waiting.remove(turn)
    return self._clock()

  def leave(self, entered: float) -> None:
    """Makes room for the next one; `entered` is what `enter` returned."""
    taken = self._clock() - entered
    self._seconds += _NEWEST * (taken - self._seconds)
    self._pass_on()

  def close(self, error: errors.ApiError) -> None:
    """Refuses those who wait, and all who come from now on."""
    self._refusal = error
    for turn in self._left():
      turn.set_exception(error)

  def _pass_on(self) -> None:
    turn = next(self._left(), None)
    if turn is None:
      self.active -= 1
    else:
      turn.set_result(None)

  def _left(self) -> Iterator[asyncio.Future[None]]:
    """Takes those who still wait from the queue, the first one first."""
    while self._waiting:
      turn = self._waiting.popleft()
      if not turn.done():
        yield turn

  def _wait_s(self) -> int:
    """Whole seconds until a newcomer would have its turn, as things go."""
    turns = (len(self._waiting) + 1) / self._requests
    return min(max(math.ceil(turns * self._seconds), 1), _LONGEST_WAIT_S)
