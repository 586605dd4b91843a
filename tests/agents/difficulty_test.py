# SPDX-License-Identifier: Apache-2.0
"""Difficulties: read, measured, told; always from 0 to 1."""

import math

import pytest

from jaxttc.agents import difficulty
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs


def _score(scorer, script=lambda *_: "x ####"):
  engine = scripted_engine.ScriptedEngine(script)
  (done,) = programs.serve([scorer("a query")], {"policy": engine}, ["a"])
  return done


@pytest.mark.parametrize(
  ("text", "value"), [("0.4", 0.4), (" 1\n", 1.0), (".25", 0.25), ("0", 0.0)]
)
def test_reads_bare_numbers(text, value):
  assert difficulty.read_rating(text) == value


@pytest.mark.parametrize(
  "text", ["1.2", "-0.1", "about 0.5", "", "nan", "0.5."]
)
def test_refuses_what_is_no_rating(text):
  with pytest.raises(ValueError, match="expected a number from 0 to 1"):
    difficulty.read_rating(text)


def test_rating_asks_again_and_then_gives_up():
  said = iter(["hard ####", "0.7"])
  engine = scripted_engine.ScriptedEngine(lambda *_: next(said), per_step=1)

  def one(query):
    (reply,) = yield programs.Ask(difficulty.rating_prompt(query), 1)
    return reply.text

  (done,) = programs.serve([one("q")], {"policy": engine}, ["a"])
  assert done.value == "hard "
  done = _score(difficulty.rating(tries=3))
  assert done.value is None
  assert done.error.startswith("no difficulty after 3 tries: expected a number")
  with pytest.raises(ValueError, match="tries is 0"):
    difficulty.rating(tries=0)


def test_disagreement_is_the_entropy_of_answers():
  def content(text):
    return text.split()[0] if text else None

  same = _score(difficulty.disagreement(content, samples=4))
  assert same.value == 0.0
  assert same.tokens == {"rating": 8}
  counter = iter(range(100))
  apart = _score(
    difficulty.disagreement(content, samples=4),
    lambda *_: f"{next(counter)} ####",
  )
  assert apart.value == pytest.approx(1.0)
  halves = _score(
    difficulty.disagreement(content, samples=4),
    lambda *_: f"{next(counter) % 2} ####",
  )
  assert halves.value == pytest.approx(math.log(2) / math.log(4))
  none = _score(difficulty.disagreement(lambda _: None, samples=4))
  assert none.value == pytest.approx(1.0)  # nobody agrees with nobody
  with pytest.raises(ValueError, match="samples is 1"):
    difficulty.disagreement(content, samples=1)


def test_known_and_computed_ask_nothing():
  scorer = difficulty.known([0.2, 0.8])
  assert [_score(scorer).value for _ in range(3)] == [0.2, 0.8, 0.8]
  done = _score(difficulty.computed(lambda query: len(query) / 100))
  assert (done.value, done.tokens) == (0.07, {})
  with pytest.raises(ValueError, match="at least one difficulty"):
    difficulty.known([])


def test_probe_pays_for_what_it_reads():
  class Lengths:
    max_length = 9
    tariff = tariff_lib.Tariff(token=costs.Cost(prompt_tokens=1))
    metered = frozenset(costs.COUNTS)

    def encode(self, text):
      return tuple(range(len(text)))

    def measure(self, texts):
      return [len(text) / 10 for text in texts]

  def served(query, **limits):
    (done,) = programs.serve(
      [difficulty.probe()(query)],
      {},
      ["a"],
      gauges={"probe": Lengths()},
      budget=budget_lib.Budget(**limits),
    )
    return done

  done = served("a query", prompt_tokens=7)
  assert (done.value, done.prompt_tokens) == (0.7, {"rating": 7})
  done = served("a query", prompt_tokens=6)
  assert done.error == "no difficulty was measured: not paid for"
  assert done.cost.prompt_tokens == 0
  assert "leaves no room" in served("a long query").error


def test_lost_samples_disagree_with_nobody():
  scoring = difficulty.disagreement(lambda text: text, samples=3)("q")
  next(scoring)
  lost = programs.Reply("", 0, False, "lost")
  same = programs.Reply("4", 1, True)
  with pytest.raises(StopIteration) as stop:
    scoring.send([same, lost, same])
  assert stop.value.value == 0.0
  scoring = difficulty.disagreement(lambda text: text, samples=2)("q")
  next(scoring)
  with pytest.raises(difficulty.RatingError, match="1 of 2 samples .*: lost"):
    scoring.send([same, lost])
