# SPDX-License-Identifier: Apache-2.0
"""Tests of process-reward training: samples, labels, loss, and the recipe."""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import config as config_lib
from jaxttc.models import reward_model, transformer
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.testing import tiny_models
from jaxttc.training import metrics as metrics_lib
from jaxttc.training import packing, process_reward

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_TOKENIZER = tokenizer_lib.WordTokenizer()


def _sample(policy, path, **changes):
  problems = arithmetic.problems(3, split="train", seed=5)
  given = dict(samples=2, temperature=1.0, max_tokens=24, seed=0, batch=2)
  return process_reward.sample_solutions(
    policy, problems, ["terse", "free", "verbose"], path, **given | changes
  )


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
  """(solutions, file) of a policy that writes almost at random."""
  path = tmp_path_factory.mktemp("sampled") / "train.jsonl"
  return _sample(tiny_models.tiny_bundles(0)[0], path), path


def test_samples_are_labelled_by_the_checker(sampled):
  solutions, path = sampled
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  problems = {p.id: p for p in arithmetic.problems(3, split="train", seed=5)}
  assert {row["id"] for row in rows} == set(problems)
  for row in rows:
    for text, right in zip(row["completions"], row["right"], strict=True):
      assert right == arithmetic.check_steps(problems[row["id"]], text)
  assert len(solutions) == sum(len(row["completions"]) for row in rows) > 0


def test_sampling_goes_on_after_a_torn_line(sampled, tmp_path):
  solutions, path = sampled
  whole = path.read_text().splitlines(keepends=True)
  torn = tmp_path / "train.jsonl"
  torn.write_text(whole[0] + whole[1][:20])
  policy = tiny_models.tiny_bundles(0)[0]
  again = _sample(policy, torn)
  assert torn.read_text().splitlines(keepends=True)[0] == whole[0]
  assert len(torn.read_text().splitlines()) == 3
  assert {s.prompt for s in again} == {s.prompt for s in solutions}
  torn.write_text(whole[0] + "{not json}\n")
  with pytest.raises(ValueError, match=r"train.jsonl, line 2: expected a JSON"):
    _sample(policy, torn)


def test_labels_lie_at_the_ends_of_lines():
  problem = arithmetic.problems(1, split="train", seed=3)[0]
  text = arithmetic.solution(problem, "terse")
  lines = text.count("\n")
  right = [True] * (lines - 1) + [False]
  solution = process_reward.LabelledSolution(
    problems_lib.prompt(problem, "terse"), text, right
  )
  made = process_reward.example(_TOKENIZER, solution)
  at = [i for i, label in enumerate(made.labels) if label >= 0]
  assert [made.tokens[i] for i in at] == [_TOKENIZER.newline_id] * lines
  assert [made.labels[i] for i in at] == [float(r) for r in right]
  prompt = _TOKENIZER.encode(solution.prompt)
  assert made.tokens[1 : 1 + len(prompt)] == prompt and at[0] > len(prompt)


def test_batches_are_functions_of_the_step(sampled):
  solutions, _ = sampled
  batch = process_reward.batches(_TOKENIZER, solutions, 2, 96, seed=1)
  jax.tree.map(np.testing.assert_array_equal, batch(4), batch(4))
  assert (batch(4).tokens != batch(5).tokens).any()
  assert (batch(4).labels >= 0).any()


def test_loss_against_summing_by_hand():
  config = config_lib.TransformerConfig(
    vocab_size=13,
    width=8,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=4,
    mlp_width=8,
    reading_layers=1,
  )
  model = reward_model.ProcessRewardModel(config)
  params = jax.jit(lambda key: transformer.init(key, model))(jax.random.key(0))
  trunk = params.pop("trunk")
  examples = [
    packing.Example([3, 4, 5, 6], [0.0] * 4, [-1.0, 1.0, -1.0, 0.0]),
    packing.Example([7, 8, 9], [0.0] * 3, [-1.0, -1.0, 1.0]),
  ]
  batch = packing.pack(examples, rows=1, length=8)
  batch = jax.tree.map(jnp.asarray, batch)
  objective = process_reward.objective(model, trunk)
  got, figures = jax.jit(objective)(params, batch, jax.random.key(0))
  nats, right, count = 0.0, 0, 0
  for tokens, _, labels in examples:
    row = jnp.asarray([tokens])
    index = jnp.arange(len(tokens))[None]
    logits = transformer.forward(
      model, params | {"trunk": trunk}, row, jnp.ones_like(row), index
    )
    for logit, label in zip(np.asarray(logits[0]), labels, strict=True):
      if label >= 0:
        nats += np.log1p(np.exp(-logit if label else logit))
        right += (logit > 0) == (label > 0.5)
        count += 1
  np.testing.assert_allclose(got, nats / count, rtol=1e-5)
  np.testing.assert_allclose(figures["accuracy"], right / count, rtol=1e-6)


def _recipe():
  """`configs/arithmetic_prm.py`, made small."""
  path = _ROOT / "configs" / "arithmetic_prm.py"
  spec = importlib.util.spec_from_file_location("prm_recipe", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  recipe = module.get_config()
  small = dict(batch_size=2, length=128, warmup_steps=2, log_every=1)
  for train, steps in ((recipe.trunk.train, 3), (recipe.train, 12)):
    own = dict(steps=steps, evaluate_every=steps, checkpoint_every=steps)
    for name, value in (small | own).items():
      setattr(train, name, value)
  recipe.problems, recipe.samples, recipe.max_tokens = 24, 2, 64
  recipe.held_out = 16
  return recipe


@pytest.mark.slow
def test_the_recipe_trains_a_reward_model_on_the_shipped_policy(tmp_path):
  """From the shipped policy: three steps of trunk, twelve of the layers."""
  recipe = _recipe()
  params = recipe.run(str(tmp_path))
  records = metrics_lib.read(str(tmp_path))
  losses = [r["loss"] for r in records if "loss" in r]
  assert len(losses) == 12 and min(losses[6:]) < losses[0]
  (auc,) = [r["held_out_auc"] for r in records if "held_out_auc" in r]
  assert 0 < auc < 1
  shipped = bundle_lib.load("arithmetic_lm").params["embed"]["embedding"]
  assert (params["trunk"]["embed"]["embedding"] != shipped).any()
  file = str(tmp_path / "tiny.safetensors")
  recipe.export(params, file)
  back = bundle_lib.load(file)
  assert back.kind == "process_reward" and back.config.reading_layers == 2
  bundle_lib.check_pair(bundle_lib.load("arithmetic_lm"), back)


def test_impossible_recipes_are_refused(tmp_path):
  recipe = _recipe()
  recipe.reading_layers = 0
  with pytest.raises(ValueError, match="reading_layers must be at least 1"):
    recipe.run(str(tmp_path))
  recipe = _recipe()
  recipe.trunk.model.layers = 3
  with pytest.raises(ValueError, match="start='arithmetic_lm' holds"):
    recipe.run(str(tmp_path))
  recipe = _recipe()
  recipe.trunk.mix.terse = -1.0
  with pytest.raises(ValueError, match="none negative"):
    recipe.run(str(tmp_path))
