# SPDX-License-Identifier: Apache-2.0
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from jaxttc import script

_STUDY = """
import dataclasses
import pathlib

from jaxttc import results, script, simulation


@dataclasses.dataclass
class Recipe:
  bar: float = 1.0


def get_config():
  return Recipe()


def study(recipe, workdir):
  import jax

  jax.devices()
  if recipe.bar < 0:
    raise ValueError(f"bar: expected 0 or more, got {recipe.bar}")
  claim = results.Claim("value", 2.0, bar=recipe.bar)
  draw = lambda path: pathlib.Path(path).write_text("a picture")
  return simulation.Study([0], {"workdir": workdir}, [claim], draw)


if __name__ == "__main__":
  script.run_study(study, __file__)
"""


@pytest.fixture
def kept():
  """Puts the setting back."""
  before = jax.config.jax_compilation_cache_dir
  yield
  jax.config.update("jax_compilation_cache_dir", before)


def test_the_environment_goes_before_the_folder(kept, monkeypatch, tmp_path):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  script.keep_programs(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / ".cache/jax")
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
  script.keep_programs(tmp_path)
  assert jax.config.jax_compilation_cache_dir == "/elsewhere"


@pytest.fixture
def study(tmp_path):
  """Runs a small study as a script; JAX looks for every kind of device."""
  file = tmp_path / "scripts" / "study.py"
  file.parent.mkdir()
  file.write_text(_STUDY, encoding="utf-8")
  root = str(pathlib.Path(__file__).resolve().parents[1])
  unset = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}

  def run(*arguments):
    return subprocess.run(
      [sys.executable, str(file), *arguments],
      capture_output=True,
      text=True,
      check=False,
      env={**unset, "PYTHONPATH": root},
    )

  return run


def test_a_study_is_run_with_its_recipe_and_written(study, tmp_path):
  done = study(
    f"--config={tmp_path / 'scripts' / 'study.py'}",
    "--config.bar=1.5",
    f"--workdir={tmp_path}",
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ""  # nothing of devices that are not there
  written = json.loads((tmp_path / "study.json").read_text())
  assert written["data"] == {"workdir": str(tmp_path)}
  assert written["claims"][0]["bar"] == 1.5


def test_a_study_refuses_in_one_line_and_helps(study, tmp_path):
  config = f"--config={tmp_path / 'scripts' / 'study.py'}"
  done = study(config, "--config.bar=-1.0", f"--workdir={tmp_path}")
  assert done.returncode == 1
  assert done.stderr == "study.py: bar: expected 0 or more, got -1.0\n"
  assert "--workdir is required" in study(config).stderr
  assert "--config is required" in study(f"--workdir={tmp_path}").stderr
  told = study("--help").stdout
  assert all(flag in told for flag in ("--config:", "--out:", "--workdir:"))
