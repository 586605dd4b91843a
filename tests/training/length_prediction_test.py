# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import gamma_length, transformer
from jaxttc.predictors import length_predictor, remaining_length
from jaxttc.tasks import thinking_rows, tokenizer
from jaxttc.training import length_prediction, loop, thinking

_WORDS = tokenizer.WordTokenizer()
_MIX = length_prediction.TraceMix(questions=thinking.DigitSumMix())


def test_labels_say_how_much_follows():
  made = length_prediction.example(
    _WORDS, "3+4 mod 10?\n<think>", "So 3\nSo 7\n</think>#### 7\n"
  )
  at = made.tokens.index(_WORDS.think_id)
  span = made.tokens.index(_WORDS.end_think_id) - at
  assert span == 7
  assert made.labels[at : at + span] == [7, 6, 5, 4, 3, 2, 1]
  assert set(made.labels[:at]) == {-1}
  assert set(made.labels[at + span :]) == {-1}


def test_thoughts_of_files_read_as_generated_ones():
  row = thinking_rows.Thought(
    id="a-1",
    asked=({"role": "user", "content": "3+4 mod 10?"},),
    thought="So 3\nSo 7\n",
    solution="#### 7\n",
  )
  made = length_prediction.example_of(_WORDS, row)
  same = length_prediction.example(
    _WORDS, "3+4 mod 10?\n<think>", "So 3\nSo 7\n</think>#### 7\n"
  )
  assert made == same
  short = length_prediction.example_of(_WORDS, thinking_rows.concise(row))
  assert max(short.labels) < max(made.labels)
  with pytest.raises(ValueError, match="a-1: the thought never closed"):
    length_prediction.example_of(_WORDS, dataclasses.replace(row, solution=""))


def test_a_span_that_never_closes_is_refused():
  with pytest.raises(ValueError, match="no closing tag"):
    length_prediction.example(_WORDS, "3+4 mod 10?\n<think>", "So 3\n")


def test_copies_are_shorter():
  length = lambda share: np.mean(  # noqa: E731
    [
      len(
        length_prediction.TraceMix(
          questions=thinking.DigitSumMix(), copies=share
        ).example(i, 0)[1]
      )
      for i in range(300)
    ]
  )
  assert length(1.0) < 0.8 * length(0.0)
  with pytest.raises(ValueError, match="mix.copies is 2"):
    length_prediction.TraceMix(
      questions=thinking.DigitSumMix(), copies=2
    ).validate()


@pytest.mark.parametrize("bins", [0, 8])
def test_the_loss_is_the_mean_over_labelled_positions(bins):
  policy = bundle_lib.load("thinking_lm")
  config = gamma_length.LengthPredictorConfig(
    vocab_size=704,
    hidden_width=policy.config.width,
    hidden_states=policy.config.layers + 1,
    width=8,
    heads=1,
    bins=bins,
  )
  params = gamma_length.init(jax.random.key(0), config)
  batch = length_prediction.batches(_WORDS, _MIX, 2, 64, 0)(0)
  loss = length_prediction.objective(config, policy, longest=64)
  value, metrics = jax.jit(loss)(params, batch, jax.random.key(0))
  stack = transformer.hidden_stack(
    policy.model,
    policy.params,
    *map(jnp.asarray, (batch.tokens, batch.segments, batch.positions)),
  )
  counted = batch.labels > 0
  out = gamma_length.module(config).apply(
    {"params": params},
    stack[counted],
    None,
    jnp.asarray(batch.targets[counted][:, None]),
  )
  left = batch.labels[counted].astype(int)
  if bins:
    edges = remaining_length.bin_edges(bins, 64)
    nats = remaining_length.bin_nll(out[:, 0], left, edges)
  else:
    nats = remaining_length.gamma_nll(out[0][:, 0], out[1][:, 0], left)
  np.testing.assert_allclose(value, nats.mean(), rtol=1e-4)
  assert metrics["log_error"] > 0


def test_a_recipe_trains_saves_and_knows_its_model(tmp_path):
  recipe = length_prediction.LengthPredictorRecipe(
    policy="thinking_lm",
    mix=_MIX,
    width=8,
    heads=1,
    train=loop.TrainConfig(
      steps=2, batch_size=2, length=96, warmup_steps=1, checkpoint_every=2
    ),
  )
  params = recipe.run(str(tmp_path / "run"))
  path = str(tmp_path / "length.safetensors")
  recipe.export(params, path)
  loaded = length_predictor.load(path)
  policy = bundle_lib.load("thinking_lm")
  chance = loaded.chance(policy, trust=None)
  hidden = jnp.ones((2, policy.config.layers + 1, policy.config.width))
  near, far = (chance(hidden, None, jnp.full(2, left)) for left in (2, 50))
  assert near.shape == (2, 704) and (near <= far).all()
  with pytest.raises(ValueError, match="made for vocabulary, width"):
    loaded.chance(bundle_lib.load("arithmetic_lm"))
  other = jax.tree.map(lambda x: x * 1.001, policy.params)
  stranger = dataclasses.replace(policy, params=other)
  with pytest.raises(ValueError, match="trained over thinking_lm .*the policy"):
    loaded.chance(stranger)
  small = bundle_lib.load("thinking_lm", "bfloat16")
  assert loaded.chance(small) is not None
  with pytest.raises(ValueError, match="kept in int8; .* float32, bfloat16"):
    loaded.chance(bundle_lib.load("thinking_lm", "int8"))
  with pytest.raises(ValueError, match="kept in bfloat16; expected float32"):
    length_predictor.weights_fingerprints(small)
