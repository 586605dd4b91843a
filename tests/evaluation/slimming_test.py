# SPDX-License-Identifier: Apache-2.0
"""The dials of a trained network, from its file to its pictures."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from jaxttc.allocators import width_planner
from jaxttc.evaluation import (
  score_files,
  slimming,
  slimming_tables,
  trade_off_picture,
)
from jaxttc.inference import width_latency
from jaxttc.models import slimmable
from jaxttc.training import loop, multitask_recipes, slimmable_files
from jaxttc.training import slimmable as slimmable_training

_SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "slim.py"
_TASKS = ("task_0", "task_1", "task_2")


def _recipe(norm="none"):
  return multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (32, 32)},
    hidden=32,
    menu=(0.25, 0.5, 1.0),
    norm=norm,
    held_out=256,
    train=loop.TrainConfig(),
  )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A network trained for a moment, as the recipe's file."""
  recipe = _recipe()
  data = recipe.load_data()
  network = recipe.spec(data).build()
  objective = slimmable_training.objective(network, data.tasks, recipe.sandwich)
  adam = optax.adam(1e-2)

  def step(state, key):
    params, moments = state
    batch = data.sample(key, 64)
    slopes = jax.grad(lambda p: objective(p, batch, key)[0])(params)
    change, moments = adam.update(slopes, moments)
    return (optax.apply_updates(params, change), moments), None

  params = slimmable.init(network, jax.random.key(0))
  keys = jax.random.split(jax.random.key(1), 150)
  run = jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])
  params, _ = run((params, adam.init(params)))
  path = tmp_path_factory.mktemp("trained") / "net.safetensors"
  recipe.export(params, str(path))
  return path


@pytest.fixture(scope="module")
def slimmer(trained):
  return slimming.Slimmer(str(trained), batch=8)


@pytest.fixture
def untrained(tmp_path):
  """(kind of norm) -> a file of random parameters."""

  def write(norm="none", recipe=None):
    made = _recipe(norm)
    spec = made.spec(made.load_data())
    params = slimmable.init(spec.build(), jax.random.key(0))
    path = tmp_path / f"{norm}.safetensors"
    described = made.describe() if recipe is None else recipe
    slimmable_files.save(str(path), spec, params, described)
    return str(path)

  return write


def test_plans_are_the_best_of_all_configurations(slimmer):
  preference = {"task_0": 3.0, "task_1": 1.0, "task_2": 0.0}
  plan = slimmer.plan(0.4, preference, rule="value")
  every = slimmer.space.all_indices()
  fits = slimmer.prices(every, "fraction") <= 0.4
  weighted = slimmer.scores.predict(every) @ [0.75, 0.25, 0.0]
  own = sum(plan.scores[t] * w / 4 for t, w in preference.items())
  assert own == pytest.approx(weighted[fits].max())
  assert plan.price <= 0.4


def test_scores_are_measured_once_and_kept(trained, slimmer):
  assert "243 configurations" in slimmer.scores.source
  lines = []
  again = slimming.Slimmer(str(trained), say=lines.append)
  every = again.space.all_indices()
  np.testing.assert_array_equal(
    again.scores.predict(every), slimmer.scores.predict(every)
  )
  assert not lines
  assert slimmer.scores.predict(every).max() > 0.2  # it has learned something


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (lambda content: content[: len(content) // 2], "damaged"),
    (lambda content: b"not a file of arrays", "damaged"),
    (lambda content: b"", "damaged"),
  ],
)
def test_damaged_scores_are_measured_again(untrained, damage, message):
  path = untrained()
  every = slimming.Slimmer(path).scores
  file = pathlib.Path(f"{path}.scores.npz")
  file.write_bytes(damage(file.read_bytes()))
  lines = []
  again = slimming.Slimmer(path, say=lines.append).scores
  (line,) = lines
  assert message in line and "measured again" in line and "\n" not in line
  rows = np.zeros((1, 5), int)
  np.testing.assert_array_equal(again.predict(rows), every.predict(rows))
  assert not slimming.Slimmer(path).scores.note


