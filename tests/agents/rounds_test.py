# SPDX-License-Identifier: Apache-2.0
"""Reasoning in rounds stops at an answer, and goes on from summaries."""

import re

import pytest

from jaxttc.agents import rounds
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs


def _answer(text):
  found = re.search(r"answer (\d+)", text)
  return found[1] if found else None


def _script(needed):
  def script(so_far, seed):
    del seed
    if so_far.rstrip().endswith("known so far."):
      known = re.findall(r"step(\d)", so_far)
      return f"step{len(set(known)) + 1} ####"
    return "answer 42 ####" if f"step{needed}" in so_far else "thinking ####"

  return script


def _run(needed, **more):
  engine = scripted_engine.ScriptedEngine(_script(needed))
  task = rounds.reason("A problem.", _answer, **more)
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  return done


def test_goes_on_from_summaries_until_an_answer():
  done = _run(2)
  assert done.value.answer == "42"
  assert done.value.summaries == ("step1 ####", "step2 ####")
  assert len(done.value.texts) == 3
  assert done.tokens == {"round": 2 + 2 + 3, "summary": 4}


def test_gives_up_after_so_many_rounds():
  done = _run(9, rounds=3)
  assert done.value.answer == ""
  assert len(done.value.texts) == 3
  assert len(done.value.summaries) == 2


@pytest.mark.parametrize("name", ["rounds", "round_limit", "summary_limit"])
def test_refuses_sizes_that_cannot_be(name):
  with pytest.raises(ValueError, match=f"{name} is 0"):
    _run(1, **{name: 0})


def test_what_cannot_be_paid_for_ends_it_with_the_reason():
  engine = scripted_engine.ScriptedEngine(_script(2))
  task = rounds.reason("A problem.", _answer)
  (done,) = programs.serve(
    [task],
    {"policy": engine},
    ["a"],
    budget=budget_lib.Budget(generated_tokens=4),
  )
  assert (done.value, done.error) == (None, "round 2: not paid for")
  assert done.cost.generated_tokens == 4
