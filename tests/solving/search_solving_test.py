# SPDX-License-Identifier: Apache-2.0
import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import rich.console

from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import transformer_flops
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  answer_rows,
  loading,
  problem_sets,
  search_solving,
  solve_recipe,
)
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.testing import tiny_models

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def recipe(models, **changes):
  values = {
    "problems": problem_sets.ProblemSource(
      count=12, family="modular", steps=(2,)
    ),
    "policy": str(models / "policy.safetensors"),
    "verifier": str(models / "verifier.safetensors"),
    "decoder": "best_of_n(n=2)",
    "budget": "generated_tokens=60",
    "sampling": solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    "batch": 4,
  }
  return solve_recipe.SolveRecipe(**{**values, **changes})


def solve(recipe, path):
  return search_solving.solve_to_file(recipe, path, progress=False)


@pytest.fixture(scope="module")
def solved(models, tmp_path_factory):
  path = tmp_path_factory.mktemp("solved") / "answers.jsonl"
  return solve(recipe(models), path), path


def test_rows_say_what_the_search_found(models, solved):
  rows, path = solved
  job = search_solving.prepare(recipe(models))
  names = [problem.id for problem in job.problems]
  results = search_lib.solve(
    job.prompts,
    names,
    job.policy,
    job.verifier,
    job.decoder,
    budget=job.budget,
    settings=job.settings,
    batch=4,
  )
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert lines[1:] == rows
  for row, name, result in zip(rows, names, results, strict=True):
    assert row["id"] == name
    assert row["completion"] == result.completion
    assert row["cost"] == result.cost.as_dict()
    assert row["cost"]["generated_tokens"] <= 60
    assert row["stop"] == result.stop
    assert row["tree"]["nodes"] == len(result.tree.parent)
    assert row["tree"]["finished"] == len(result.tree.finished())
    assert row["correct"] in (True, False)
  assert any(row["answer"] for row in rows)


def test_goes_on_after_a_torn_line_without_spending_again(
  models, solved, tmp_path, monkeypatch
):
  rows, whole = solved
  path = tmp_path / "answers.jsonl"
  lines = whole.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:6]) + lines[6][:25])
  asked = []
  real = search_lib.solve

  def spy(prompts, names, *args, **kwargs):
    asked.extend(names)
    return real(prompts, names, *args, **kwargs)

  monkeypatch.setattr(search_lib, "solve", spy)
  resumed = solve(recipe(models), path)
  assert asked == [row["id"] for row in rows[5:]]
  assert (
    path.read_bytes().splitlines()[:6] == whole.read_bytes().splitlines()[:6]
  )
  assert [r["completion"] for r in resumed] == [r["completion"] for r in rows]
  asked.clear()
  assert solve(recipe(models), path) == resumed
  assert not asked


