# SPDX-License-Identifier: Apache-2.0
"""Which searches run together, and what befalls those that cannot."""

import queue
import threading

import pytest

from jaxttc import decoders
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import controllers
from jaxttc.runtime import settings as settings_lib
from jaxttc.serving import errors, searches

# One strategy under two names: what is compiled for one serves the other.
_VOTING = decoders.make("self_consistency", {"n": 2})
_SETTINGS = settings_lib.SearchSettings(step_tokens=8, max_tokens=16)


def _order(text="two", seed=0, prompt="Solve 3 .\n"):
  return searches.SearchOrder(
    text=text,
    decoder=_VOTING,
    prompt=prompt,
    budget=budget_lib.Budget(generated_tokens=40),
    sampler=controllers.Sampler(),
    seed=seed,
  )


class _Queue(searches.SearchQueue):
  """Notes its turns; a search may be made to fail, or to wait."""

  def __init__(self, models):
    super().__init__(*models, _SETTINGS, slots=2)
    self.turns, self.fails, self.gate = [], 0, threading.Event()

  def _results(self, batch):
    self.turns.append([handle.order.name for handle in batch])
    assert self.gate.wait(60)
    if self.fails:
      self.fails -= 1
      raise RuntimeError("as a bug would")
    return super()._results(batch)


@pytest.fixture
def line(models):
  line = _Queue(models)
  yield line
  line.gate.set()
  line.close()


def _submit(line, *orders):
  """Queues of what is delivered for each order."""
  inboxes = [queue.Queue() for _ in orders]
  handles = [
    line.submit(order, inbox.put)
    for order, inbox in zip(orders, inboxes, strict=True)
  ]
  return handles, inboxes


def test_turns_are_of_one_decoder_and_of_different_names(line):
  orders = [_order(), _order("three"), _order(seed=1), _order()]
  handles, inboxes = _submit(line, *orders)
  assert line.waiting == 4
  line.gate.set()
  line.start()
  results = [inbox.get(timeout=120) for inbox in inboxes]
  first, other = _order().name, _order(seed=1).name
  assert line.turns == [[first, other], [first], [first]]
  assert results[0].completion == results[3].completion
  assert all(r.cost.generated_tokens <= 40 for r in results)
  assert not any(handle.cancelled for handle in handles)


def test_a_failure_costs_its_turn_only(line):
  line.fails = 1
  line.gate.set()
  _, inboxes = _submit(line, _order(), _order(seed=1))
  line.start()
  for inbox in inboxes:
    outcome = inbox.get(timeout=60)
    assert isinstance(outcome, errors.ApiError) and outcome.status == 500
  _, (inbox,) = _submit(line, _order())
  assert inbox.get(timeout=120).stop == "done"


def test_what_is_cancelled_is_not_driven_nor_delivered(line):
  handles, inboxes = _submit(line, _order(), _order(seed=1))
  handles[0].cancel()
  line.gate.set()
  line.start()
  assert inboxes[1].get(timeout=120).rounds > 0
  assert line.turns == [[_order(seed=1).name]]
  assert inboxes[0].empty()


def test_the_end_refuses_what_runs_and_what_waits(line):
  _, inboxes = _submit(line, _order(), _order("three"))
  line.start()
  while not line.turns:
    pass
  line.abort(errors.closing())
  for inbox in inboxes:
    assert inbox.get(timeout=60).status == 503
  line.gate.set()
  line.close()
  assert all(inbox.empty() for inbox in inboxes)
  with pytest.raises(errors.ApiError, match="shutting down"):
    line.submit(_order(), print)
