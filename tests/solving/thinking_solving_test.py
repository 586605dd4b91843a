# SPDX-License-Identifier: Apache-2.0
import json
import pathlib
import shutil
import subprocess
import sys

import pytest
import rich.console

from jaxttc import mesh as mesh_lib
from jaxttc.cost import costs
from jaxttc.cost import ledger as ledger_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  policy_solving,
  problem_sets,
  search_solving,
  solve_recipe,
  thinking_solving,
)

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def _recipe(**changes):
  values = {
    "problems": problem_sets.ProblemSource(family="digit_sums", count=7),
    "policy": "thinking_lm",
    "verifier": "",
    "thinking": "hard_cap(budget=12)",
    "budget": "",
    "sampling": solve_recipe.SamplingOptions(min_p=0.01, max_tokens=40),
    "batch": 4,
  }
  return solve_recipe.SolveRecipe(**(values | changes))


def _solve(recipe, path, **more):
  return thinking_solving.solve_to_file(recipe, path, progress=False, **more)


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
  path = tmp_path_factory.mktemp("thought") / "answers.jsonl"
  return _solve(_recipe(), path), path


def test_rows_say_what_each_thought_took(solved):
  rows, path = solved
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines[1:] == rows and len(rows) == 7
  job = thinking_solving.prepare(_recipe())
  words = job.policy.tokenizer
  prices = settings_lib.prices(
    job.policy, None, solve_recipe.SamplingOptions().build()
  )
  for row, prompt in zip(rows, job.prompts, strict=True):
    assert 1 <= row["thinking_tokens"] <= row["thinking_budget"] == 12
    forced = row["thinking_tokens"] == 12
    assert row["thinking_finish"] == ("forced" if forced else "natural")
    written = words.encode(row["thinking"])
    assert len(written) == row["thinking_tokens"] - 1
    assert row["completion"].startswith("####") and row["stop"] == "done"
    assert row["answer_tokens"] == len(words.encode(row["completion"]))
    sampled = row["thinking_tokens"] + row["answer_tokens"]
    whole = prices.root(len(prompt)) + prices.child(sampled, len(prompt))
    assert row["cost"] == whole.as_dict()
  assert {row["thinking_finish"] for row in rows} == {"forced", "natural"}


def test_a_budget_changes_what_is_written(solved, tmp_path):
  other = _solve(
    _recipe(thinking="hard_cap(budget=5)"), tmp_path / "other.jsonl"
  )
  for row, wide in zip(other, solved[0], strict=True):
    assert row["thinking_tokens"] <= 5
    assert wide["thinking"].startswith(row["thinking"])


def test_goes_on_where_it_stopped(solved, tmp_path):
  rows, whole = solved
  path = tmp_path / "answers.jsonl"
  lines = whole.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:4]) + lines[4][:20])
  book = ledger_lib.Ledger("thoughts")
  assert _solve(_recipe(batch=3), path, ledger=book) == rows
  assert path.read_bytes() == whole.read_bytes()
  spent = costs.Cost.sum(costs.Cost.from_dict(r["cost"]) for r in rows[3:])
  [entry] = book.entries
  assert (entry.phase, entry.queries) == ("inference", 4)
  assert entry.flop.value == pytest.approx(float(spent.flops))
  with pytest.raises(ValueError, match="written by another recipe"):
    _solve(_recipe(seed=1), path)


def test_guidance_is_right_where_the_cap_is_not(tmp_path):
  problems = problem_sets.ProblemSource(
    family="digit_sums", steps=(3,), count=8
  )

  def right(thinking):
    recipe = _recipe(thinking=thinking, problems=problems, batch=8)
    rows = _solve(recipe, tmp_path / f"{thinking[:4]}.jsonl")
    assert all(row["thinking_tokens"] <= 11 for row in rows)
    return sum(row["correct"] for row in rows)

  assert right("guided(budget=11)") >= right("hard_cap(budget=11)") + 4


def test_at_once_and_without_limit(tmp_path):
  at_once = _solve(_recipe(thinking="no_thinking"), tmp_path / "at_once.jsonl")
  for row in at_once:
    assert (row["thinking"], row["thinking_tokens"]) == ("", 0)
    assert row["thinking_finish"] == "disabled"
    assert row["thinking_budget"] is None and row["answer"] is not None
  full = _solve(_recipe(thinking="full"), tmp_path / "full.jsonl")
  assert all(row["thinking_budget"] is None for row in full)
  for row in full:
    if row["thinking_finish"] == "unfinished":
      assert row["answer"] is None and row["stop"] == "length"
  console = rich.console.Console(width=90, record=True)
  for rows in (at_once, full):
    console.print(thinking_solving.table(rows))
  assert "disabled 7" in console.export_text()