def test_scores_of_another_network_are_measured_again(untrained):
  path = untrained()
  file = pathlib.Path(f"{path}.scores.npz")
  _ = slimming.Slimmer(path).scores
  with np.load(file) as found:
    arrays = dict(found)
  shapes = arrays | {"table": arrays["table"][:1]}
  np.savez(file, **shapes)
  assert "damaged: expected" in slimming.Slimmer(path).scores.note
  np.savez(file, **(arrays | {"fingerprint": np.array("0" * 64)}))
  assert "other parameters" in slimming.Slimmer(path).scores.note


def test_fingerprints_tell_parameters_and_data_apart():
  params = {"a": {"kernel": np.ones((2, 3), np.float32)}}
  mark = score_files.fingerprint(params, {"data": "x"})
  other = {"a": {"kernel": np.ones((3, 2), np.float32)}}
  changed = {"a": {"kernel": np.float32([[1, 1, 1], [1, 1, 2]])}}
  marks = {
    mark,
    score_files.fingerprint(other, {"data": "x"}),
    score_files.fingerprint(changed, {"data": "x"}),
    score_files.fingerprint(params, {"data": "y"}),
  }
  assert len(marks) == 4
  assert mark == score_files.fingerprint(dict(params), {"data": "x"})


def test_many_groups_are_predicted_from_a_sample(slimmer, trained, monkeypatch):
  monkeypatch.setattr(score_files, "MOST_PASSES", 8)
  monkeypatch.setattr(score_files, "_SAMPLE", 60)
  kept = trained.with_name("sampled.npz")

  def load():
    return score_files.load_or_measure(
      kept,
      slimmer.network,
      slimmer.params,
      slimmer._data.tasks,
      lambda: slimmer.calibration,
      {},
    )

  found = load()
  assert "predicted from 60 of 243" in found.source
  every = slimmer.space.all_indices()
  exact, told = slimmer.scores.predict(every), found.predict(every)
  for task in range(3):
    assert np.corrcoef(exact[:, task], told[:, task])[0, 1] > 0.9
  again = load()
  assert not again.note
  np.testing.assert_array_equal(again.predict(every), told)


@pytest.mark.parametrize("norm", ["none", "group", "switchable"])
def test_exported_networks_stand_alone(untrained, tmp_path, norm):
  slimmer = slimming.Slimmer(untrained(norm), batch=8)
  config = slimmer.plan(0.3).config
  path = str(tmp_path / "small.safetensors")
  exported = slimmer.export(config, path)
  assert exported.difference < 1e-5
  assert exported.size < 0.6 * exported.full_size
  alone = slimming.Slimmer(path, batch=8)
  full = alone.prices.ends["high"]
  at = slimmer.space.indices(config)[None]
  for unit in ("macs", "parameters", "activations"):
    assert alone.prices(full, unit) == slimmer.prices(at, unit)
  np.testing.assert_allclose(
    alone.scores.predict(full), slimmer.scores.predict(at), atol=1e-5
  )
  assert alone.stored.recipe["widths"] == config.to_dict()
  assert "times smaller" in slimming_tables.told(exported, path)


def test_tasks_that_width_does_not_help_are_named(slimmer, monkeypatch):
  gains = {
    (0, 0): (0.2, 0.5, 0.5),  # narrowest
    (1, 0): (0.2, 0.5, 0.7),  # narrow decoders only
    (1, 1): (0.4, 0.45, 0.705),
  }

  def predict(indices):
    stages = len(slimmer.space.encoder)
    rows = np.asarray(indices) > 0
    return np.array(
      [gains[int(row[0]), int(row[stages])] for row in rows], np.float64
    )

  found = score_files.Scores(predict, "by hand", "")
  monkeypatch.setitem(slimmer.__dict__, "scores", found)
  first, second = slimming_tables.unhelped(slimmer)
  assert first.startswith("task_1: the score falls by 0.050 from the narrowest")
  assert second.startswith("task_2: the score rises by 0.005 only")
  assert "preference" in second


