# SPDX-License-Identifier: Apache-2.0
"""Prompts of files: read, asked, graded as mathematics, and trained on."""

import json
import pathlib
import shutil
import sys

from absl import flags
from ml_collections import config_flags
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from jaxttc.inference import bundle
from jaxttc.testing import tiny_models
from jaxttc.training import metrics, prompt_files

_CONFIG = pathlib.Path(__file__).parents[2] / "configs/gsm8k_rl.py"


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """GSM8K lines, MATH lines, and rows in verl's columns."""
  folder = tmp_path_factory.mktemp("prompts")
  gsm8k = [
    {"question": f"{i} + 3 ?", "answer": f"{i} + 3\n#### {i + 3}"}
    for i in range(6)
  ]
  math = [
    {
      "problem": "Find x.",
      "level": "Level 2",
      "type": "Algebra",
      "solution": r"So \boxed{\sqrt{2}}.",
    }
  ]
  verl = [
    {
      "data_source": "openai/gsm8k",
      "prompt": [{"role": "user", "content": f"{i} + 0 ?"}],
      "reward_model": {"style": "rule", "ground_truth": "3"},
      "extra_info": {"index": i, "split": "train"},
    }
    for i in range(8)
  ]
  for name, rows in (("gsm8k", gsm8k), ("math", math), ("verl", verl)):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(text)
  parquet.write_table(pa.Table.from_pylist(verl), folder / "verl.parquet")
  return folder


def _set(files, policy, count, name="gsm8k.jsonl", **changes):
  fields = {"width": 24, "check_steps": False}
  width = {k: changes.pop(k) for k in fields if k in changes}
  path = str(files / name)
  source = prompt_files.PromptFile(path=path, held_out=path, **changes)
  source.validate()
  return source.prompt_set("train", count, 0, policy, **(fields | width))


def _written(tokenizer, texts):
  ids = [tokenizer.encode(text) for text in texts]
  rows = np.full((len(ids), max(map(len, ids))), -1, np.int32)
  for row, found in zip(rows, ids, strict=True):
    row[: len(found)] = found
  return rows


@pytest.mark.parametrize(
  ("name", "count", "text", "answer"),
  [
    ("gsm8k.jsonl", 6, "1 + 3 ?", "4"),
    ("verl.jsonl", 8, "1 + 0 ?", "3"),
    ("verl.parquet", 8, "1 + 0 ?", "3"),
  ],
)
def test_every_layout_is_read(files, policy, name, count, text, answer):
  found = _set(files, policy, count, name, instruction="Think.")
  assert len(found.problems) == count
  assert (found.problems[1].text, found.problems[1].answer) == (text, answer)
  row = found.tokens[1][: found.length[1]]
  asked = policy.tokenizer.decode(row)
  assert asked.startswith("Think.") and asked.endswith(f"{text}\n")


@pytest.mark.parametrize("name", ["gsm8k", "verl"])
def test_bad_rows_are_refused_or_left_out(files, tmp_path, name):
  good = (files / f"{name}.jsonl").read_text().splitlines()
  path = tmp_path / "rows.jsonl"
  path.write_text("\n".join(["{damaged", *good, "{}"]) + "\n")
  with pytest.raises(ValueError, match="rows.jsonl, line 1"):
    prompt_files.read(path)
  found = prompt_files.read(path, skip=True)
  assert (len(found), found.skipped) == (len(good), 2)


def test_answers_are_compared_as_mathematics(files, policy):
  found = _set(files, policy, 1, "math.jsonl", width=40)
  texts = (
    r"\boxed{2^{1/2}}",  # by algebra
    r"The answer is \sqrt 2.",
    r"\boxed{2}",
    "no idea",
    r"\boxed{((}",  # cannot be read as mathematics
    r"\boxed{\sqrt{2}}",  # a row of padding
  )
  tokens = _written(policy.tokenizer, texts)
  which = np.array([0, 0, 0, 0, 0, 1])
  np.testing.assert_array_equal(
    found.grade(which, tokens), np.float32([1, 1, 0, 0, np.nan, 0])
  )
  np.testing.assert_array_equal(
    found.answered(which, tokens), np.float32([1, 1, 1, 0, 1, 0])
  )


