# SPDX-License-Identifier: Apache-2.0
import random

from hypothesis import given
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import digit_sums, problems, tokenizer

_DIGITS = st.lists(st.integers(0, 9), min_size=2, max_size=8)


def test_a_question_reads_as_the_docstring_says():
  asked = digit_sums.problem([3, 4, 7])
  assert asked.text == "3+4+7 mod 10?"
  assert asked.answer == "4"
  assert asked.steps == 3
  prompt = digit_sums.prompt(asked, "terse")
  assert prompt == "3+4+7 mod 10?\nSolve tersely.\n<think>"
  assert digit_sums.prompt(asked, mode="at_once").endswith("<think></think>")
  assert digit_sums.concise_copy(asked) == (
    "So 3\nSo 7\nSo 4\n</think>#### 4\n"
  )


@given(_DIGITS, st.integers(0, 99), st.floats(0, 1))
def test_lines_have_the_stated_tokens_and_are_right(digits, seed, share):
  words = tokenizer.WordTokenizer()
  asked = digit_sums.problem(digits)
  lines = digit_sums.thinking_lines(asked, random.Random(seed), share)
  assert len(lines) == len(digits)
  for line in lines:
    tokens = words.encode(f"{line}\n")
    assert min(tokens) >= tokenizer.NUMBER_OFFSET  # none spelled in bytes
    if digit_sums.is_concise(line):
      assert len(tokens) == digit_sums.CONCISE_TOKENS
    else:
      assert len(tokens) in digit_sums.VERBOSE_TOKENS
  assert all(digit_sums.check(asked, [*lines, f"#### {asked.answer}"]))
  text = digit_sums.completion(asked, lines)
  assert digit_sums.is_correct(asked, text)
  ids = words.encode(text, specials=True)
  assert ids.count(words.end_think_id) == 1
  assert words.decode(ids, specials=True) == text


@given(_DIGITS, st.integers(0, 7), st.integers(1, 9))
def test_a_wrong_sum_spoils_its_line_and_those_after(digits, where, off):
  asked = digit_sums.problem(digits)
  where %= len(digits)
  sums = digit_sums.running_sums(digits)
  sums[where] = (sums[where] + off) % 10
  lines = [digit_sums.concise_line(s) for s in sums]
  flags = digit_sums.check(asked, lines)
  assert flags == [True] * where + [False] * (len(digits) - where)


def test_an_answer_after_a_cut_line_counts():
  asked = digit_sums.problem([3, 4])
  assert digit_sums.is_correct(asked, "Step 3 0</think>#### 7\n")
  assert not digit_sums.is_correct(asked, "Step 3 0</think>#### 6\n")
  assert not digit_sums.is_correct(asked, "So 3\nSo 7\n")


@pytest.mark.parametrize("style", problems.SOLUTION_STYLES)
def test_solutions_are_right(style):
  asked = digit_sums.generate(random.Random(1), 5)
  text = digit_sums.solution(asked, style)
  assert all(digit_sums.check(asked, problems.split_lines(text)))
  assert digit_sums.is_correct(asked, text)


def test_what_cannot_be_is_refused():
  asked = digit_sums.problem([1, 2])
  with pytest.raises(ValueError, match="steps is 1"):
    digit_sums.generate(random.Random(0), 1)
  with pytest.raises(ValueError, match="expected some of 0..9"):
    digit_sums.problem([1, 10])
  with pytest.raises(ValueError, match="concise_share is 1.5"):
    digit_sums.thinking_lines(asked, random.Random(0), 1.5)
  with pytest.raises(ValueError, match="Unknown mode"):
    digit_sums.prompt(asked, mode="atonce")
