# SPDX-License-Identifier: Apache-2.0
"""Recipes of slimmable networks: every config's encoder trains, own data do."""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import base, registry, vectors
from jaxttc.training import loop, multitask_recipes
from jaxttc.training import metrics as metrics_lib

_CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


def _config(name, form="train"):
  spec = importlib.util.spec_from_file_location(name, _CONFIGS / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(form)


def _short(recipe, steps=12, learning_rate=1e-2, **changes):
  train = dataclasses.replace(
    recipe.train,
    steps=steps,
    learning_rate=learning_rate,
    batch_size=8,
    warmup_steps=1,
    log_every=1,
    evaluate_every=steps,
    checkpoint_every=steps,
  )
  return dataclasses.replace(recipe, train=train, held_out=8, **changes)


@pytest.mark.parametrize(
  ("config", "form", "encoder"),
  [
    ("slimmable_digits", "vit", "vision_transformer"),
    ("slimmable_digits", "mobilenet", "mobilenet_v2"),
    ("slimmable_scenes", "dilated", "dilated_resnet"),
  ],
)
def test_configs_of_every_encoder_train(config, form, encoder, tmp_path):
  """By the program's own run: the loss falls, and the narrowest learns."""
  recipe = _short(
    _config(config, form),
    steps=30,
    learning_rate=2e-3,
    sandwich=multitask_recipes.slimmable.Sandwich(widths=2),
  )
  assert recipe.encoder["kind"] == encoder
  recipe.run(str(tmp_path))
  rows = metrics_lib.read(str(tmp_path))
  found = [row["loss"] for row in rows if "loss" in row]
  assert np.isfinite(found).all() and np.mean(found[-5:]) < found[0]
  assert any("narrow" in name for name in rows[0])


def test_unknown_forms_of_configs_are_refused():
  for config in ("slimmable_digits", "slimmable_scenes", "slimmable_vectors"):
    with pytest.raises(ValueError, match="got :resnet"):
      _config(config, "resnet")


class Halves:
  """Data of a user's own: two numbers, and their difference."""

  tasks = (base.Task("difference", "regression", 1),)
  input_shape = (2,)

  def __init__(self, scale: float = 1.0):
    self.scale = scale

  def sample(self, key, batch):
    x = self.scale * jax.random.normal(key, (batch, 2))
    valid = np.ones(batch, bool)
    label = base.Label(x[:, :1] - x[:, 1:], valid)
    return base.Examples(x, {"difference": label})

  def held_out(self, count):
    return self.sample(jax.random.key(123), count)


@pytest.fixture
def own_module(monkeypatch):
  """A module of a user's own, which can be imported, and a clean registry."""
  monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))
  module = type(registry)("own_numbers")
  module.halves, module.LIMIT = Halves, 3
  monkeypatch.setitem(__import__("sys").modules, "own_numbers", module)


def _own(data, **options):
  return _short(
    multitask_recipes.SlimmableRecipe(
      data=data,
      data_options=options,
      encoder={"kind": "mlp", "hidden": (16,)},
      hidden=16,
      menu=(0.5, 1.0),
      norm="none",
      train=loop.TrainConfig(learning_rate=1e-2),
    )
  )


@pytest.mark.usefixtures("own_module")
def test_data_of_your_own_train(tmp_path):
  """By a registered name, and by the function's."""
  registry.register("halves", Halves)
  registry.register("halves", Halves)  # an import that runs twice
  for name in ("halves", "own_numbers:halves"):
    recipe = _own(name, scale=2.0)
    assert recipe.load_data().scale == 2.0
    params = recipe.run(str(tmp_path / name.replace(":", "_")))
    assert "decoder_difference" in params


@pytest.mark.usefixtures("own_module")
def test_names_are_resolved_for_recipes_only():
  """A name from a model's file imports nothing."""
  with pytest.raises(ValueError, match="--data=own_numbers:halves"):
    registry.load("own_numbers:halves", {})


@pytest.mark.usefixtures("own_module")
@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("no_such_module:f", "'no_such_module:f': expected MODULE:FUNCTION"),
    ("own_numbers:none", "expected MODULE:FUNCTION.*none"),
    ("own_numbers:LIMIT", "is no function"),
    (":f", "expected MODULE:FUNCTION"),
    ("halves", "is not one of vectors"),
  ],
)
def test_data_that_cannot_be_found_are_refused(name, message):
  with pytest.raises(ValueError, match=message):
    _own(name).load_data()


@pytest.mark.usefixtures("own_module")
def test_data_that_are_none_are_refused():
  registry.register("nothing", lambda: object())
  with pytest.raises(ValueError, match="object has no 'tasks'"):
    registry.load("nothing", {})
  half = type("Half", (), {"tasks": (), "input_shape": (), "held_out": None})
  registry.register("half", half)
  with pytest.raises(ValueError, match="neither sample"):
    registry.load("half", {})
  registry.register("taskless", type("Full", (half,), {"sample": None}))
  with pytest.raises(ValueError, match="tasks must be"):
    registry.load("taskless", {})
  for name in ("", "a:b"):
    with pytest.raises(ValueError, match="must not be empty"):
      registry.register(name, Halves)
  with pytest.raises(ValueError, match="'vectors' is taken"):
    registry.register("vectors", Halves)
  registry.register("vectors", vectors.Vectors)
  with pytest.raises(ValueError, match="no option 'size'"):
    registry.load("vectors", {"size": 1})