def test_interrupt_keeps_what_is_done(models, solved, tmp_path, monkeypatch):
  rows, _ = solved
  path = tmp_path / "answers.jsonl"
  real = search_lib.solve

  def interrupted(*args, **kwargs):
    for i, result in enumerate(real(*args, **kwargs)):
      if i == 3:
        raise KeyboardInterrupt
      yield result

  with monkeypatch.context() as patch:
    patch.setattr(search_lib, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
      solve(recipe(models), path)
  assert len(path.read_text().splitlines()) == 1 + 3
  resumed = solve(recipe(models), path)
  assert [r["completion"] for r in resumed] == [r["completion"] for r in rows]


def test_full_disk_ends_with_a_whole_line(
  models, solved, tmp_path, monkeypatch
):
  rows, _ = solved
  path = tmp_path / "answers.jsonl"
  real = os.write

  def write(file, data):
    if b'"id": "%s"' % rows[2]["id"].encode() in data:
      real(file, data[:10])
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return real(file, data)

  with monkeypatch.context() as patch:
    patch.setattr(os, "write", write)
    with pytest.raises(ValueError, match="No space left on device; what is"):
      solve(recipe(models), path)
  assert path.read_bytes().endswith(b"\n")
  assert len(path.read_text().splitlines()) == 1 + 2
  assert len(solve(recipe(models), path)) == len(rows)


def test_output_that_cannot_be_opened(models, tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written: "):
    solve(recipe(models), tmp_path / "file" / "answers.jsonl")


def test_file_of_another_recipe_is_refused(models, solved):
  other = recipe(models, seed=1)
  before = solved[1].read_bytes()
  with pytest.raises(ValueError, match="line 1: written by another recipe"):
    solve(other, solved[1])
  assert solved[1].read_bytes() == before


def test_damaged_line_is_named(models, solved, tmp_path):
  path = tmp_path / "answers.jsonl"
  lines = solved[1].read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join([*lines[:3], b"{oops\n", *lines[4:]]))
  with pytest.raises(ValueError, match="line 4: not JSON"):
    solve(recipe(models), path)
  path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
  with pytest.raises(ValueError, match="line 3: id .* expected"):
    solve(recipe(models), path)


def test_batch_may_change_between_runs(models, solved, tmp_path):
  path = tmp_path / "answers.jsonl"
  path.write_bytes(b"".join(solved[1].read_bytes().splitlines(True)[:4]))
  rows = solve(recipe(models, batch=3), path)
  assert [r["completion"] for r in rows] == [r["completion"] for r in solved[0]]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"decoder": "best_of_m(n=2)"}, "did you mean 'best_of_n'"),
    ({"decoder": "best_of_n(n=0)"}, "n must be at least 1, got 0"),
    ({"budget": "generated_token=5"}, "did you mean 'generated_tokens'"),
    ({"budget": "prompt_tokens=3"}, "exceeds the budget of prompt_tokens=3"),
    ({"budget": "flops=10"}, "exceeds the budget of flops=10"),
    ({"policy": "arithmetic_ml"}, "no model named 'arithmetic_ml'"),
    ({"verifier": ""}, "needs rewards"),
    ({"batch": 0}, "batch must be at least 1, got 0"),
    ({"width": 0.5}, "width=0.5 .*allowed: 1 alone"),
    ({"width": 0.5, "policy": "http://localhost:1/v1"}, "width=0.5: expected"),
    (
      {"sampling": solve_recipe.SamplingOptions(temperature=-1.0)},
      "temperature.*-1",
    ),
    (
      {"sampling": solve_recipe.SamplingOptions(aggregate="lst")},
      "mean 'last'",
    ),
    (
      {"sampling": solve_recipe.SamplingOptions(step_tokens=8, max_tokens=4)},
      "max_tokens=4 must be at least",
    ),
    (
      {"problems": problem_sets.ProblemSource(family="stroies")},
      "Did you mean 'stories'",
    ),
  ],
)
def test_impossible_recipes_are_refused(models, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message) as caught:
    solve(recipe(models, **changes), tmp_path / "answers.jsonl")
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "answers.jsonl").exists()


