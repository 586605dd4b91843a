# SPDX-License-Identifier: Apache-2.0
"""Programs over engines that lose replies, and gauges that read in batches."""

import dataclasses
import random

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import asks, programs


class Losing(scripted_engine.ScriptedEngine):
  """Bills each call; loses the replies that `fails(request)` says it does.

  It says "" for a reply, "lost" for one that may be asked again, or a line for
  the end.
  """

  def __init__(self, fails, **options):
    super().__init__(lambda *_: "some words and end ####", **options)
    self.prompt_tariff = None
    self.tariff = tariff_lib.Tariff.per_token(0.001, 0.002)
    self.metered = frozenset(costs.COUNTS) | {"dollars"}
    self._fails = fails
    self.limits = []

  def step(self):
    done = []
    for got in super().step():
      asked = next(
        request
        for request in reversed(self.served)
        if (request.group, request.ticket) == (got.group, got.ticket)
      )
      self.limits.append(asked.limit)
      said = self._fails(asked)
      if said:
        most = self.tariff.price(asked.limit, 2)
        got = dataclasses.replace(
          got,
          text="",
          tokens=(),
          length=0,
          stopped=False,
          finished=False,
          bill=engine_lib.Bill(spent=most, assumed=most),
          failure=engine_lib.Failure(error=said, again=said == "lost"),
        )
      done.append(got)
    return done


def _ask(samples=1, limit=5):
  replies = yield programs.Ask("two words", limit, samples)
  return replies


def _serve(tasks, engine, **more):
  names = [str(i) for i in range(len(tasks))]
  return sorted(programs.serve(tasks, {"policy": engine}, names, **more))


def test_lost_replies_change_the_cost_and_not_the_text():
  (calm,) = _serve([_ask(3)], Losing(lambda _: ""))
  engine = Losing(lambda request: "lost" if request.attempt < 2 else "")
  (done,) = _serve([_ask(3)], engine)
  assert done.value == calm.value
  assert len(engine.served) == 9
  assert done.cost.generated_tokens == 3 * calm.cost.generated_tokens
  assert {r.seed for r in engine.served} == {r.seed for r in engine.served[:3]}


def test_what_is_lost_for_good_is_told_and_others_go_on():
  broken = lambda request: "refused" if request.group == 0 else ""  # noqa: E731
  first, second = _serve([_ask(), _ask()], Losing(broken))
  assert [reply.error for reply in first.value] == ["refused"]
  assert second.value[0].text == "some words and end ####"


def test_asking_again_is_cut_to_what_is_left():
  engine = Losing(lambda request: "" if request.attempt else "lost")
  limits = budget_lib.Budget(generated_tokens=8)
  (done,) = _serve([_ask()], engine, budget=limits)
  assert engine.limits == [5, 3]
  assert done.cost.generated_tokens == 8
  engine = Losing(lambda _: "lost")
  limits = budget_lib.Budget(generated_tokens=5)
  (done,) = _serve([_ask()], engine, budget=limits)
  assert done.value[0].error == "lost; asking again is not paid for"


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 99))
def test_never_overspends_whatever_is_lost(tokens, samples, seed):
  draw = random.Random(seed)
  engine = Losing(
    lambda _: draw.choice(["", "", "lost", "refused"]), per_step=2
  )
  limits = budget_lib.Budget(generated_tokens=tokens)
  for done in _serve([_ask(samples), _ask(samples)], engine, budget=limits):
    assert done.cost.generated_tokens <= tokens
    assert len(done.value) == samples


class Lengths:
  """Measures a text by its length; remembers the batches."""

  max_length = 100
  tariff = tariff_lib.Tariff(token=costs.Cost(prompt_tokens=1))
  metered = frozenset(costs.COUNTS)

  def __init__(self, value=None):
    self.batches, self._value = [], value

  def encode(self, text):
    return tuple(range(len(text)))

  def measure(self, texts):
    self.batches.append(list(texts))
    return [
      float(len(text)) if self._value is None else self._value for text in texts
    ]


def _measure(text, gauge="probe"):
  (reply,) = yield programs.Measure(text, gauge)
  return reply.value


def test_programs_share_a_gauges_batch_and_each_pays():
  gauge = Lengths()
  assert isinstance(gauge, asks.Gauge)
  tasks = [_measure("x" * n) for n in (1, 2, 3)]
  found = _serve(
    tasks, scripted_engine.ScriptedEngine(str), gauges={"probe": gauge}
  )
  assert [done.value for done in found] == [1.0, 2.0, 3.0]
  assert gauge.batches == [["x", "xx", "xxx"]]
  assert [done.cost.prompt_tokens for done in found] == [1, 2, 3]


@pytest.mark.parametrize(
  ("task", "said"),
  [
    (_measure("text", "other"), "asked gauge 'other'; expected one of probe"),
    (_measure(" "), "asked to measure an empty text"),
    (_measure("text"), "gauge 'probe' gave 1 numbers .* not finite"),
  ],
)
def test_measures_that_cannot_be(task, said):
  gauges = {"probe": Lengths(float("nan"))}
  with pytest.raises(ValueError, match=said):
    _serve([task], scripted_engine.ScriptedEngine(str), gauges=gauges)


def test_a_budget_that_a_gauge_cannot_keep_is_refused():
  limits = budget_lib.Budget(dollars=1.0)
  with pytest.raises(ValueError, match="model 'probe' meters"):
    _serve(
      [_measure("text")],
      Losing(lambda _: ""),
      gauges={"probe": Lengths()},
      budget=limits,
    )
