# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.tasks import digit_sums, tokenizer
from jaxttc.training import loop, thinking

_WORDS = tokenizer.WordTokenizer()


def test_examples_are_right_and_in_the_stated_shares():
  mix = thinking.DigitSumMix(asked=0.4, at_once=0.3)
  pairs = [mix.example(i, seed=1) for i in range(600)]
  assert pairs[:5] == [mix.example(i, seed=1) for i in range(5)]
  at_once = [p.endswith("<think></think>") for p, _ in pairs]
  asked = ["Solve" in p for p, _ in pairs]
  assert np.mean(at_once) == pytest.approx(0.3, abs=0.06)
  assert np.mean(asked) == pytest.approx(0.4, abs=0.06)
  for prompt, completion in pairs[:60]:
    digits = [int(d) for d in prompt.split(" ")[0].split("+")]
    assert digit_sums.is_correct(digit_sums.problem(digits), completion)
    if "tersely" in prompt:
      assert "Step" not in completion
    if "verbosely" in prompt:
      assert "So" not in completion


def test_batches_are_pure_and_learn_completions_only():
  make = lambda: thinking.batches(  # noqa: E731
    _WORDS, thinking.DigitSumMix(), 4, 96, seed=3
  )
  first, again = make()(2), make()(2)
  for a, b in zip(first, again, strict=True):
    np.testing.assert_array_equal(a, b)
  assert not np.array_equal(first.tokens, make()(3).tokens)
  opens = first.tokens == _WORDS.think_id
  assert opens.sum() > 4
  assert (first.weights[:, :-1][opens[:, :-1]] <= 1).all()
  question = first.positions < 3
  assert (first.weights[question] == 0).all()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"least_digits": 1}, "least_digits 1"),
    ({"most_digits": 1}, "most_digits 1"),
    ({"concise_share": 1.1}, "mix.concise_share is 1.1"),
    ({"asked": 0.8, "at_once": 0.4}, "exceed 1"),
  ],
)
def test_mixes_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(thinking.DigitSumMix(), **changes).validate()


def test_a_recipe_trains_and_exports(tmp_path):
  recipe = thinking.ThinkingModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=8,
      layers=1,
      heads=1,
      kv_heads=1,
      head_dim=8,
      mlp_width=8,
      max_length=96,
    ),
    mix=thinking.DigitSumMix(),
    train=loop.TrainConfig(
      steps=2, batch_size=2, length=96, warmup_steps=1, checkpoint_every=2
    ),
  )
  params = recipe.run(str(tmp_path / "run"))
  recipe.export(params, str(tmp_path / "model.safetensors"))
  loaded = bundle.load(str(tmp_path / "model.safetensors"))
  assert loaded.recipe["kind"] == "thinking_model"
  recipe.model.vocab_size = 700
  with pytest.raises(ValueError, match="vocab_size=700"):
    recipe.run(str(tmp_path / "other"))
