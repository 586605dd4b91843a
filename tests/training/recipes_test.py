# SPDX-License-Identifier: Apache-2.0
"""Tests of recipes: a tiny language model, trained, killed and resumed."""

import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.training import metrics as metrics_lib

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_CONFIG = _ROOT / "configs" / "arithmetic_lm.py"
_MODEL = {
  "width": 32,
  "layers": 1,
  "heads": 2,
  "kv_heads": 1,
  "head_dim": 16,
  "mlp_width": 32,
}
_TRAIN = {
  "steps": 90,
  "decay_steps": 90,
  "batch_size": 2,
  "length": 128,
  "learning_rate": 0.02,
  "warmup_steps": 5,
  "log_every": 1,
  "evaluate_every": 45,
  "checkpoint_every": 15,
}


def _recipe(**train):
  """`configs/arithmetic_lm.py` with the overrides that the script gets."""
  spec = importlib.util.spec_from_file_location("recipe", _CONFIG)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  recipe = module.get_config()
  for part, fields in ((recipe.model, _MODEL), (recipe.train, _TRAIN | train)):
    for name, value in fields.items():
      setattr(part, name, value)
  return recipe


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """(recipe, workdir, parameters) of a run that nobody disturbed."""
  workdir = str(tmp_path_factory.mktemp("trained"))
  recipe = _recipe()
  return recipe, workdir, recipe.run(workdir)


def test_a_tiny_model_learns(trained):
  _, workdir, _ = trained
  records = metrics_lib.read(workdir)
  losses = [r["loss"] for r in records if "loss" in r]
  assert len(losses) == 90
  assert losses[0] > 6 and np.mean(losses[-5:]) < 0.6 * losses[0]
  held_out = [r["held_out_loss"] for r in records if "held_out_loss" in r]
  assert len(held_out) == 2 and held_out[1] < held_out[0]


def _killed(workdir, lines):
  """Runs the script as a user would; kills it after so many records."""
  overrides = [
    *(f"--config.model.{name}={value}" for name, value in _MODEL.items()),
    *(f"--config.train.{name}={value}" for name, value in _TRAIN.items()),
  ]
  cache = jax.config.jax_compilation_cache_dir
  process = subprocess.Popen(
    [
      *(sys.executable, str(_ROOT / "scripts" / "train.py")),
      f"--config={_CONFIG}",
      f"--workdir={workdir}",
      *overrides,
    ],
    env=os.environ
    | {"PYTHONPATH": str(_ROOT), "JAX_COMPILATION_CACHE_DIR": str(cache)},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
  )
  path = workdir / "metrics.jsonl"
  while process.poll() is None:
    if path.exists() and path.read_bytes().count(b"\n") >= lines:
      process.send_signal(signal.SIGKILL)
      break
    time.sleep(0.005)
  _, said = process.communicate()
  assert process.returncode == -signal.SIGKILL, said.decode()[-2000:]


@pytest.mark.slow
def test_a_killed_run_repeats_the_same_losses_bit_for_bit(trained, tmp_path):
  recipe, undisturbed, params = trained
  _killed(tmp_path, lines=20)
  before = metrics_lib.read(str(tmp_path))
  assert len(before) < 90
  resumed = recipe.run(str(tmp_path))
  expected = metrics_lib.read(undisturbed)
  assert metrics_lib.read(str(tmp_path)) == expected
  jax.tree.map(np.testing.assert_array_equal, resumed, params)


def test_what_was_trained_explains_itself(trained, tmp_path):
  recipe, _, params = trained
  path = str(tmp_path / "tiny.safetensors")
  recipe.export(params, path)
  back = bundle_lib.load(path)
  assert back.kind == "language_model" and back.config == recipe.model
  assert back.recipe == recipe.describe() == json.loads(json.dumps(back.recipe))
  assert back.recipe["train"]["steps"] == 90
  jax.tree.map(np.testing.assert_array_equal, back.params, params)


def test_a_model_of_many_widths_goes_on_from_a_plain_one(trained, tmp_path):
  plain, _, params = trained
  start = str(tmp_path / "start.safetensors")
  plain.export(params, start)
  recipe = _recipe(steps=6, decay_steps=6, evaluate_every=3)
  recipe.start, recipe.widths = start, (0.5, 1.0)
  narrow = recipe.run(str(tmp_path / "nested"))
  records = metrics_lib.read(str(tmp_path / "nested"))
  losses = [r["loss_0.5"] for r in records if "loss_0.5" in r]
  assert len(losses) == 6
  assert len([r for r in records if "held_out_loss_0.5" in r]) == 2
  path = str(tmp_path / "nested.safetensors")
  recipe.export(narrow, path)
  whole = bundle_lib.load(path)
  assert whole.recipe["widths"] == [0.5, 1.0]
  assert bundle_lib.narrowed(whole, 0.5).config.mlp_width == 16
  recipe.widths = (0.5, 0.75)
  with pytest.raises(ValueError, match="must rise from above 0 to 1"):
    recipe.run(str(tmp_path / "other"))


def test_another_recipe_does_not_resume(trained):
  _, workdir, _ = trained
  with pytest.raises(ValueError, match="another recipe.*differs in train"):
    _recipe(seed=1).run(workdir)


def test_refuses_a_recipe_that_cannot_be(tmp_path):
  recipe = _recipe()
  recipe.model.vocab_size = 700
  with pytest.raises(ValueError, match="model.vocab_size=700.*704"):
    recipe.run(str(tmp_path))
  recipe = _recipe()
  recipe.model.layers = 0
  with pytest.raises(ValueError, match="model.layers"):
    recipe.run(str(tmp_path))
