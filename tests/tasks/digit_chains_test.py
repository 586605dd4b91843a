# SPDX-License-Identifier: Apache-2.0
"""Chains of digit sums: answers, texts, and what is refused."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import digit_chains, tokenizer


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.booleans())
def test_answers_are_the_running_sums(seed, steps, chained):
  chain = digit_chains.draw(random.Random(seed), steps, chained=chained)
  that = 0
  for step, answer in zip(chain.steps, chain.answers, strict=True):
    that = (that if step.chained else 0) + sum(step.digits)
    assert answer == that <= 99
    assert 1 <= step.additions <= 5


@pytest.mark.parametrize("mode", digit_chains.MODES)
def test_solution_ends_in_the_answer(mode):
  step = digit_chains.Step((3, 4), True)
  text = digit_chains.solution(step, 20, mode)
  lines = {"fast": [], "slow": ["20+3=23", "23+4=27"]}[mode]
  assert text == "\n".join([*lines, "#### 27"]) + "\n"
  assert digit_chains.content(text) == "27"


def test_query_shows_answers_where_there_are_some():
  solved = [("4+3", "7"), ("that+1", "")]
  asked = digit_chains.query("", solved, "that+2")
  assert asked == "Step 1: 4+3\n#### 7\nStep 2: that+1\nStep 3: that+2\n"


def test_examples_are_right_and_cost_one_token_a_piece():
  words = tokenizer.WordTokenizer()
  mix = digit_chains.ChainMix()
  for index in range(50):
    prompt, completion = mix.example(index, seed=3)
    assert mix.example(index, seed=3) == (prompt, completion)
    ids = words.encode(prompt + completion)
    assert min(ids) >= tokenizer.NUMBER_OFFSET  # nothing is spelled in bytes
    assert completion.splitlines()[-1].startswith("#### ")


def test_example_follows_the_answer_before():
  mix = digit_chains.ChainMix(chained=1.0, fast=1.0)
  for index in range(50):
    prompt, completion = mix.example(index)
    lines = prompt.splitlines()[:-1]
    that = 0
    for line in lines:
      if line.startswith("####"):
        that = int(line[5:])
      else:
        words = line.partition(": ")[2].split("+")
        total = sum(that if w == "that" else int(w) for w in words)
    assert digit_chains.content(completion) == str(total)


def test_chains_that_would_grow_too_large():
  with pytest.raises(ValueError, match="hardly a chain of 8 steps"):
    digit_chains.draw(random.Random(0), 8, (7,))


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("fast", 1.5, "fast is 1.5"),
    ("chained", -0.1, "chained is -0.1"),
    ("steps", 0, "0 steps"),
    ("additions", (0,), "additions"),
    ("additions", (), "additions"),
  ],
)
def test_mix_that_cannot_be_drawn_from(field, value, said):
  with pytest.raises(ValueError, match=said):
    digit_chains.ChainMix(**{field: value}).validate()
  digit_chains.ChainMix().validate()
