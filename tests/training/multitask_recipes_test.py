# SPDX-License-Identifier: Apache-2.0
"""Tests of recipes of slimmable networks: whole runs, in little."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.models import slimmable as slimmable_lib
from jaxttc.training import (
  loop,
  metrics,
  multitask_recipes,
  slimmable,
  slimmable_files,
)


def _recipe(**changes):
  recipe = multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (16, 16)},
    hidden=16,
    menu=(0.5, 1.0),
    norm="none",
    held_out=64,
    sandwich=slimmable.Sandwich(widths=2),
    train=loop.TrainConfig(
      steps=60,
      batch_size=64,
      learning_rate=2e-2,
      warmup_steps=5,
      weight_decay=0.0,
      log_every=10,
      evaluate_every=60,
      checkpoint_every=20,
    ),
  )
  return dataclasses.replace(recipe, **changes)


@pytest.mark.parametrize(
  "weighting", ["uniform", "uncertainty", "grad_norm", "pcgrad"]
)
def test_training_learns_by_every_weighting(weighting, tmp_path):
  """Held-out losses fall at full and at the smallest width."""
  recipe = _recipe(weighting=weighting)
  params = recipe.run(str(tmp_path))
  assert set(params) == {
    "encoder",
    "decoder_task_0",
    "decoder_task_1",
    "decoder_task_2",
  }
  last = {}
  for record in metrics.read(str(tmp_path)):
    last |= record
  for width in ("loss", "narrow"):
    found = [last[f"held_out_{width}_task_{t}"] for t in range(3)]
    assert np.mean(found) < 0.9  # what a constant leaves is 1


def test_a_finished_run_is_read_and_another_recipe_refused(tmp_path):
  """And another schedule is another run."""
  once = _recipe().run(str(tmp_path / "once"))
  short = dataclasses.replace(_recipe().train, steps=20, decay_steps=60)
  whole = dataclasses.replace(_recipe().train, decay_steps=60)
  _recipe(train=short).run(str(tmp_path / "twice"))
  with pytest.raises(ValueError, match="run of another recipe"):
    _recipe(train=whole).run(str(tmp_path / "twice"))
  again = _recipe().run(str(tmp_path / "once"))  # nothing is left to do
  jax.tree.map(np.testing.assert_array_equal, once, again)


def test_eight_devices_train_what_one_does(tmp_path):
  """The batch is spread over a mesh; sums come out in another order."""
  train = dataclasses.replace(_recipe().train, steps=10)
  alone = _recipe(train=train).run(str(tmp_path / "one"))
  mesh = mesh_lib.make_mesh()
  assert mesh.size == 8
  spread = _recipe(train=train).run(str(tmp_path / "eight"), mesh)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), alone, spread
  )


def test_a_file_gives_back_the_network(tmp_path):
  """Specification, parameters and recipe."""
  recipe = _recipe()
  spec = recipe.spec(recipe.load_data())
  params = slimmable_lib.init(spec.build(), jax.random.key(0))
  path = str(tmp_path / "net.safetensors")
  recipe.export(params, path)
  found = slimmable_files.load(path)
  assert found.spec.build() == spec.build()
  assert found.recipe == recipe.describe()
  jax.tree.map(np.testing.assert_array_equal, params, found.params)


def test_a_file_holds_statistics_of_batch_norms(tmp_path):
  """So that a network that was cut out predicts at once."""
  recipe = _recipe(norm="batch")
  spec = recipe.spec(recipe.load_data())
  whole = spec.build()
  config = whole.space.uniform(0.5)
  params = slimmable_lib.init(whole, jax.random.key(0))
  inputs = jax.random.normal(jax.random.key(1), (2, 32, 24))
  measured = slimmable_lib.recalibrate(whole, params, config, inputs)
  small, cut = slimmable_lib.extract(spec, params, config)
  path = str(tmp_path / "small.safetensors")
  slimmable_files.save(
    path, small, cut, {}, {"batch_stats": measured["batch_stats"]}
  )
  found = slimmable_files.load(path)
  network = found.spec.build()
  counts = network.space.counts(network.space.uniform())
  ours, _ = whole.apply(measured, inputs[0], whole.space.counts(config))
  theirs, _ = network.apply(
    {"params": found.params} | found.statistics, inputs[0], counts
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs
  )


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"data": "faces"}, "data 'faces' is not one of vectors"),
    ({"data_options": {"colour": 1}}, "has no option 'colour'"),
    ({"data": "nyud"}, "needs the option 'directory'"),
    ({"menu": (1.0, 0.5)}, "must ascend"),
    ({"weighting": "fair"}, "fair"),
    ({"encoder": {"kind": "lstm"}}, "encoder kind 'lstm' is not one of"),
    ({"encoder": {"kind": "mlp", "depth": 2}}, "has no field 'depth'"),
    ({"sandwich": slimmable.Sandwich(widths=1)}, "sandwich.widths=1"),
    (
      {"sandwich": slimmable.Sandwich(distance="cka")},
      "sandwich.distance='cka' is not one of",
    ),
    (
      {"sandwich": slimmable.Sandwich(teacher="ema", momentum=1.0)},
      r"sandwich.momentum must be in \[0, 1\), got 1",
    ),
    (
      {"sandwich": slimmable.Sandwich(teacher="frozen")},
      "trained before is what a frozen teacher needs",
    ),
    (
      {"sandwich": slimmable.Sandwich(distance="neck")},
      "give it a neck",
    ),
    (
      {"sandwich": slimmable.Sandwich(invariance=float("nan"))},
      "sandwich.invariance must be finite",
    ),
  ],
)
def test_recipes_that_cannot_be_are_refused(changes, said, tmp_path):
  """In one line that names the field."""
  with pytest.raises(ValueError, match=said):
    _recipe(**changes).run(str(tmp_path))


def test_files_that_hold_something_else_are_refused(tmp_path):
  """The file is named."""
  path = tmp_path / "lm.safetensors"
  slimmable_files.weights.save_safetensors(
    str(path), {"a": np.zeros(2, np.float32)}, {"kind": "language_model"}
  )
  with pytest.raises(ValueError, match="expected a slimmable network"):
    slimmable_files.load(str(path))


def test_teachers_of_their_own_train_and_stay_out_of_files(tmp_path):
  """First the full network alone; then one that it, frozen, teaches."""
  alone = _recipe(sandwich=slimmable.Sandwich(widths=1, smallest=False))
  file = str(tmp_path / "full.safetensors")
  alone.export(alone.run(str(tmp_path / "full")), file)
  for kind, teacher in (("ema", None), ("frozen", file)):
    recipe = _recipe(
      teacher=teacher,
      weighting="uncertainty" if kind == "ema" else "uniform",
      sandwich=slimmable.Sandwich(
        widths=2, in_place=0.5, teacher=kind, momentum=0.9
      ),
    )
    params = recipe.run(str(tmp_path / kind))
    assert set(params) == set(slimmable_files.load(file).params)
    records = [
      record
      for record in metrics.read(str(tmp_path / kind))
      if "narrow_task_0" in record
    ]
    assert records[-1]["narrow_task_0"] < records[0]["narrow_task_0"]
  wider = dataclasses.replace(recipe, hidden=32)
  with pytest.raises(ValueError, match="full.safetensors: a teacher must be"):
    wider.run(str(tmp_path / "wider"))
