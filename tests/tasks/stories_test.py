# SPDX-License-Identifier: Apache-2.0
"""Tests of the story family."""

import random
import re

import pytest

from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import stories

_FALLS = r"loses|sells|gives|fewer|spends|takes|get off|pays"


def _example():
  return problems_lib.Problem(
    id="e",
    text="Ben has 47 apples. (Three changes.)",
    answer="28",
    family="stories",
    steps=4,
    meta={
      "start": 47,
      "ops": (
        ("+", 38, "Ben buys 38"),
        ("-", 71, "Ben loses 71"),
        ("*", 4, "four times 14"),
        ("/", 2, "half of 56"),
      ),
    },
  )


def _answer_from_text(text):
  """Follows the story by its words alone, sentence by sentence."""
  opening, *changes, _ = re.split(r"(?<=[.?]) ", text)
  subject = opening.split()[0]
  value = int(re.search(r"\d+", opening)[0])
  for sentence in changes:
    lower = sentence.lower()
    number = re.search(r"\d+", sentence)
    if "twice" in lower or "doubles" in lower or "again" in lower:
      value *= 2
    elif "three times" in lower or "triples" in lower:
      value *= 3
    elif "half" in lower:
      value /= 2
    else:
      # What another person gives or pays to the subject is a gain.
      gift = re.search(rf"(gives|pays) ({subject}|it) ", sentence)
      falls = re.search(_FALLS, sentence) and not gift
      value += -int(number[0]) if falls else int(number[0])
  return str(int(value)) if value == int(value) else str(value)


def test_lines_of_an_example():
  problem = _example()
  assert stories.solution(problem, "terse") == (
    "47+38=85\n85-71=14\n14*4=56\n56/2=28\n#### 28\n"
  )
  assert stories.solution(problem, "verbose") == (
    "Ben buys 38: 47+30=77, 77+8=85\n"
    "Ben loses 71: 85-70=15, 15-1=14\n"
    "four times 14: 10*4=40, 4*4=16, 40+16=56\n"
    "half of 56: 50/2=25, 6/2=3, 25+3=28\n"
    "#### 28\n"
  )
  assert stories.solution(problem, "direct") == "#### 28\n"


@pytest.mark.parametrize("steps", [1, 2, 7, 12, 19])
def test_story_says_what_the_answer_needs(steps):
  rng = random.Random(steps)
  for _ in range(200):
    problem = stories.generate(rng, steps)
    assert _answer_from_text(problem.text) == problem.answer, problem.text


def test_every_equation_holds_and_stays_in_range():
  rng = random.Random(0)
  for _ in range(200):
    problem = stories.generate(rng, 12)
    text = stories.solution(problem, "verbose")
    assert all(0 <= int(x) <= 99 for x in re.findall(r"\d+", text))
    for a, op, b, c in re.findall(r"(\d+)([-+*/])(\d+)=(\d+)", text):
      a, b, c = int(a), int(b), int(c)
      assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[op] == c


def test_operands_are_bounded_and_every_kind_occurs():
  rng = random.Random(1)
  seen = set()
  for _ in range(200):
    for symbol, operand, _ in stories.generate(rng, 12).meta["ops"]:
      seen.add((symbol, operand if symbol in "*/" else 0))
      assert 2 <= operand <= 40
  assert seen == {("+", 0), ("-", 0), ("*", 2), ("*", 3), ("/", 2)}


def test_people_of_a_chain_are_distinct():
  rng = random.Random(2)
  chains = 0
  for _ in range(100):
    text = stories.generate(rng, 12).text
    if " than " not in text:
      continue
    chains += 1
    subjects = re.findall(r"([A-Z][a-z]+) has ", text)
    assert len(subjects) == len(set(subjects)) == 13
  assert chains


def test_styles_may_mix_line_by_line():
  lines = [
    "47+38=85",
    "Ben loses 71: 85-70=15, 15-1=14",
    "14*4=56",
    "half of 56: 50/2=25, 6/2=3, 25+3=28",
    "#### 28",
  ]
  assert stories.check(_example(), lines) == [True] * 5
  lines[1] = "Cy loses 71: 85-70=15, 15-1=14"
  assert stories.check(_example(), lines) == [True] + [False] * 4


def test_is_correct():
  assert stories.is_correct(_example(), "#### 28\n")
  assert not stories.is_correct(_example(), "#### 29\n")
  assert not stories.is_correct(_example(), "47+38=85\n")


@pytest.mark.parametrize("steps", [0, 20])
def test_bad_steps(steps):
  with pytest.raises(ValueError, match=f"steps is {steps}, expected 1..19"):
    stories.generate(random.Random(0), steps)


def test_bad_style_and_problem():
  with pytest.raises(ValueError, match="'verbosely'.*'verbose'"):
    stories.solution(_example(), "verbosely")
  bare = problems_lib.Problem(id="b", text="?", answer="1", family="stories")
  with pytest.raises(ValueError, match="meta has no 'start'"):
    stories.check(bare, [])
