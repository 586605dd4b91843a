# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import carbon, energy, jaxpr_flops, ledger_file
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import transformer_flops as tf
from jaxttc.evaluation import model_accounts
from jaxttc.models import config as config_lib
from jaxttc.models import reward_model, transformer

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_HF = _ROOT / "tests" / "data" / "hf"
H100 = hardware_lib.lookup("h100-sxm")
MODEL = dict(
  vocab_size=704,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=64,
)
SHAPE = config_lib.TransformerConfig(**MODEL).shape()
TRAIN = {"steps": 10, "batch_size": 4, "length": 16}


def recipe(**fields):
  return {"kind": "language_model", "model": MODEL, "train": TRAIN} | fields


def test_a_recipe_takes_its_steps():
  ledger = model_accounts.of_recipe(recipe(), "tiny")
  [entry] = ledger.entries
  assert entry.phase == "pre_training"
  assert entry.flop.value == 10 * tf.train_flops(SHAPE, 4, 16)


def test_recipes_of_many_widths_take_every_width():
  widths = recipe(widths=[0.5, 0.75, 1.0])
  shared = model_accounts.of_recipe(widths, "shared")
  apart = model_accounts.of_recipe(widths | {"shared_rows": False}, "apart")
  flop = lambda ledger: [e.flop.value for e in ledger.entries]  # noqa: E731
  assert flop(apart)[2] == flop(shared)[2] == 10 * tf.train_flops(SHAPE, 4, 16)
  assert [2 * f for f in flop(shared)[:2]] == flop(apart)[:2]
  assert flop(apart)[0] < flop(apart)[1] < flop(apart)[2]


def test_shipped_models_name_what_they_go_on_from():
  nested, shape = model_accounts.of_model("nested_lm")
  [base] = nested.parents
  assert (base.ledger.name, base.role) == ("arithmetic_lm", "base")
  assert [e.phase for e in nested.entries] == ["fine_tuning"] * 4
  assert shape.vocab_size == 704
  tokens = 1400 * 16 * 384
  [entry] = base.ledger.entries
  assert entry.flop.value > 6 * tf.matmul_weights(shape) * tokens
  judge, _ = model_accounts.of_model("arithmetic_prm")
  [trunk] = judge.parents
  assert trunk.ledger.parents[0].ledger.name == "arithmetic_lm"
  assert [e.phase for e in judge.entries] == ["data_generation", "fine_tuning"]
  sampled = judge.entries[0].flop
  assert sampled.provenance == "assumed" and sampled.high > 6 * sampled.low


def test_directories_tell_their_sizes_alone():
  ledger, shape = model_accounts.of_model(_HF / "qwen2")
  assert ledger.entries == () and shape.width > 0
  with pytest.raises(ValueError, match="no model named 'nothing' ships"):
    model_accounts.of_model("nothing")
  with pytest.raises(ValueError, match="recipe of kind 'slimmable'"):
    model_accounts.of_recipe({"kind": "slimmable"}, "x")


def test_reading_layers_cost_what_their_trace_says():
  config = config_lib.TransformerConfig(**MODEL | {"layers": 4})
  config = dataclasses.replace(config, reading_layers=2)
  model = reward_model.ProcessRewardModel(config)
  params = jax.eval_shape(
    lambda key: transformer.init(key, model), jax.random.key(0)
  )
  above = {k: v for k, v in params.items() if k != "trunk"}

  def train(above, trunk, tokens):
    judge = lambda above: transformer.forward(  # noqa: E731
      model, above | {"trunk": trunk}, tokens, tokens, tokens
    ).sum()
    return jax.grad(judge)(above)

  tokens = jax.ShapeDtypeStruct((3, 12), jnp.int32)
  with jax.numpy_rank_promotion("allow"):
    traced = jaxpr_flops.count_flops(train, above, params["trunk"], tokens)
  found = model_accounts.reading_flop(config.shape(outputs=1), 3, 12)
  assert found.high == pytest.approx(1.05 * traced)
  assert found.value < traced


def plan(**fields):
  return model_accounts.Plan(
    **dict(hardware=H100, devices=8, utilisation=0.5) | fields
  )


