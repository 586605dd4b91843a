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


def test_query_fills_the_last_answer_in():
  solved = [("4+3", "7"), ("that+1", "8")]
  assert digit_chains.query("", solved, "that+2") == "8+2\n"
  assert digit_chains.query("", [("that+1", "")], "that+2") == "that+2\n"
  assert digit_chains.query("", solved, "5+2") == "5+2\n"
  assert digit_chains.query("", [], "5+2") == "5+2\n"


def test_examples_are_right_and_cost_one_token_a_piece():
  words = tokenizer.WordTokenizer()
  mix = digit_chains.ChainMix()
  for index in range(50):
    prompt, completion = mix.example(index, seed=3)
    assert mix.example(index, seed=3) == (prompt, completion)
    ids = words.encode(prompt + completion)
    assert min(ids) >= tokenizer.NUMBER_OFFSET  # nothing is spelled in bytes
    assert completion.splitlines()[-1].startswith("#### ")


def test_examples_answer_what_they_ask():
  mix = digit_chains.ChainMix(fast=1.0)
  for index in range(50):
    prompt, completion = mix.example(index)
    total = sum(map(int, prompt.splitlines()[0].split("+")))
    assert digit_chains.content(completion) == str(total)


def test_chains_that_would_grow_too_large():
  with pytest.raises(ValueError, match="hardly a chain of 8 steps"):
    digit_chains.draw(random.Random(0), 8, (7,))


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("fast", 1.5, "fast is 1.5"),
    ("chained", -0.1, "chained is -0.1"),
    ("additions", (0,), "additions"),
    ("additions", (), "additions"),
    ("fast_additions", (9,), "additions"),
  ],
)
def test_mix_that_cannot_be_drawn_from(field, value, said):
  with pytest.raises(ValueError, match=said):
    digit_chains.ChainMix(**{field: value}).validate()
  digit_chains.ChainMix().validate()
