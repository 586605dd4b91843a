# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys

import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.solving import (
  problem_sets,
  search_solving,
  served_models,
  solve_recipe,
)
from jaxttc.testing import fault_server

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_SAMPLING = solve_recipe.SamplingOptions(step_tokens=12, max_tokens=36)


@pytest.fixture
def server():
  with fault_server.FaultServer() as opened:
    yield opened


@pytest.fixture
def questions(tmp_path):
  """Six questions whose answer is 1."""
  path = tmp_path / "questions.jsonl"
  rows = [{"id": f"q{i}", "question": f"What of {i}?"} for i in range(6)]
  path.write_text("".join(json.dumps(r | {"answer": "1"}) + "\n" for r in rows))
  return str(path)


def _recipe(server, questions, **changes):
  values = {
    "problems": problem_sets.ProblemSource(path=questions, count=0),
    "policy": server.url,
    "verifier": server.url,
    "model": "tiny",
    "verifier_model": "tiny",
    "decoder": "best_of_n(n=2)",
    "budget": "generated_tokens=60",
    "sampling": _SAMPLING,
    "batch": 3,
  }
  return solve_recipe.SolveRecipe(**{**values, **changes})


def _solve(recipe, path):
  return search_solving.solve_to_file(recipe, path, progress=False)


def _asked(server):
  return sum(books.requests for name, books in server.ledgers.items() if name)


def test_a_served_policy_and_reward_model_solve(server, questions, tmp_path):
  path = tmp_path / "answers.jsonl"
  rows = _solve(_recipe(server, questions), path)
  assert sorted(row["id"] for row in rows) == [f"q{i}" for i in range(6)]
  assert [
    json.loads(line) for line in path.read_text().splitlines()[1:]
  ] == rows
  for row in rows:
    assert row["stop"] in ("done", "generated_tokens")
    assert row["answer"] in ("0", "1", "2")
    assert row["correct"] == (row["answer"] == "1")
    assert 0 < row["cost"]["generated_tokens"] <= 60
    assert row["cost"]["prompt_tokens"] > 0 and row["assumed"] == {}
  told = sum(books.told for books in server.ledgers.values())
  assert told == sum(row["cost"]["generated_tokens"] for row in rows)


@pytest.mark.parametrize("who", ["engine", "verifier"])
def test_what_a_lost_server_left_undone_is_tried_again(
  server, questions, tmp_path, who
):
  path = tmp_path / "answers.jsonl"
  whole = _solve(_recipe(server, questions), path)
  lines = path.read_bytes().splitlines(keepends=True)
  lost = [json.loads(line) for line in lines[2:4]]
  for i, row in enumerate(lost, start=2):
    row |= {"stop": f"{who}: the server is gone", "answer": None}
    lines[i] = json.dumps(row).encode() + b"\n"
  path.write_bytes(b"".join(lines))
  before = _asked(server)
  rows = _solve(_recipe(server, questions), path)
  assert _asked(server) - before == 4 * len(lost)
  completions = {row["id"]: row["completion"] for row in rows}
  assert completions == {row["id"]: row["completion"] for row in whole}
  assert len(rows) == 6 and not any(r["stop"].startswith(who) for r in rows)
  # What the lost tries cost is still told.
  assert path.read_bytes().startswith(b"".join(lines))
  before = _asked(server)
  again = _solve(_recipe(server, questions), path)
  assert sorted(r["id"] for r in again) == sorted(r["id"] for r in rows)
  assert _asked(server) == before


def test_a_stopped_run_asks_only_for_what_is_left(server, questions, tmp_path):
  path = tmp_path / "answers.jsonl"
  whole = _solve(_recipe(server, questions), path)
  lines = path.read_bytes().splitlines(keepends=True)
  # Rows come in any order; the last one is torn.
  kept = [lines[0], lines[3], lines[1], lines[5][:20]]
  path.write_bytes(b"".join(kept))
  before = _asked(server)
  options = served_models.EndpointOptions(concurrency=2, retries=9)
  rows = _solve(_recipe(server, questions, endpoint=options, batch=2), path)
  by_id = {row["id"]: row["completion"] for row in whole}
  assert {row["id"]: row["completion"] for row in rows} == by_id
  assert _asked(server) - before == 4 * 4  # of four problems
  before = _asked(server)
  assert _solve(_recipe(server, questions), path) == rows
  assert _asked(server) == before
  path.write_bytes(b"".join([*lines[:3], lines[2]]))
  with pytest.raises(ValueError, match="line 4: id .* that of a problem not"):
    _solve(_recipe(server, questions), path)
  with pytest.raises(ValueError, match="line 1: written by another recipe"):
    _solve(_recipe(server, questions, seed=4), path)


def test_an_interrupt_hangs_up_and_keeps_what_is_done(
  server, questions, tmp_path, monkeypatch
):
  path = tmp_path / "answers.jsonl"
  real, closed = served_models.Served.solve, []

  def interrupted(self, *args):
    yield from itertools.islice(real(self, *args), 2)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(served_models.Served, "solve", interrupted)
    close = served_models.Served.close
    patch.setattr(
      served_models.Served, "close", lambda s: (closed.append(1), close(s))
    )
    with pytest.raises(KeyboardInterrupt):
      _solve(_recipe(server, questions), path)
  assert len(path.read_text().splitlines()) == 3 and closed == [1]
  assert len(_solve(_recipe(server, questions), path)) == 6


