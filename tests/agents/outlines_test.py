# SPDX-License-Identifier: Apache-2.0
"""Outlines are read strictly, and asked for until they can be."""

import json

import pytest

from jaxttc.agents import outlines
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs


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


def test_selection():
  assert outlines.read_selection("I think version2 is best: version 3", 3) == 2
  for text in ("the first", "version4", "version0"):
    with pytest.raises(ValueError, match="expected version1 to version3"):
      outlines.read_selection(text, 3)


def _run(script, **more):
  engine = scripted_engine.ScriptedEngine(script)
  task = outlines.decompose("A problem.", **more)
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  return done


def test_decompose_picks_the_named_one():
  def script(so_far, seed):
    if "version1:" in so_far:
      return "version2 ####"
    return _outline("common", f"own {seed % 2}") + " ####"

  done = _run(script, versions=6)
  assert done.value.steps[0] == "common"
  assert done.tokens["selection"] == 2
  assert done.tokens["outline"] == 6 * 6  # words of an outline


def test_decompose_needs_no_pick_among_equals():
  done = _run(lambda *_: _outline("same") + " ####", versions=4)
  assert done.value.steps == ("same",)
  assert "selection" not in done.tokens


def test_decompose_gives_up_with_the_reason():
  done = _run(lambda *_: "cannot ####", versions=3, tries=2)
  assert done.value is None
  assert "after 2 times 3 samples: expected a JSON" in done.error
  with pytest.raises(ValueError, match="versions is 0"):
    _run(lambda *_: "", versions=0)


def test_question_takes_the_last_step():
  found = outlines.Outline(("a", "b")).ending_in("What is c?")
  assert found.steps == ("a", "What is c?")