def test_damaged_checkpoint_is_named(models, tmp_path):
  whole = (models / "policy.safetensors").read_bytes()
  for content in (whole[: len(whole) // 2], b"not a checkpoint"):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="broken.safetensors"):
      solve(recipe(models, policy=str(path)), tmp_path / "answers.jsonl")


def test_heads_that_the_tensors_do_not_have(models, tmp_path):
  policy, _ = tiny_models.tiny_bundles()
  config = dataclasses.replace(policy.config, heads=3)
  path = str(tmp_path / "odd.safetensors")
  bundle_lib.save(path, dataclasses.replace(policy, config=config))
  with pytest.raises(ValueError, match="odd.safetensors: ill-shaped tensors"):
    solve(recipe(models, policy=path), tmp_path / "answers.jsonl")


def test_verifier_of_another_vocabulary(models, tmp_path):
  _, verifier = tiny_models.tiny_bundles()
  other = tokenizer_lib.WordTokenizer(tokenizer_lib.WORDS[::-1])
  path = str(tmp_path / "other.safetensors")
  bundle_lib.save(path, dataclasses.replace(verifier, tokenizer=other))
  with pytest.raises(ValueError, match="another vocabulary"):
    solve(recipe(models, verifier=path), tmp_path / "answers.jsonl")


def test_models_are_kept_in_the_dtype_of_the_recipe(models, tmp_path):
  job = search_solving.prepare(recipe(models, dtype="int8"))
  for bundle in (job.policy, job.verifier):
    assert bundle.stored_dtype == "int8" and bundle.dtype == "float32"
  path = tmp_path / "answers.jsonl"
  rows = solve(recipe(models, dtype="int8"), path)
  assert len(rows) == 12
  with pytest.raises(ValueError, match="by another recipe and policy and ver"):
    solve(recipe(models), path)
  with pytest.raises(ValueError, match="dtype is 'int7'; expected one of"):
    solve(recipe(models, dtype="int7"), path)


def test_greedy_is_at_temperature_zero(models):
  job = search_solving.prepare(recipe(models, decoder="greedy"))
  assert job.settings.sampler.temperature == 0
  assert job.verifier is None


def test_a_narrower_policy_is_charged_its_own_price(models, tmp_path):
  nested = str(models / "nested.safetensors")
  with pytest.raises(ValueError, match="width=0.75 .*allowed: 0.5, 1.0"):
    search_solving.prepare(recipe(models, policy=nested, width=0.75))
  path = tmp_path / "narrow.jsonl"
  narrow = recipe(models, policy=nested, width=0.5, decoder="greedy")
  rows = solve(narrow, path)
  whole, small = (
    search_solving.prepare(
      recipe(models, policy=nested, width=w)
    ).policy.shape()
    for w in (1.0, 0.5)
  )
  for row in rows:
    cost = row["cost"]
    # The last token is sampled, and never read.
    tokens = int(cost["prompt_tokens"] + cost["generated_tokens"]) - 1
    price = transformer_flops.prefill_flops(small, tokens)
    assert cost["flops"] == price
    assert price < transformer_flops.prefill_flops(whole, tokens)
  with pytest.raises(ValueError, match="written by another recipe"):
    solve(recipe(models, policy=nested, decoder="greedy"), path)


def test_slots_fit_the_budget_but_never_grow(models):
  job = search_solving.prepare(recipe(models, decoder="astar(nodes=256)"))
  assert job.settings.slots == 60 + 8
  free = dataclasses.replace(job.settings, slots=None)
  for tokens in (None, 10**6):
    assert loading.fit_slots(free, job.decoder, tokens).slots is None
  assert loading.fit_slots(job.settings, job.decoder, 10).slots == 60 + 8
  # An arena that could not double within the budget has it all at once.
  first = free.arena_slots(job.decoder.shape)
  assert loading.fit_slots(free, job.decoder, first).slots == first + 8


def test_summary_counts(solved):
  console = rich.console.Console(
    width=120, record=True, file=open(os.devnull, "w")
  )
  console.print(answer_rows.summary(solved[0]))
  right = sum(row["correct"] for row in solved[0])
  assert f"{right} of 12" in console.export_text()


@pytest.fixture
def heeding_interrupts():
  """Lets children be interrupted.

  A shell starts jobs in the background with interrupts ignored, which children
  of such a test run would inherit.
  """
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


@pytest.mark.slow
@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_script_survives_a_kill(models, tmp_path, how):
  count = 1200
  path = tmp_path / "answers.jsonl"
  command = [
    sys.executable,
    "scripts/solve.py",
    f"--out={path}",
    "--noprogress",
    f"--config.problems.count={count}",
    "--config.problems.family=modular",
    "--config.problems.steps=(2,)",
    "--config.problems.style=free",
    f"--config.policy={models / 'policy.safetensors'}",
    "--config.decoder=sample",
    "--config.budget=generated_tokens=60",
    "--config.sampling.temperature=1.0",
    "--config.sampling.last_tokens=0",
    "--config.sampling.step_tokens=8",
    "--config.sampling.max_tokens=16",
    "--config.batch=1",
  ]
  environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
  with subprocess.Popen(
    command,
    cwd=_ROOT,
    env=environment,
    stderr=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    text=True,
  ) as process:
    while not path.exists() or path.read_bytes().count(b"\n") < 4:
      assert process.poll() is None, process.stderr.read()
      time.sleep(0.005)
    process.send_signal(how)
    _, said = process.communicate()
  kept = path.read_bytes()
  kept = kept[: kept.rfind(b"\n") + 1]
  assert 4 <= kept.count(b"\n") < count + 1
  if how == signal.SIGINT:
    assert process.returncode == 130
    assert "stopped" in said and "To go on" in said
  whole = recipe(
    models,
    problems=problem_sets.ProblemSource(
      count=count, family="modular", steps=(2,)
    ),
    verifier="arithmetic_prm",
    decoder="sample",
    batch=100,
  )
  resumed = solve(whole, path)
  assert path.read_bytes().startswith(kept)
  fresh = solve(whole, tmp_path / "fresh.jsonl")
  assert [r["completion"] for r in resumed] == [r["completion"] for r in fresh]
  assert [r["cost"] for r in resumed] == [r["cost"] for r in fresh]


def test_a_ledger_gets_what_was_solved(models, tmp_path):
  ledger = ledger_lib.Ledger("run")
  path = tmp_path / "answers.jsonl"
  rows = search_solving.solve_to_file(
    recipe(models), path, progress=False, ledger=ledger
  )
  [entry] = ledger.entries
  assert (entry.phase, entry.queries) == ("inference", len(rows))
  assert entry.flop.value == sum(row["cost"]["flops"] for row in rows) > 0
  search_solving.solve_to_file(
    recipe(models), path, progress=False, ledger=ledger
  )
  assert len(ledger.entries) == 1  # nothing was left to solve
