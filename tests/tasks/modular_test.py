# SPDX-License-Identifier: Apache-2.0
"""Tests of the modular family."""

import random
import re

import pytest

from jaxttc.tasks import modular
from jaxttc.tasks import problems as problems_lib


def _example():
  return problems_lib.Problem(
    id="e",
    text="Modulo 13: start at 4, add 7, times 5, minus 9.",
    answer="7",
    family="modular",
    steps=3,
    meta={
      "prime": 13,
      "start": 4,
      "ops": (("+", 7), ("*", 5), ("-", 9)),
    },
  )


def _answer_from_text(text):
  """Computes the answer from the words of the question alone."""
  opening = re.match(r"Modulo (\d+): start at (\d+)", text)
  prime, value = map(int, opening.groups())
  for verb, operand in re.findall(r"(add|minus|times) (\d+)", text):
    n = int(operand)
    value = {"add": value + n, "minus": value - n, "times": value * n}[verb]
    value %= prime
  return str(value)


def test_lines_of_an_example():
  problem = _example()
  assert modular.solution(problem, "terse") == (
    "4+7=11\n11*5=3\n3-9=7\n#### 7\n"
  )
  assert modular.solution(problem, "verbose") == (
    "4+7=11, mod 13 is 11\n11*5=55, mod 13 is 3\n3+13=16, 16-9=7\n#### 7\n"
  )
  assert modular.solution(problem, "direct") == "#### 7\n"


@pytest.mark.parametrize("steps", [1, 2, 7, 12])
def test_question_says_what_the_answer_needs(steps):
  rng = random.Random(steps)
  for _ in range(100):
    problem = modular.generate(rng, steps)
    assert _answer_from_text(problem.text) == problem.answer
    assert problem.text.count(",") == steps


def test_every_equation_holds_and_stays_in_range():
  rng = random.Random(0)
  for _ in range(200):
    problem = modular.generate(rng, 12)
    text = modular.solution(problem, "verbose")
    assert all(0 <= int(x) <= 99 for x in re.findall(r"\d+", text))
    for a, op, b, c in re.findall(r"(\d+)([-+*])(\d+)=(\d+)", text):
      a, b, c = int(a), int(b), int(c)
      assert {"+": a + b, "-": a - b, "*": a * b}[op] == c


def test_styles_may_mix_line_by_line():
  lines = ["4+7=11, mod 13 is 11", "11*5=3", "3+13=16, 16-9=7", "#### 7"]
  assert modular.check(_example(), lines) == [True] * 4


def test_unreduced_terse_line_is_wrong():
  lines = ["4+7=11", "11*5=55", "55-9=7", "#### 7"]
  assert modular.check(_example(), lines) == [True, False, False, False]


def test_is_correct():
  assert modular.is_correct(_example(), "nonsense\n#### 7\n")
  assert not modular.is_correct(_example(), "4+7=11\n")
  assert not modular.is_correct(_example(), "#### 8\n")


def test_bad_input():
  with pytest.raises(ValueError, match="steps is 0"):
    modular.generate(random.Random(0), 0)
  with pytest.raises(ValueError, match="'free'"):
    modular.solution(_example(), "free")
  bare = problems_lib.Problem(id="b", text="?", answer="1", family="modular")
  with pytest.raises(ValueError, match="meta has no 'prime'"):
    modular.check(bare, [])
  unlabelled = problems_lib.Problem(id="u", text="?", answer=None)
  with pytest.raises(ValueError, match="no gold answer"):
    modular.is_correct(unlabelled, "no answer here")
