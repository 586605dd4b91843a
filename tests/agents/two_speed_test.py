# SPDX-License-Identifier: Apache-2.0
"""Easy steps go to the fast mode, hard ones to the slow one."""

import json
import re

import numpy as np
import pytest

from jaxttc.agents import difficulty, outlines, traces, two_speed
from jaxttc.allocators import step_modes
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import programs

_FAST = two_speed.System("At once.\n", 8, lambda t: _answer(t), stage="fast")
_SLOW = two_speed.System("Think.\n", 32, lambda t: _answer(t), stage="slow")
_OUTLINE = outlines.Outline(("easy one", "hard two", "easy three"))


def _answer(text):
  found = re.search(r"#### (\S+)", text)
  return found[1] if found else None


def _script(so_far, seed):
  """Counts the answers it was shown; long when it thinks."""
  del seed
  known = len(re.findall(r"^got\d$", so_far, re.MULTILINE))
  thinks = so_far.rstrip().endswith("Think.")
  return ("well " * 5 if thinks else "") + f"#### got{known}"


def _run(policy, scorer=None, script=_script, systems=(_FAST, _SLOW), **more):
  engine = scripted_engine.ScriptedEngine(script)
  task = two_speed.carry_out(
    "The problem.", _OUTLINE, *systems, policy, scorer, **more
  )
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  return done


def _hard(query):
  return 0.9 if "hard" in query.splitlines()[-2] else 0.1


@pytest.mark.parametrize("regime", two_speed.REGIMES)
def test_modes_follow_difficulty(regime):
  done = _run(
    step_modes.threshold(0.5, 0.0), difficulty.computed(_hard), regime=regime
  )
  run = done.value
  assert run.slow == (False, True, False)
  assert run.scores == (0.1, 0.9, 0.1)
  assert run.contents == ("got0", "got1", "got2")  # answers are carried on
  assert run.answer == "got2"
  assert run.tokens == (2, 7, 2)
  assert done.tokens == {"fast": 4, "slow": 7}


def test_scorers_see_answers_in_one_regime_only():
  seen = {}
  for regime in two_speed.REGIMES:
    queries = []

    def measure(query, queries=queries):
      queries.append(query)
      return 0.0

    _run(
      step_modes.threshold(0.5, 0.0),
      difficulty.computed(measure),
      regime=regime,
    )
    seen[regime] = queries
  assert "got1" in seen["with_solutions"][2]
  assert "got" not in "".join(seen["text_only"])
  assert "hard two" in seen["text_only"][2]


def test_only_answers_are_carried_not_reasoning():
  engine = scripted_engine.ScriptedEngine(_script)
  task = two_speed.carry_out(
    "The problem.", _OUTLINE, _FAST, _SLOW, step_modes.always(True)
  )
  prompts = []
  ask = next(task)
  while True:
    prompts.append(ask.prompt)
    try:
      ask = task.send([programs.Reply("well well #### 5", 4, True)])
    except StopIteration:
      break
  assert "well" not in "".join(prompts)
  assert prompts[2].count("\n5\n") == 2
  del engine


def test_without_carrying_nothing_is_shown():
  run = _run(step_modes.always(False), carry=False).value
  assert run.contents == ("got0",) * 3


def test_majority_of_samples_is_carried():
  replies = [
    programs.Reply(f"#### {a}", 2, True) for a in ("4", "7", "7", "9")
  ] + [programs.Reply("no answer", 2, False)] * 5
  voting = _FAST._replace(samples=9)
  assert voting.settle(replies) == ("7", "#### 7")
  assert voting.settle(replies[4:]) == ("", "no answer")
  assert voting.settle(replies[:1] + replies[1:2]) == ("4", "#### 4")


def test_missing_answers_are_empty():
  run = _run(step_modes.always(False), script=lambda *_: "word ####").value
  assert run.contents == ("", "", "")


def test_whole_system_outlines_scores_and_solves():
  def script(so_far, seed):
    if "JSON object only" in so_far:
      return json.dumps({"step1": "hard start", "step2": "the end"}) + " ####"
    return _script(so_far, seed)

  engine = scripted_engine.ScriptedEngine(script)
  task = two_speed.scale(
    "The problem.",
    "What is it?",
    _FAST,
    _SLOW,
    step_modes.threshold(0.5),
    difficulty.computed(_hard),
    versions=3,
  )
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  assert done.value.steps == ("hard start", "What is it?")
  assert done.value.slow == (True, True)  # the last step is taken to be hard
  assert done.tokens["outline"] > 0


def test_refused_before_anything_is_asked():
  policy = step_modes.at_random(1, np.random.default_rng(0))
  with pytest.raises(ValueError, match="expected regime='text_only'"):
    two_speed.carry_out(
      "p", _OUTLINE, _FAST, _SLOW, policy, difficulty.known([0.5])
    )
  with pytest.raises(ValueError, match="regime 'both' is not one of"):
    two_speed.carry_out("p", _OUTLINE, _FAST, _SLOW, policy, regime="both")
  with pytest.raises(ValueError, match=r"difficulty of step 1 is 1\.5"):
    _run(step_modes.threshold(0.5), difficulty.known([1.5]))