def test_chats_with_a_key(server, questions, tmp_path, monkeypatch, caplog):
  caplog.set_level("DEBUG")
  monkeypatch.setenv("TINY_KEY", "sk-hush-9")
  server.key = "sk-hush-9"
  options = served_models.EndpointOptions(chat=True, key_variable="TINY_KEY")
  path = tmp_path / "answers.jsonl"
  rows = _solve(_recipe(server, questions, endpoint=options), path)
  assert all(row["answer"] in ("0", "1", "2") for row in rows)
  asked = [p for p in server.payloads if "max_tokens" in p]
  assert asked and all("messages" in payload for payload in asked)
  assert "hush" not in path.read_text() + caplog.text


def test_a_local_policy_with_a_served_reward_model(server, models, tmp_path):
  recipe = _recipe(
    server,
    "",
    problems=problem_sets.ProblemSource(count=3, family="modular", steps=(2,)),
    policy=str(models / "policy.safetensors"),
    budget="generated_tokens=40,verifier_calls=4",
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
  )
  rows = _solve(recipe, tmp_path / "answers.jsonl")
  calls = sum(row["cost"]["verifier_calls"] for row in rows)
  books = server.ledgers.values()
  assert calls == sum(b.told_scores for b in books)
  assert all(row["cost"]["generated_tokens"] <= 40 for row in rows)


def test_a_served_policy_with_a_judge_in_this_process(
  server, questions, models, tmp_path
):
  policy = bundle_lib.load(str(models / "policy.safetensors"))
  judge = str(models / "judge.safetensors")
  bundle_lib.save(judge, bundle_lib.as_verifier(policy))
  recipe = _recipe(
    server,
    questions,
    problems=problem_sets.ProblemSource(path=questions, count=2),
    verifier=judge,
    decoder="best_of_n(n=2, verifications=2)",
    budget="generated_tokens=60,verifier_calls=2",
  )
  rows = _solve(recipe, tmp_path / "answers.jsonl")
  for row in rows:
    assert row["cost"]["verifier_calls"] == 2 < row["cost"]["verifier_tokens"]
  steps = dataclasses.replace(recipe, decoder="astar(children=2)")
  with pytest.raises(ValueError, match="judges whole ones"):
    _solve(steps, tmp_path / "none.jsonl")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model": ""}, "model must name the model that http://"),
    ({"model": "big"}, "there is no model 'big'; it serves 'tiny'"),
    ({"verifier": ""}, "the decoder needs rewards: give a verifier"),
    ({"verifier": "arithmetic_prm"}, "reads token ids, which the policy at"),
    ({"verifier_model": ""}, "verifier_model must name the reward model"),
    ({"budget": "flops=1e9"}, "budget.flops cannot be kept"),
    ({"budget": "verifier_tokens=9"}, "budget.verifier_tokens cannot be kept"),
    ({"decoder": "likelihood_beam(width=2)"}, "set endpoint.logprobs"),
    ({"batch": 0}, "batch must be at least 1, got 0"),
    (
      {"endpoint": served_models.EndpointOptions(chat=True)}
      | {"decoder": "astar(children=2)"},
      "a chat cannot be continued; set endpoint.chat",
    ),
    (
      {"endpoint": served_models.EndpointOptions(key_variable="NO_SUCH_KEY")},
      "variable NO_SUCH_KEY holds no API key",
    ),
  ],
)
def test_what_could_never_run_is_refused(
  server, questions, tmp_path, changes, message
):
  with pytest.raises(ValueError, match=message) as caught:
    _solve(_recipe(server, questions, **changes), tmp_path / "answers.jsonl")
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "answers.jsonl").exists()


def test_the_script_takes_a_url_and_never_shows_the_key(questions, tmp_path):
  with fault_server.FaultServer(key="right", echo=True) as server:
    done = subprocess.run(
      [
        sys.executable,
        str(_ROOT / "scripts" / "solve.py"),
        f"--config.policy={server.url}",
        "--config.model=tiny",
        "--config.decoder=self_consistency(n=3)",
        "--config.endpoint.key_variable=TINY_KEY",
        f"--config.problems.path={questions}",
        f"--out={tmp_path / 'answers.jsonl'}",
      ],
      capture_output=True,
      text=True,
      timeout=120,
      env=os.environ | {"TINY_KEY": "sk-hush-9", "PYTHONPATH": str(_ROOT)},
      check=False,
    )
  assert done.returncode == 1 and "Traceback" not in done.stderr
  assert "hush" not in done.stderr + done.stdout
  line = done.stderr.strip().splitlines()[-1]
  assert line.startswith("solve.py: http://127.0.0.1:")
  assert "401 wrong key Bearer ***; the key in TINY_KEY was not" in line