def test_a_published_model_is_asked_by_its_chat_template(files, tmp_path):
  data = pathlib.Path(__file__).parents[1] / "data/hf"
  shutil.copytree(data / "qwen2", tmp_path, dirs_exist_ok=True)
  shutil.copytree(data / "tokenizer", tmp_path, dirs_exist_ok=True)
  shutil.copy(data / "templates/qwen.jinja", tmp_path / "chat_template.jinja")
  policy = bundle.load(str(tmp_path))
  for name in ("gsm8k.jsonl", "verl.parquet"):
    found = _set(
      files, policy, 2, name, width=200, instruction="Put it in a box."
    )
    said = found.problems[1].text
    if name == "gsm8k.jsonl":
      said = f"Put it in a box.\n\n{said}"
      messages = [{"role": "user", "content": said}]
    else:
      system = {"role": "system", "content": "Put it in a box."}
      messages = [system, {"role": "user", "content": said}]
    asked = policy.tokenizer.encode_prompt(policy.chat(messages))
    assert found.tokens[1][: found.length[1]].tolist() == asked
    rows = _written(policy.tokenizer, [r"It is \boxed{4}", "I give up"])
    grades = found.grade(np.array([1, 1]), rows)
    assert grades.tolist() == [float(found.problems[1].answer == "4"), 0.0]


def test_prompts_that_do_not_fit(files, policy):
  short = _set(files, policy, 6).length.max() - 1
  with pytest.raises(ValueError, match="gsm8k-1' has .* expected at most"):
    _set(files, policy, 6, width=int(short))
  with pytest.raises(ValueError, match="0 problems that fit, expected"):
    _set(files, policy, 6, width=int(short), skip_long=True)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"check_steps": True}, "no checker"),
    ({"timeout_s": 0.0}, "task.timeout_s"),
    ({"count": 7}, "6 problems, expected at least problems=7"),
    ({"name": "none.jsonl"}, "none.jsonl: no such file"),
  ],
)
def test_what_cannot_be_is_named(files, policy, changes, message):
  with pytest.raises(ValueError, match=message):
    _set(files, policy, **({"count": 6} | changes))


def test_the_recipe_of_files_trains_by_flags(
  files, policy, tmp_path, monkeypatch
):
  """As scripts/train.py does: the file's config, flags over it, a whole run."""
  start = str(tmp_path / "start.safetensors")
  bundle.save(start, policy)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    "config", str(_CONFIG), lock_config=True, flag_values=values
  )
  wanted = {
    "start": start,
    "task.path": str(files / "verl.parquet"),
    "task.held_out": str(files / "gsm8k.jsonl"),
    "task.instruction": "",
    "problems": 8,
    "held_out": 6,
    "rollouts.strategy": "uniform",
    "rollouts.tasks": 4,
    "rollouts.group": 16,
    "rollouts.max_tokens": 12,
    "rollouts.updates": 2,
    "rollouts.minibatches": 2,
    "rewards.overlong": 0,
    "loss.length": 12,
    "train.steps": 40,
    "train.learning_rate": 0.03,
    "train.warmup_steps": 0,
    "train.batch_size": 64,
    "train.length": 36,
  }
  given = [f"--config.{name}={value}" for name, value in wanted.items()]
  argv = ["train", f"--config={_CONFIG}:dr_grpo", *given]
  monkeypatch.setattr(sys, "argv", argv)  # it looks there for overrides
  values(argv)
  recipe = values.config
  params = recipe.run(str(tmp_path / "run"))
  logged = [r for r in metrics.read(str(tmp_path / "run")) if "reward" in r]
  rewards = [record["reward"] for record in logged]
  # All of these problems have one answer, which is soon the likeliest.
  assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.3
  assert 64 * 20 <= logged[-1]["rollouts"] <= 64 * 40
  recipe.export(params, str(tmp_path / "out.safetensors"))
  assert bundle.load(str(tmp_path / "out.safetensors")).recipe["kind"] == (
    "rollouts"
  )