def planned(shape=SHAPE, **fields):
  ledger = ledger_lib.Ledger("plan")
  model_accounts.add_plan(ledger, shape, plan(**fields))
  return ledger.entries


def test_plans_have_time_energy_money_and_emissions():
  [entry] = planned(
    tokens=1e9,
    length=64,
    remat=True,
    intensity=carbon.Intensity.constant(360, "test"),
    prices=energy.Prices(dollars_per_kwh=0.1, pue=2.0),
  )
  flop = 1e9 / 64 * tf.train_flops(SHAPE, 1, 64, remat=True)
  assert entry.flop.value == pytest.approx(flop)
  assert entry.recomputed == pytest.approx(flop / 4)
  seconds = flop / (989.5e12 * 0.5)
  assert entry.seconds.value == pytest.approx(seconds)
  joules = 700 * seconds * (0.1 + 0.9 * 0.5)
  assert entry.joules.value == pytest.approx(joules)
  kwh = 2 * joules / 3.6e6
  assert entry.carbon.value == pytest.approx(kwh * 0.36)
  assert entry.dollars.value == pytest.approx(3.99 * seconds / 3600 + 0.1 * kwh)
  assert entry.joules.low < entry.joules.value < entry.joules.high


def test_hours_alone_and_hours_with_tokens():
  [entry] = planned(None, hours=10, utilisation=None)
  assert entry.flop.value == pytest.approx(8 * 36e3 * 989.5e12 * 0.3)
  assert entry.seconds.value == 8 * 36e3 and entry.seconds.is_exact
  [entry] = planned(tokens=1e12, length=64, hours=10)
  assert entry.seconds.value == 8 * 36e3
  with pytest.raises(ValueError, match="> 1; check flops, seconds"):
    planned(tokens=1e18, length=64, hours=10)


def test_queries_read_a_prompt_once_and_answer_k_times():
  [entry] = planned(
    queries=100, prompt_tokens=20, answer_tokens=5, samples=3, hardware=None
  )
  each = tf.prefill_flops(SHAPE, 20) + 3 * tf.prefill_flops(SHAPE, 5, 20)
  assert entry.flop.value == 100 * each
  assert (entry.phase, entry.queries) == ("inference", 100)
  assert entry.joules is None


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    (dict(tokens=-1.0), "tokens must be finite"),
    (dict(devices=0), "devices must be at least 1"),
    (dict(hours=1.0, hardware=None), "hours need hardware"),
    (dict(queries=3), "queries need prompt_tokens"),
  ],
)
def test_plans_that_cannot_be_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    plan(**fields)


def test_tokens_need_a_model():
  with pytest.raises(ValueError, match="tokens and queries need a model"):
    planned(None, tokens=1e9)


def run(*flags):
  return subprocess.run(
    [sys.executable, str(_ROOT / "scripts" / "cost.py"), *flags],
    capture_output=True,
    text=True,
    cwd=_ROOT,
  )


@pytest.mark.slow
def test_the_script_prints_cards(tmp_path):
  ledger = ledger_file.create(tmp_path / "mine.jsonl", "mine")
  model_accounts.add_plan(ledger, SHAPE, plan(tokens=1e9))
  done = run(
    f"--ledger={tmp_path / 'mine.jsonl'}",
    "--format=json",
    "--as_of=2026-01-31",
    "--fact=is it a general-purpose model?=no",
  )
  assert done.returncode == 0, done.stderr
  card = json.loads(done.stdout)
  assert card["name"] == "mine" and card["as_of"] == "2026-01-31"
  assert card["head"] == ledger_file.head(tmp_path / "mine.jsonl")
  assert card["rules"][0]["denied"]
  np.testing.assert_allclose(
    card["flop"]["training"]["value"], ledger.entries[0].flop.value
  )


@pytest.mark.slow
def test_the_script_says_in_one_line_what_is_wrong():
  done = run("--hardware=h100", "--hours=3")
  assert done.returncode != 0
  assert done.stderr.strip() == (
    "cost.py: unknown hardware 'h100'; did you mean 'h100-sxm'?"
  )
