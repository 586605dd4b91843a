# SPDX-License-Identifier: Apache-2.0
import asyncio

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.serving import admission, errors


class _Clock:
  """Time that stands still until it is set."""

  now = 0.0

  def __call__(self):
    return self.now


def test_first_come_first_served_and_the_rest_refused():
  async def run():
    door, order = admission.Admission(1, 2), []

    async def visit(name):
      entered = await door.enter()
      order.append(name)
      await asyncio.sleep(0)
      door.leave(entered)

    tasks = [asyncio.create_task(visit(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert (door.active, door.waiting) == (1, 2)
    with pytest.raises(errors.ApiError, match="try again later") as caught:
      await door.enter()
    assert caught.value.status == 429
    assert int(caught.value.headers()["Retry-After"]) >= 1
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c"]
    assert (door.active, door.waiting) == (0, 0)

  asyncio.run(run())


def test_retry_after_follows_how_long_requests_take():
  async def run():
    clock = _Clock()
    door = admission.Admission(1, 0, clock)
    for _ in range(40):  # until the mean has forgotten its first guess
      entered = await door.enter()
      clock.now += 10.0
      door.leave(entered)
    await door.enter()
    with pytest.raises(errors.ApiError) as caught:
      await door.enter()
    assert caught.value.retry_after == 10

  asyncio.run(run())


def test_closing_refuses_those_who_wait_and_those_who_come():
  async def run():
    door = admission.Admission(1, 5)
    entered = await door.enter()
    waits = asyncio.create_task(door.enter())
    await asyncio.sleep(0)
    door.close(errors.closing())
    for attempt in (waits, door.enter()):
      with pytest.raises(errors.ApiError, match="shutting down") as caught:
        await attempt
      assert caught.value.status == 503
    door.leave(entered)
    assert (door.active, door.waiting) == (0, 0)

  asyncio.run(run())


@hypothesis.given(
  st.integers(1, 3),
  st.lists(st.sampled_from(["enter", "leave", "cancel", "turn"]), max_size=40),
)
def test_places_are_neither_lost_nor_given_twice(places, moves):
  async def run():
    door = admission.Admission(places, 4)
    tasks: list[asyncio.Task] = []

    def inside():
      return [
        t
        for t in tasks
        if t.done() and not t.cancelled() and t.exception() is None
      ]

    for move in moves:
      if move == "enter":
        tasks.append(asyncio.create_task(door.enter()))
      elif move == "leave" and inside():
        done = inside()[0]
        tasks.remove(done)
        door.leave(done.result())
      elif move == "cancel" and tasks:
        tasks[-1].cancel()
      else:
        await asyncio.sleep(0)
      assert len(inside()) <= places
    for _ in range(3 * len(tasks) + 3):
      await asyncio.sleep(0)
      for done in inside():
        tasks.remove(done)
        door.leave(done.result())
    assert (door.active, door.waiting) == (0, 0)

  asyncio.run(run())
