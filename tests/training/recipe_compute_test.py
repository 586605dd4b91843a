# SPDX-License-Identifier: Apache-2.0
"""`train.dtype` and `train.remat` reach the program that every recipe runs."""

import dataclasses
import importlib
import json
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import pytest

from configs import arithmetic_lm, arithmetic_prm, arithmetic_verifier
from jaxttc import training
from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.tasks import prompt_sets
from jaxttc.testing import tiny_models
from jaxttc.training import (
  length_prediction,
  loop,
  modular_model,
  policy_losses,
  preference_losses,
  rollout_config,
  rollout_recipes,
  thinking,
  tuning_data,
  tuning_recipes,
)

_MODEL = config_lib.TransformerConfig(
  vocab_size=704,
  width=16,
  layers=2,
  heads=2,
  kv_heads=1,
  head_dim=8,
  mlp_width=32,
  max_length=512,
)
_TASK = prompt_sets.ModularTask(primes=(11, 13), max_steps=3)
# Recipes whose networks are no transformers say so where they refuse.
_OTHERS = {"SlimmableRecipe"}
# It learns from right traces, of which a tiny model at random has none; it
# computes as `TrainConfig.compute` says, as language models do.
_NEEDS_TRACES = {"FilteredRecipe"}
# The model whose dtype is set is frozen: no gradient is taken through it.
_FROZEN = {"LengthPredictorRecipe"}


def _train(dtype, remat, **sizes):
  return loop.TrainConfig(
    **({"steps": 1, "batch_size": 2, "length": 96} | sizes),
    dtype=dtype,
    remat=remat,
  )


def _language_model(train, **fields):
  shipped = arithmetic_lm.get_config()
  return dataclasses.replace(
    shipped, start=None, model=_MODEL, train=train, **fields
  )


def _recipe(name, start, data, dtype, remat):
  """A recipe over the tiny model."""
  train = _train(dtype, remat)
  modular = modular_model.ModularModelRecipe(
    model=_MODEL, task=_TASK, train=train
  )
  source = tuning_data.DataConfig(path=data, longest_prompt=8)
  makers = {
    "LanguageModelRecipe": lambda: _language_model(train),
    "LanguageModelRecipe nested": lambda: _language_model(
      train, widths=(0.5, 1.0)
    ),
    "ProcessRewardRecipe": lambda: dataclasses.replace(
      arithmetic_prm.get_config(),
      policy=start,
      trunk=_language_model(train),
      problems=8,
      held_out=4,
      max_tokens=64,
      train=_train(dtype, remat, length=256),
    ),
    "GenerativeVerifierRecipe": lambda: dataclasses.replace(
      arithmetic_verifier.get_config(),
      policy=start,
      problems=4,
      held_out=2,
      max_tokens=64,
      train=_train(dtype, remat, length=256),
    ),
    "ModularModelRecipe": lambda: modular,
    "RolloutRecipe": lambda: rollout_recipes.RolloutRecipe(
      start=start,
      base=modular,
      task=_TASK,
      problems=4,
      held_out=2,
      rollouts=rollout_config.RolloutConfig(
        tasks=2, group=2, n_max=4, max_tokens=8, window=2
      ),
      loss=policy_losses.PolicyLossConfig(),
      train=_train(dtype, remat, length=36),
    ),
    "ThinkingModelRecipe": lambda: thinking.ThinkingModelRecipe(
      model=_MODEL, mix=thinking.DigitSumMix(), train=train
    ),
    "LengthPredictorRecipe": lambda: length_prediction.LengthPredictorRecipe(
      policy=start,
      mix=length_prediction.TraceMix(questions=thinking.DigitSumMix()),
      train=train,
    ),
    "SupervisedRecipe": lambda: tuning_recipes.SupervisedRecipe(
      start=start, data=source, train=train
    ),
    "PreferenceRecipe": lambda: tuning_recipes.PreferenceRecipe(
      start=start,
      data=source,
      loss=preference_losses.PreferenceLossConfig(kind="orpo"),
      train=train,
    ),
    "RewardRecipe": lambda: tuning_recipes.RewardRecipe(
      start=start, data=source, train=train
    ),
  }
  return makers[name]() if name else sorted(makers)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """A tiny language model's file."""
  path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
  bundle.save(str(path), tiny_models.tiny_bundles()[0])
  return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Rows that are demonstrations and pairs at once."""
  path = tmp_path_factory.mktemp("data") / "rows.jsonl"
  row = {"prompt": "1 + 1 =\n", "completion": " 2"}
  row |= {"chosen": " 2", "rejected": " 3"}
  path.write_text(f"{json.dumps(row)}\n" * 2)
  return str(path)


@pytest.fixture
def steps(monkeypatch):
  """The gradients' programs, as text, of every run; nothing is trained."""
  programs = []

  def fit(config, objective, init_params, batches, workdir, **keywords):
    del config, workdir
    params = init_params(jax.random.key(0))
    batch = None if batches is None else batches(0)
    collector = keywords.get("collector")
    held = None
    if collector is not None:
      batch, held, _ = collector.collect(params, collector.init(), batch, 0)
    gradients = keywords.get("gradients") or jax.grad(objective, has_aux=True)
    program = jax.make_jaxpr(gradients)(params, batch, jax.random.key(0))
    programs.append(str(program))
    return loop.TrainState(
      step=jnp.int32(0), params=params, opt_state=(), key=None, collected=held
    )

  monkeypatch.setattr(loop, "fit", fit)
  return programs


def test_all_recipes_are_here():
  """A new recipe must be added to those below, or refuse both fields."""
  modules = [
    importlib.import_module(f"jaxttc.training.{found.name}")
    for found in pkgutil.iter_modules(
      [str(pathlib.Path(training.__file__).parent)]
    )
  ]
  names = {
    name
    for module in modules
    for name, value in vars(module).items()
    if name.endswith("Recipe") and isinstance(value, type)
  }
  here = {name.split()[0] for name in _recipe(None, "", "", "float32", False)}
  assert names == here | _OTHERS | _NEEDS_TRACES


@pytest.mark.parametrize("name", _recipe(None, "", "", "float32", False))
def test_dtype_and_remat_reach_the_step(name, start, data, steps, tmp_path):
  _recipe(name, start, data, "bfloat16", True).run(str(tmp_path))
  assert steps
  assert all("bf16" in program for program in steps)
  assert all("remat" in program for program in steps) or name in _FROZEN


@pytest.mark.parametrize("name", _recipe(None, "", "", "float32", False))
def test_a_run_that_cannot_be_is_refused_first(name, steps, tmp_path):
  """Before a model is loaded, a row read or a solution sampled."""
  recipe = _recipe(name, "none.safetensors", "none.jsonl", "float8", False)
  with pytest.raises(ValueError, match="train.dtype must be one of"):
    recipe.run(str(tmp_path))
  assert not steps and not list(tmp_path.iterdir())


def test_without_them_neither_is_there(start, data, steps, tmp_path):
  _recipe("SupervisedRecipe", start, data, "float32", False).run(str(tmp_path))
  assert "bf16" not in steps[0] and "remat" not in steps[0]
