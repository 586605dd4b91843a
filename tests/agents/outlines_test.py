# SPDX-License-Identifier: Apache-2.0
"""Outlines are read strictly."""

import json

import pytest

from jaxttc.agents import outlines


def _outline(*steps):
  return json.dumps({f"step{i}": s for i, s in enumerate(steps, start=1)})


def test_reads_through_fences_prose_and_latex():
  body = _outline("find x", "find y")
  for text in (body, f"Here:\n```json\n{body}\n```\nDone.", f"So {body} it is"):
    assert outlines.read_outline(text).steps == ("find x", "find y")
  found = outlines.read_outline('{"step1": "solve \\( x \\) for \\sqrt{2}"}')
  assert found.steps == ("solve \\( x \\) for \\sqrt{2}",)


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("no object", "expected a JSON object"),
    ("{}", "object of steps"),
    ('{"step1": "a", "step3": "b"}', "expected step1, step2"),
    ('{"step1": "a", "step1": "b"}', "names a step twice"),
    ('{"step1": 3}', "not text"),
    ('{"step1": " "}', "step 1 of the outline is blank"),
    ('{"step1": "a",}', "not valid JSON"),
  ],
)
def test_refuses_what_is_no_outline(text, said):
  with pytest.raises(ValueError, match=said):
    outlines.read_outline(text)


def test_question_takes_the_last_step():
  found = outlines.Outline(("a", "b")).ending_in("What is c?")
  assert found.steps == ("a", "What is c?")
