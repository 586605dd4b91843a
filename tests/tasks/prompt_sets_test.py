# SPDX-License-Identifier: Apache-2.0
"""Prompt sets: what is asked, what is graded, what is drawn."""

import collections
import itertools

import numpy as np
import pytest

from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib

TOKENIZER = tokenizer_lib.WordTokenizer()
TASK = prompt_sets.ModularTask(primes=(11, 13), max_steps=4)


@pytest.fixture(scope="module")
def found():
  return prompt_sets.prompt_set(TASK.problems(6, "train", 0), TOKENIZER)


def _written(texts, width=40):
  rows = np.full((len(texts), width), -1)
  for row, text in enumerate(texts):
    ids = TOKENIZER.encode(text)
    rows[row, : len(ids)] = ids
  return rows


def test_prompts_spell_the_questions(found):
  for row, problem in enumerate(found.problems):
    ids = found.tokens[row, : found.length[row]]
    assert ids[0] == TOKENIZER.bos_id
    assert TOKENIZER.decode(ids) == problems_lib.prompt(problem)
    assert not found.tokens[row, found.length[row] :].any()


def test_gold_solutions_are_right_others_are_not(found):
  texts = [arithmetic.solution(p, "terse") for p in found.problems]
  which = np.arange(6)
  assert found.grade(which, _written(texts)).tolist() == [1.0] * 6
  wrong = ["#### 99\n", "", texts[2][:-1] + "1\n", "1+1=2\n", *texts[4:]]
  assert found.grade(which, _written(wrong)).tolist() == [0, 0, 0, 0, 1, 1]
  padding = np.array([6, 0])
  assert found.grade(padding, _written(texts[:1] * 2)).tolist() == [0, 1]


def test_shares_say_how_often_a_modulus_comes():
  task = prompt_sets.ModularTask(primes=(11, 13), shares=(1.0, 0.25))
  drawn = list(itertools.islice(task.stream("train", 3), 400))
  counts = collections.Counter(p.meta["prime"] for p in drawn)
  assert set(counts) == {11, 13}
  assert 0.15 < counts[13] / counts[11] < 0.38
  again = list(itertools.islice(task.stream("train", 3), 400))
  assert drawn == again
  assert {p.steps for p in drawn} == set(range(2, 7))


def test_problems_differ_and_keep_to_their_split():
  drawn = TASK.problems(50, "test", 0)
  assert len({p.text for p in drawn}) == 50
  assert all(arithmetic.split_of(p.text) == "test" for p in drawn)
  assert {p.meta["prime"] for p in drawn} <= {11, 13}


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"primes": (12,)}, r"task.primes=\(12,\)"),
    ({"primes": ()}, "task.primes"),
    ({"shares": (1.0,)}, "one for each of 2 primes"),
    ({"shares": (0.5, 0.5)}, "the largest 1"),
    ({"max_steps": 13}, "task.max_steps=13"),
    ({"min_steps": 5}, "task.min_steps=5"),
  ],
)
def test_tasks_that_cannot_be_are_named(changes, message):
  made = {"primes": (11, 13), "max_steps": 4} | changes
  with pytest.raises(ValueError, match=message):
    prompt_sets.ModularTask(**made).validate()


def test_prompts_that_cannot_be_are_named(found):
  with pytest.raises(ValueError, match="at least one"):
    prompt_sets.prompt_set([], TOKENIZER)
  with pytest.raises(ValueError, match="expected at most 5"):
    prompt_sets.prompt_set(found.problems, TOKENIZER, width=5)