def test_the_network_itself_is_not_overwritten(slimmer, trained):
  before = trained.read_bytes()
  with pytest.raises(ValueError, match="is the network itself"):
    slimmer.export(slimmer.space.uniform(0.25), str(trained))
  assert trained.read_bytes() == before


def test_an_export_that_reads_back_otherwise_is_refused(
  untrained, tmp_path, monkeypatch
):
  slimmer = slimming.Slimmer(untrained(), batch=8)
  save = slimmable_files.save

  def wrong(path, spec, params, *rest):
    save(path, spec, jax.tree.map(lambda x: 1.01 * x, params), *rest)

  monkeypatch.setattr(slimmable_files, "save", wrong)
  with pytest.raises(ValueError, match="read back, predictions differ"):
    slimmer.export(slimmer.space.uniform(0.5), str(tmp_path / "x.safetensors"))


def test_budgets_of_latency_use_a_table_that_is_kept(untrained, monkeypatch):
  path, lines = untrained(), []
  times = iter(range(1, 10_000))
  monkeypatch.setattr(
    width_latency, "median_ms", lambda *given: float(next(times))
  )
  slimmer = slimming.Slimmer(path, batch=4, say=lines.append)
  top = slimmer.prices(slimmer.prices.ends["high"], "latency_ms")[0]
  plan = slimmer.plan(float(top), unit="latency_ms")
  assert plan.price <= top
  assert any("27 programs" in line for line in lines)
  lines.clear()
  again = slimming.Slimmer(path, batch=4, say=lines.append)
  assert again.plan(float(top), unit="latency_ms") == plan
  assert not lines
  other = slimming.Slimmer(path, batch=2, say=lines.append)
  assert other.plan(1e6, unit="latency_ms").price > 0
  assert "batch 4, not 2; measured again" in lines[0]


def test_statistics_of_batch_norms_are_measured_for_latencies(untrained):
  slimmer = slimming.Slimmer(untrained("batch"), batch=4)
  assert slimmer.latency_ms(slimmer.space.uniform(0.25)) > 0


def test_trade_offs_follow_both_dials(slimmer, tmp_path):
  surface = slimmer.trade_off(rule="value")
  assert surface.scores.shape == (3, 8, len(surface.budgets))
  chosen = slimmer.plan(
    surface.budgets[2],
    {"task_0": 0.15, "task_1": 0.7, "task_2": 0.15},
    rule="value",
  )
  weight = list(surface.weights).index(0.7)
  assert surface.scores[1, weight, 2] == pytest.approx(chosen.scores["task_1"])
  # The best score of one task alone cannot fall as the budget rises, and
  # nothing less than all weight on a task can serve it better.
  assert (np.diff(surface.scores[:, -1], axis=1) >= 0).all()
  assert (surface.scores <= surface.scores[:, -1:] + 1e-12).all()
  pytest.importorskip("matplotlib")
  path = tmp_path / "dials.png"
  trade_off_picture.write(surface, path, "Two dials")
  assert path.read_bytes().startswith(b"\x89PNG")
  with pytest.raises(ValueError, match="xyz"):
    trade_off_picture.write(surface, tmp_path / "dials.xyz")


def test_lines_of_a_picture_are_the_nearest_that_there_are():
  grid = np.array([0.3, 0.4, 0.5, 1.0])
  assert trade_off_picture.nearest(grid, (0.25, 0.5, 0.75, 1.0)) == [0, 2, 3]


