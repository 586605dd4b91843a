# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from configs import arithmetic_verifier
from jaxttc.inference import bundle as bundle_lib
from jaxttc.tasks import arithmetic, verifications
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import loop, metrics, process_reward, verifier_recipes


def test_the_shipped_verifier_is_of_its_config():
  shipped = bundle_lib.load("arithmetic_verifier")
  assert shipped.kind == "language_model"
  today = arithmetic_verifier.get_config().describe()
  assert loop.completed(shipped.recipe) == loop.completed(today)


def test_batches_hold_gold_verifications():
  tokenizer = tokenizer_lib.WordTokenizer()
  problem = arithmetic.problem(0, family="modular", steps=3, split="train")
  prompt = problems_lib.prompt(problem, "terse")
  text = arithmetic.solution(problem, "terse")
  solution = process_reward.LabelledSolution(prompt, text, [True] * 4)
  batch = verifier_recipes.verification_batches(
    tokenizer, {prompt: problem}, [solution], np.array([0, 1.0, 0]), 2, 160, 0
  )
  packed, again = batch(3), batch(3)
  np.testing.assert_array_equal(packed.tokens, again.tokens)
  targets = packed.targets[packed.weights > 0]
  written = tokenizer.encode(verifications.write(problem, text, "terse"))
  whole = [*written, tokenizer.eos_id]
  assert targets[: len(whole)].tolist() == whole
  assert targets.size % len(whole) == 0
  with pytest.raises(ValueError, match="fits train.length=8"):
    verifier_recipes.verification_batches(
      tokenizer, {prompt: problem}, [solution], np.array([0, 1.0, 0]), 2, 8, 0
    )(0)
  with pytest.raises(ValueError, match="no solutions to verify"):
    verifier_recipes.verification_batches(
      tokenizer, {}, [], np.ones(3), 2, 8, 0
    )


def test_a_small_recipe_runs_and_exports(tmp_path):
  recipe = arithmetic_verifier.get_config()
  recipe = dataclasses.replace(
    recipe,
    problems=4,
    held_out=2,
    samples=2,
    train=dataclasses.replace(
      recipe.train,
      steps=3,
      batch_size=2,
      length=288,
      warmup_steps=1,
      log_every=1,
      evaluate_every=3,
      checkpoint_every=3,
    ),
  )
  params = recipe.run(str(tmp_path))
  path = tmp_path / "verifier.safetensors"
  recipe.export(params, str(path))
  found = bundle_lib.load(str(path))
  assert found.recipe == recipe.describe()
  rows = metrics.read(str(tmp_path))
  assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
  assert any("held_out_loss" in row for row in rows)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"problems": 0}, "problems must be at least 1"),
    ({"shares": (1.0, 0.0)}, "a weight for each of verbose, terse, direct"),
    ({"shares": (0.0, 0.0, 0.0)}, "not all 0"),
    ({"style": "wordy"}, "solution style 'wordy'"),
  ],
)
def test_bad_recipes_are_refused(fields, words, tmp_path):
  recipe = dataclasses.replace(arithmetic_verifier.get_config(), **fields)
  with pytest.raises(ValueError, match=words):
    recipe.run(str(tmp_path))