def test_rows_come_back_as_runs(tmp_path):
  run = _run(step_modes.always(True)).value
  row = json.loads(json.dumps(traces.to_row(run, id="a")))
  assert traces.from_row(row) == run
  with pytest.raises(ValueError, match="row: 2 slow for 3 steps"):
    traces.from_row(row | {"slow": [True, False]})
  with pytest.raises(ValueError, match="field 'texts' is no list"):
    traces.from_row({k: v for k, v in row.items() if k != "texts"})
  path = tmp_path / "sft.jsonl"
  kept = traces.export(path, [("Q1", "got2", run), ("Q2", "other", run)])
  (line,) = path.read_text().splitlines()
  user, assistant = json.loads(line)["messages"]
  assert kept == 1
  assert user == {"role": "user", "content": "Q1"}
  assert assistant["content"].startswith("<think>\neasy one\nwell well")
  assert assistant["content"].endswith("</think>\ngot2")


def test_a_record_says_what_was_answered_and_what_each_stage_took():
  done = _run(step_modes.threshold(0.5), difficulty.computed(_hard))
  row = traces.record(done, gold="got2", id="a", sampling_id=3)
  assert json.loads(json.dumps(row)) == row
  assert traces.from_row(row) == done.value
  assert (row["id"], row["sampling_id"]) == ("a", 3)
  assert row["final_answer"] == "got2" and row["is_correct"] is True
  assert row["tokens_by_stage"] == done.tokens
  assert row["tokens_per_step"] == sum(done.tokens.values()) / 3
  assert traces.record(done, gold="got3")["is_correct"] is False
  assert traces.record(done)["is_correct"] is None
  lost = done._replace(value=None, error="step 1 of 3, fast: lost")
  row = traces.record(lost, gold="got2")
  assert row["final_answer"] is None and row["is_correct"] is False
  assert row["steps"] == [] and row["tokens_per_step"] is None
  assert row["error"] == "step 1 of 3, fast: lost"


def test_step_rows_ask_every_step_in_one_mode():
  run = _run(step_modes.always(True)).value
  first, _, third = traces.step_rows("p", run, "At once.\n")
  assert first["prompt"] == "p\n\n1. easy one\nAt once.\n"
  assert third["prompt"] == (
    "p\n\n1. easy one\ngot0\n2. hard two\ngot1\n3. easy three\nAt once.\n"
  )
  assert [first["completion"], third["completion"]] == [
    run.texts[0],
    run.texts[2],
  ]


def test_baseline_asks_once():
  engine = scripted_engine.ScriptedEngine(_script)
  task = two_speed.answer_at_once("The problem.\n", _SLOW)
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  assert (done.value, done.tokens) == ("got0", {"slow": 7})


def test_a_step_that_cannot_be_had_ends_its_own_problem_only():
  tasks = [
    two_speed.carry_out("p", _OUTLINE, _FAST, _SLOW, step_modes.always(slow))
    for slow in (True, False)
  ]
  engine = scripted_engine.ScriptedEngine(_script)
  limits = budget_lib.Budget(generated_tokens=8)
  poor, rich = sorted(
    programs.serve(tasks, {"policy": engine}, ["a", "b"], budget=limits)
  )
  assert poor.value is None
  assert poor.error == "step 3 of 3, slow: not paid for"
  assert rich.value.answer == "got2" and not rich.error


def test_lost_samples_do_not_vote():
  replies = [programs.Reply("", 0, False, "lost")] * 2
  kept = programs.Reply("#### 4", 2, True)
  assert _FAST.settle([*replies, kept]) == ("4", "#### 4")
  with pytest.raises(programs.GaveUp, match="fast: lost"):
    _FAST.settle(replies)


def test_outlines_come_from_wherever_one_says():
  def plan(problem):
    return outlines.Outline((f"hard {problem}", "the end"))
    yield  # makes this a generator

  task = two_speed.scale(
    "p",
    "What is it?",
    _FAST,
    _SLOW,
    step_modes.threshold(0.5, 0.0),
    difficulty.computed(_hard),
    plan=plan,
  )
  engine = scripted_engine.ScriptedEngine(_script)
  (done,) = programs.serve([task], {"policy": engine}, ["a"])
  assert done.value.steps == ("hard p", "What is it?")
  assert done.value.slow == (True, False)
  assert "outline" not in done.tokens


def test_two_models_serve_one_run():
  tasks = [
    two_speed.carry_out(
      "p",
      _OUTLINE,
      _FAST._replace(model="small"),
      _SLOW._replace(model="large"),
      step_modes.threshold(0.5, 0.0),
      difficulty.computed(_hard),
    )
  ]
  small = scripted_engine.ScriptedEngine(_script)
  large = scripted_engine.ScriptedEngine(_script)
  engines = {"small": small, "large": large}
  (done,) = programs.serve(tasks, engines, ["a"])
  assert (len(small.served), len(large.served)) == (2, 1)
  assert done.value.contents == ("got0", "got1", "got2")
