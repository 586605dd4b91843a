# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from jaxttc.solving import short_arguments


def test_short_arguments_are_written_out(tmp_path):
  configs = pathlib.Path("configs")
  model = str(tmp_path)
  found = short_arguments.written_out(
    ["solve.py", "--config.seed=1", "--model", model, "--task=aime:dvts"]
    + ["--dtype=int8", "--width=0.5", "--reward", "prm"]
    + ["--budget=generated_tokens=9,flops=1G", "--decoder", "greedy"]
    + ["--count=3", "--seed=2"],
    configs,
  )
  assert found == [
    "solve.py",
    "--config=configs/aime.py:dvts",
    "--config.seed=1",
    f"--config.policy={model}",
    f"--config.problems.chat={model}",
    "--config.dtype=int8",
    "--config.width=0.5",
    "--config.verifier=prm",
    "--config.budget=generated_tokens=9,flops=1G",
    "--config.decoder=greedy",
    "--config.problems.count=3",
    "--config.seed=2",
  ]
  with pytest.raises(ValueError, match="aime"):
    short_arguments.written_out(["solve.py", "--task=aim"], configs)


def test_thinking_brings_a_config_unless_there_is_one():
  configs = pathlib.Path("configs")
  ours = ["solve.py", "--config.thinking=full()", "--config.seed=1"]
  plain = short_arguments.written_out(
    ["solve.py", "--thinking=full()", "--config.seed=1"], configs
  )
  assert plain == [ours[0], "--config=configs/thinking.py", *ours[1:]]
  for given in (["--config=mine.py"], ["--config", "mine.py"]):
    found = short_arguments.written_out(
      ["solve.py", *given, "--thinking", "full()"], configs
    )
    assert found == ["solve.py", *given, "--config.thinking=full()"]
  task = short_arguments.written_out(
    ["solve.py", "--thinking=full()", "--task=aime"], configs
  )
  assert task[1] == "--config=configs/aime.py"
