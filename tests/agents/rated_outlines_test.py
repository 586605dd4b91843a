# SPDX-License-Identifier: Apache-2.0
"""Steps and ratings as chat models write them, read strictly."""

import pytest

from jaxttc.agents import outlines, rated_outlines, two_speed
from jaxttc.allocators import step_modes
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs

# What chat models write when they are asked by `rated_prompt`.
_BARE = (
  '{"step1": {"find": "the price of one pen", "difficulty": 0.2},'
  ' "step2": {"find": "the price of \\(n\\) pens", "difficulty": 0.7}}'
)
_FENCED = f"Sure! Here is the outline:\n```json\n{_BARE}\n```\nGood luck!"
_PROSE = f"I would go about it so: {_BARE} That is all."
_REFUSAL = "I am sorry, but I need the full problem to help with that."
_CUT = _BARE[:60]


@pytest.mark.parametrize("text", [_BARE, _FENCED, _PROSE])
def test_replies_of_many_forms_are_read(text):
  found = rated_outlines.read_rated(text)
  assert found.outline.steps == (
    "the price of one pen",
    "the price of \\(n\\) pens",
  )
  assert found.difficulties == (0.2, 0.7)


@pytest.mark.parametrize(
  ("text", "said"),
  [
    (_REFUSAL, "expected a JSON object, got 'I am sorry"),
    (_CUT, "expected a JSON object"),
    ('{"step1": "the price"}', "step1 is 'the price'; expected an object"),
    ('{"step1": {"find": "x"}}', "expected an object of find and difficulty"),
    (
      '{"step1": {"find": "x", "difficulty": 0.1, "answer": 3}}',
      "expected an object of find and difficulty",
    ),
    ('{"step1": {"find": 3, "difficulty": 0.1}}', "step1 is to find is 3"),
    ('{"step1": {"find": "x", "difficulty": 7}}', "step1 is 7; expected"),
    ('{"step1": {"find": "x", "difficulty": "low"}}', "step1 is 'low'"),
    ('{"step1": {"find": "x", "difficulty": true}}', "step1 is True"),
    ('{"step1": {"find": "x", "difficulty": NaN}}', "step1 is nan"),
    ('{"step2": {"find": "x", "difficulty": 0.1}}', "expected step1"),
    ('{"step1": {"find": " ", "difficulty": 0.1}}', "step 1 .* is blank"),
  ],
)
def test_what_is_none_is_refused(text, said):
  with pytest.raises(ValueError, match=said):
    rated_outlines.read_rated(text)


def _serve(task, replies):
  said = iter(replies)
  engine = scripted_engine.ScriptedEngine(lambda *_: next(said) + " ####")
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  return done


def test_asked_again_until_it_can_be_read():
  done = _serve(rated_outlines.plan("A problem."), [_REFUSAL, _CUT, _FENCED])
  assert done.value.difficulties == (0.2, 0.7)
  assert done.tokens["outline"] > 30  # all three replies are paid for


def test_one_line_when_it_never_can():
  done = _serve(rated_outlines.plan("A problem.", tries=2), [_REFUSAL] * 2)
  assert done.value is None
  assert done.error.startswith(
    "no rated outline after 2 tries: expected a JSON"
  )
  assert "\n" not in done.error
  with pytest.raises(ValueError, match="tries is 0"):
    next(rated_outlines.plan("A problem.", tries=0))
  assert issubclass(outlines.OutlineError, programs.GaveUp)


def test_ratings_pick_the_modes():
  fast = two_speed.System("At once.\n", 8, str.strip, stage="fast")
  slow = two_speed.System("Think.\n", 8, str.strip, stage="slow")

  def whole(problem):
    found = yield from rated_outlines.plan(problem)
    return (
      yield from two_speed.carry_out(
        problem,
        found.outline,
        fast,
        slow,
        step_modes.threshold(0.5, 0.0),
        found.scorer(),
        regime="text_only",
      )
    )

  done = _serve(whole("Pens."), [_BARE, "3", "6"])
  assert done.value.slow == (False, True)
  assert done.value.scores == (0.2, 0.7)
  assert set(done.tokens) == {"outline", "fast", "slow"}
