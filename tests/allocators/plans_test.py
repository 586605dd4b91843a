# SPDX-License-Identifier: Apache-2.0
"""Plans, read from what planners write and from files."""

import json

import pytest

from jaxttc.allocators import plans

_LIST = """Here is the plan:

1. Find the total cost.
   Hint: add the prices
**2)** Subtract it from what she had.
- Hint: 50 minus that
Step 3: Round.
"""


def test_numbered_lists_are_read_with_their_hints():
  steps, hints = plans.read_steps(_LIST)
  assert steps == (
    "Find the total cost.",
    "Subtract it from what she had.",
    "Round.",
  )
  assert hints == ("add the prices", "50 minus that", "")


def test_no_list_is_one_step():
  steps, hints = plans.read_steps("I would just add the numbers.")
  assert steps == ("Solve the problem directly.",) and hints == ("",)


@pytest.mark.parametrize(
  "text",
  [
    '{"level": 4, "credits": [40, 60]}',
    'Sure!\n```json\n{"level": "4", "credits": ["40%", 60]}\n```\nDone {ok}.',
    '{"credits": {"1": 40, "2": 60}, "level": 4.0}',
    '{"level": 1, "credits": [1]} or rather {"level": 4, "credits": [40, 60]}',
  ],
)
def test_credits_are_read_out_of_prose(text):
  assert plans.read_credits(text, 2) == (4, (40.0, 60.0))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("forty and sixty", "no JSON object"),
    ('{"level": 4}', "no JSON object"),
    ('{"level": 4, "credits": [40]}', "for 2 steps"),
    ('{"level": 6, "credits": [40, 60]}', "level is 6"),
    ('{"level": 4, "credits": [-1, 60]}', "credit of step 1"),
    ('{"level": 4, "credits": ["a", 60]}', "expected a number"),
    ('{"level": true, "credits": [1, 60]}', "expected a number"),
  ],
)
def test_credits_that_cannot_be_are_refused(text, message):
  with pytest.raises(ValueError, match=message):
    plans.read_credits(text, 2)


def test_a_planner_asks_twice_and_counts_its_tokens():
  asked = []

  def generate(prompt):
    asked.append(prompt)
    if len(asked) == 1:
      return _LIST, 30
    return '{"level": 2, "credits": [20, 30, 50]}', 12

  plan = plans.planner(generate)("How much is left?")
  assert plan.credits == (20, 30, 50) and plan.level == 2
  assert plan.tokens == 42 and len(plan.hints) == 3
  assert "Find the total cost." in asked[1]
  assert plan.total() == 250
  assert plan.split(plan.total()).sum() == 250


def test_a_planner_that_rates_badly_still_plans():
  answers = iter([("1. One\n2. Two", 5), ("no idea", 5)])
  plan = plans.planner(lambda _: next(answers))("?")
  assert plan.credits == (50, 50) and plan.level == 3 and plan.tokens == 10


def test_both_file_layouts_are_read(tmp_path):
  rows = [
    {
      "id": 7,
      "query": "q",
      "steps": ["a", "b"],
      "credits": [30, 70],
      "level": 3,
      "answer": "1",
    },
    {"id": 8, "query": "r", "steps": ["c"], "credits": [100], "level": "5"},
  ]
  published, lines = tmp_path / "published.json", tmp_path / "plans.jsonl"
  published.write_text(json.dumps({"stats": rows}))
  lines.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
  found = plans.load(published)
  assert found == plans.load(lines)
  assert found["7"].steps == ("a", "b") and found["8"].level == 5


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "no plans"),
    ('{"stats": 3}', "expected a list"),
    ('{"stats": [3]}', "entry 1: expected an object"),
    ('{"id": 1}', "line 1: no field 'steps'"),
    ("{", "line 1: not valid JSON"),
    (
      '{"stats": [{"id": 1, "steps": [], "credits": [], "level": 1}]}',
      "entry 1: a plan has at least one step",
    ),
    (
      '{"id": 1, "steps": ["a"], "credits": [1], "level": 1}\n' * 2,
      "line 2: id '1' comes twice",
    ),
  ],
)
def test_bad_files_name_file_and_row(tmp_path, text, message):
  path = tmp_path / "plans.jsonl"
  path.write_text(text)
  with pytest.raises(ValueError, match=message) as caught:
    plans.load(path)
  assert str(path) in str(caught.value)


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"steps": (), "credits": ()}, "at least one step"),
    ({"steps": (" ",), "credits": (1.0,)}, "step 1 of the plan is blank"),
    ({"steps": ("a",), "credits": (1.0, 2.0)}, "2 credits for 1"),
    ({"steps": ("a",), "credits": (0.0,)}, "all credits are zero"),
    ({"steps": ("a",), "credits": (1.0,), "level": 0}, "level is 0"),
    ({"steps": ("a",), "credits": (1.0,), "hints": ("x", "y")}, "2 hints"),
    ({"steps": ("a",), "credits": (1.0,), "tokens": -1}, "cost -1 tokens"),
  ],
)
def test_plans_that_cannot_be_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    plans.Plan(**fields)