def test_hints_are_in_the_prompt():
  said = thinking_solving.prepare(
    _recipe(thinking="prompt_hint(budget=9, words='Use {budget} tokens')")
  )
  text = said.policy.tokenizer.decode(said.prompts[0], specials=True)
  assert text.endswith("mod 10?\nUse 9 tokens\n<think>")
  terse = thinking_solving.prepare(_recipe(thinking="prompt_hint(budget=9)"))
  text = terse.policy.tokenizer.decode(terse.prompts[0], specials=True)
  assert text.endswith("Solve tersely.\n<think>")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"thinking": "hard_cap"}, "needs the argument 'budget', such as hard_cap"),
    ({"thinking": "hard_cup(budget=5)"}, "did you mean 'hard_cap'"),
    ({"budget": "generated_tokens=30"}, "may take up to generated_tokens=40"),
    ({"budget": "seconds=30"}, "budget.seconds cannot be kept"),
    ({"budget": "joules=30"}, "budget.joules cannot be kept"),
    ({"budget": "generated_token=30"}, "did you mean 'generated_tokens'"),
    ({"policy": "http://localhost:1/v1"}, "thinking cannot be steered"),
    ({"batch": 0}, "batch must be at least 1"),
    (
      {"sampling": solve_recipe.SamplingOptions(max_tokens=255)},
      "sampling.max_tokens=255 exceed the model's 256",
    ),
  ],
)
def test_recipes_that_cannot_be(changes, message, tmp_path):
  path = tmp_path / "answers.jsonl"
  with pytest.raises(ValueError, match=message) as caught:
    _solve(_recipe(**changes), path)
  assert "\n" not in str(caught.value) and not path.exists()


def test_a_budget_that_no_problem_can_exceed_is_kept(tmp_path):
  recipe = _recipe(budget="generated_tokens=40,flops=1G", batch=7)
  for row in _solve(recipe, tmp_path / "answers.jsonl"):
    assert row["cost"]["generated_tokens"] <= 40


def test_thinking_is_not_spread(tmp_path):
  with pytest.raises(ValueError, match="one device of one process"):
    _solve(_recipe(), tmp_path / "a.jsonl", mesh=mesh_lib.make_mesh())


def test_searches_and_policies_do_not_ignore_it(tmp_path):
  path = tmp_path / "answers.jsonl"
  with pytest.raises(ValueError, match="is not for a search"):
    search_solving.solve_to_file(_recipe(), path, progress=False)
  with pytest.raises(ValueError, match="both say how to decode"):
    policy_solving.solve_to_file(_recipe(), path, progress=False)


def test_the_script_decodes_under_a_thinking_budget(tmp_path):
  path = tmp_path / "answers.jsonl"
  command = [sys.executable, "scripts/solve.py", "--noprogress"]
  command += [f"--out={path}", "--config.problems.count=5"]
  done = subprocess.run(
    [*command, "--thinking=guided(budget=14)"],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert "thinking tokens" in done.stdout
  rows = [json.loads(line) for line in path.read_text().splitlines()][1:]
  assert all(0 < row["thinking_tokens"] <= 14 for row in rows)
  wrong = subprocess.run(
    [*command, "--thinking=guided(budget=64)"],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )
  assert wrong.returncode == 1
  assert wrong.stderr.count("\n") == 1 and "1..63" in wrong.stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """A published model's folder whose vocabulary has the tags."""
  data = pathlib.Path(__file__).parents[1] / "data" / "hf"
  folder = tmp_path_factory.mktemp("models") / "qwen3"
  shutil.copytree(data / "qwen3", folder)
  for file in (data / "tokenizer").iterdir():
    text = file.read_text("utf-8")
    text = text.replace("<|pad|>", "<think>").replace("<|step|>", "</think>")
    (folder / file.name).write_text(text, "utf-8")
  shutil.copy(data / "templates" / "qwen.jinja", folder / "chat_template.jinja")
  questions = folder / "questions.jsonl"
  rows = [{"question": f"What is {i} + 1?", "answer": i + 1} for i in range(3)]
  questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return folder


@pytest.mark.parametrize(
  "thinking", ["hard_cap(budget=6)", "early_exit(budget=12, trial_tokens=4)"]
)
def test_published_models_think_within_their_budget(
  published, thinking, tmp_path
):
  recipe = _recipe(
    policy=str(published),
    problems=problem_sets.ProblemSource(
      path=str(published / "questions.jsonl"), chat=str(published), count=0
    ),
    thinking=thinking,
    sampling=solve_recipe.SamplingOptions(max_tokens=20),
  )
  job = thinking_solving.prepare(recipe)
  for problem, prompt in zip(job.problems, job.prompts, strict=True):
    text = job.policy.tokenizer.decode(prompt, specials=True)
    assert problem.text in text and text.endswith("<think>\n")
  rows = _solve(recipe, tmp_path / "answers.jsonl")
  assert len(rows) == 3
  for row in rows:
    assert 1 <= row["thinking_tokens"] <= row["thinking_budget"]
    assert row["completion"] is not None
    assert "think>" not in row["thinking"] + row["completion"]


def test_a_published_model_without_the_tags_is_refused(published, tmp_path):
  data = pathlib.Path(__file__).parents[1] / "data" / "hf"
  plain = tmp_path / "plain"
  shutil.copytree(published, plain)
  for file in (data / "tokenizer").iterdir():
    shutil.copy(file, plain / file.name)
  with pytest.raises(ValueError, match="no token '</think>'"):
    thinking_solving.prepare(_recipe(policy=str(plain)))
