# SPDX-License-Identifier: Apache-2.0
"""Hidden numbers: questions with one answer, and traces that try for it."""

import collections
import random

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks import arithmetic, hidden_numbers
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.testing import tiny_models


@hypothesis.given(st.integers(1, 22), st.integers(0, 22), st.integers(0, 22))
def test_one_number_solves_a_question(factor, term, number):
  asked = hidden_numbers.problem(23, factor, term, number)
  verdicts = [hidden_numbers.attempt(asked, n) for n in range(23)]
  (found,) = [n for n, line in enumerate(verdicts) if line.endswith(" 0")]
  assert str(found) == asked.answer == str(number)


def test_attempts_by_hand():
  asked = hidden_numbers.problem(23, 7, 5, 8)
  assert asked.text == "Modulo 23: times 7, add 5, reach 15."
  assert hidden_numbers.attempt(asked, 2) == "2 14 19 4"
  assert hidden_numbers.attempt(asked, 8) == "8 10 15 0"
  text = "2 14 19 4\n6 19 1 9\nwell\n8 10 15 0\n#### 8\n"
  assert hidden_numbers.attempts(text) == [2, 6, 8]
  # An attempt has as many tokens as the report's best order thinks.
  assert len(tokenizer_lib.WordTokenizer().encode("12 14 19 4\n")) == 5


@pytest.mark.parametrize("index", range(20))
def test_a_trace_tries_until_it_finds_or_gives_up(index):
  mix = hidden_numbers.TrialMix(modulus=11, numbers=7, most=4, stops=0.2)
  prompt, completion = mix.example(index, seed=3)
  asked = prompt.removesuffix("\n")
  assert arithmetic.split_of(asked) == "train"
  *lines, answer = problems_lib.split_lines(completion)
  assert len(lines) <= 4
  tried = hidden_numbers.attempts(completion)
  assert len(tried) == len(lines) and set(tried) <= set(range(7))
  number = int(answer.removeprefix("#### "))
  if lines and lines[-1].endswith(" 0"):
    assert tried[-1] == number
  else:
    assert number not in tried  # a guess is one that was not tried
  assert not any(line.endswith(" 0") for line in lines[:-1])
  assert mix.example(index, seed=3) == (prompt, completion)


def test_traces_repeat_themselves_as_often_as_told():
  asked = hidden_numbers.problem(23, 7, 5, 8)
  mix = hidden_numbers.TrialMix(repeats=0.0, stops=0.0)
  for seed in range(20):
    tried = hidden_numbers.attempts(mix.trace(random.Random(seed), asked))
    assert len(set(tried)) == len(tried)


def test_small_numbers_are_hidden_more_often():
  task = hidden_numbers.HiddenTask(modulus=31, numbers=4, ratio=0.5)
  drawn = task.problems(900, "train", 1)
  assert len({one.text for one in drawn}) == 900
  counts = collections.Counter(int(one.answer) for one in drawn)
  shares = [counts[number] / 900 for number in range(4)]
  np.testing.assert_allclose(shares, np.array([8, 4, 2, 1]) / 15, atol=0.06)
  np.testing.assert_allclose(task.prior, np.array([8, 4, 2, 1]) / 15)
  unseen = {one.text for one in task.problems(50, "test", 1)}
  assert not unseen & {one.text for one in drawn}


def test_the_number_alone_is_graded():
  task = hidden_numbers.HiddenTask()
  policy = tiny_models.tiny_bundles()[0]
  prompts = task.prompt_set("test", 3, 0, policy, width=16, check_steps=False)
  answers = [int(one.answer) for one in prompts.problems]
  texts = [
    f"#### {answers[0]}\n",
    f"1 2 3 4\n#### {answers[1]}\n",
    f"#### {answers[2] + 1}\n",
  ]
  ids = [policy.tokenizer.encode(text) for text in texts]
  tokens = np.full((3, max(map(len, ids))), -1)
  for row, found in enumerate(ids):
    tokens[row, : len(found)] = found
  assert prompts.grade(np.arange(3), tokens).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"modulus": 22}, "modulus 22, expected a prime"),
    ({"modulus": 101}, "below 100"),
    ({"numbers": 24}, "task.numbers=24: expected 2..23"),
    ({"ratio": 0.0}, "task.ratio=0.0"),
  ],
)
def test_tasks_that_cannot_be_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    hidden_numbers.HiddenTask(**changes).validate()


def test_what_cannot_be_drawn_is_named():
  with pytest.raises(ValueError, match="hardly 60 questions"):
    hidden_numbers.HiddenTask(modulus=11, numbers=2).problems(60, "test", 0)
  with pytest.raises(ValueError, match="factor 0, expected 1..22"):
    hidden_numbers.problem(23, 0, 0, 0)
  with pytest.raises(ValueError, match="mix.repeats=1"):
    hidden_numbers.TrialMix(repeats=1.0).validate()
  with pytest.raises(ValueError, match="check_steps=True"):
    hidden_numbers.HiddenTask().prompt_set(
      "test", 1, 0, None, width=16, check_steps=True
    )
