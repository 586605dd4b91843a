# SPDX-License-Identifier: Apache-2.0
"""Questions whose lines are their steps, each about the answer before."""

import re

from jaxttc.allocators import plans
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import answers

_WORD = re.compile(r"\w+")


def by_lines(question: str) -> plans.Plan:
  """A plan of a question whose lines are its steps; credits by their words."""
  steps = tuple(line for line in question.splitlines() if line.strip())
  words = [1 + len(_WORD.findall(step)) for step in steps]
  return plans.Plan(
    steps=steps, credits=tuple(100 * each / sum(words) for each in words)
  )


def that_query(step: str, before: str | None) -> str:
  """A step as it is asked: "that" is the answer of the one before."""
  return (step if before is None else step.replace("that", before)) + "\n"


def content(completion: str) -> str | None:
  """What of a completion is carried on: its final answer."""
  found = problems_lib.find_answer(completion)
  return answers.extract_answer(completion) if found is None else found
