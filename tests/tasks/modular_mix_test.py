# SPDX-License-Identifier: Apache-2.0
"""Training text in several styles, of few primes."""

import collections

import pytest

from jaxttc.tasks import modular_mix, problems, prompt_sets


def mix(**changes):
  task = prompt_sets.ModularTask(primes=(11, 13), min_steps=2, max_steps=3)
  return modular_mix.ModularMix(task=task, **changes)


def test_examples_are_of_the_task_and_solved_in_the_weighted_styles():
  made = mix(terse=3.0, verbose=1.0, direct=0.0, asked=0.5)
  made.validate()
  found = [made.example(i, seed=4) for i in range(120)]
  assert found[7] == made.example(7, seed=4) != made.example(7, seed=5)
  styles, asked = collections.Counter(), 0
  for prompt, completion in found:
    assert prompt.startswith(("Modulo 11:", "Modulo 13:"))
    assert problems.find_answer(completion) is not None
    steps = len(completion.splitlines()) - 1
    assert steps in (2, 3)
    styles["mod " in completion] += 1
    asked += "Solve" in prompt
  # A verbose line may lift a difference and say no "mod", hence the margin.
  assert 10 <= styles[True] <= 50 and 40 <= asked <= 80


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"terse": -1.0}, "expected none negative"),
    ({"terse": 0.0, "verbose": 0.0, "direct": 0.0}, "a positive sum"),
    ({"asked": 1.5}, "mix.asked=1.5"),
  ],
)
def test_mixes_that_cannot_be_drawn_from_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    mix(**changes).validate()