def test_preferences_are_read_from_text():
  found = slimming.parse_preference("seg:0.7, depth:1e-1,")
  assert found == {"seg": 0.7, "depth": 0.1}
  assert slimming.parse_preference("") == {}


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("seg=0.7", "'seg=0.7' is not TASK:NUMBER"),
    ("seg:", "'seg:' is not"),
    (":1", "':1' is not"),
    ("seg:much", "'seg:much' is not"),
    ("seg:1,seg:2", "names 'seg' twice"),
  ],
)
def test_preferences_that_cannot_be_read_are_named(text, message):
  with pytest.raises(ValueError, match=message):
    slimming.parse_preference(text)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"budget": 0.0}, "positive number of fraction, got 0"),
    ({"budget": -1.0}, "positive number"),
    ({"budget": float("nan")}, "positive number"),
    ({"budget": 1.0, "unit": "watts"}, "unit 'watts' is not one of"),
    ({"budget": 1.0, "unit": "joules"}, "needs hardware, one of .*h100"),
    ({"budget": 0.5, "preference": {"task_0": 1.0}}, "'task_1' has none"),
    ({"budget": 0.5, "preference": {"sky": 1.0}}, "unknown task 'sky'"),
    ({"budget": 0.5, "preference": dict.fromkeys(_TASKS, 0.0)}, "positive"),
    ({"budget": 0.5, "preference": dict.fromkeys(_TASKS, -1.0)}, "negative"),
    ({"budget": 0.5, "rule": "best"}, "rule 'best'"),
    ({"budget": 0.5, "search": "luck"}, "search 'luck'"),
    ({"budget": 0.01}, "the smallest costs 0.1"),
  ],
)
def test_what_cannot_be_planned_is_refused(slimmer, given, message):
  with pytest.raises(ValueError, match=message) as refused:
    slimmer.plan(**given)
  assert "\n" not in str(refused.value)


def test_budgets_below_the_least_name_it(slimmer):
  with pytest.raises(width_planner.InfeasibleBudget) as refused:
    slimmer.plan(10.0, unit="macs")
  least = refused.value.least
  assert slimmer.plan(least, unit="macs").price == least


def test_budgets_of_joules_are_of_a_chip(trained, slimmer):
  chip = slimming.Slimmer(str(trained), hardware="h100-sxm")
  full = float(chip.prices(chip.prices.ends["high"], "joules")[0])
  plan = chip.plan(full / 2, unit="joules")
  assert plan.config == slimmer.plan(0.5).config
  with pytest.raises(ValueError, match="unknown hardware 'h1000'"):
    slimming.Slimmer(str(trained), hardware="h1000")


@pytest.mark.parametrize(
  ("recipe", "message"),
  [
    ({}, "does not say what data"),
    ({"data": "vectors", "data_options": {"sead": 1}}, "no option 'sead'"),
    ({"data": "clouds"}, "data 'clouds' is not one of"),
    ({"data": "digits"}, "but data 'digits' have"),
  ],
)
def test_networks_without_their_data_are_refused(untrained, recipe, message):
  path = untrained(recipe=recipe)
  with pytest.raises(ValueError, match=message) as refused:
    slimming.Slimmer(path)
  assert path in str(refused.value)


@pytest.mark.slow
def test_the_script_says_what_it_chose(trained, tmp_path):
  def run(*options):
    return subprocess.run(
      [sys.executable, str(_SCRIPT), f"--model={trained}", *options],
      capture_output=True,
      text=True,
    )

  small = tmp_path / "small.safetensors"
  preference = "--preference=task_0:2,task_1:1,task_2:1"
  done = run("--budget=50%", preference, f"--export={small}", "--batch=4")
  assert done.returncode == 0, done.stderr
  for words in ("decoder task_0", "multiply-adds", "ms a batch of 4", "times"):
    assert words in done.stdout
  assert slimmable_files.load(str(small)).recipe["widths"]
  failed = run("--budget=0.001")
  assert failed.returncode == 1 and "Traceback" not in failed.stderr
  assert "the smallest costs" in failed.stderr.splitlines()[-1]
  failed = run("--budget=512M", "--unit=bytes")
  assert failed.returncode == 1 and "Traceback" not in failed.stderr
  assert "bytes have no suffix 'M'" in failed.stderr.splitlines()[-1]
