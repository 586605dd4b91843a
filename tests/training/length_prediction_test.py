# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import gamma_length, transformer
from jaxttc.predictors import length_predictor, remaining_length
from jaxttc.tasks import digit_sums, tokenizer
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


def test_a_span_that_never_closes_is_refused():
  with pytest.raises(ValueError, match="no closing tag"):
    length_prediction.example(_WORDS, "3+4 mod 10?\n<think>", "So 3\n")


def test_what_a_trace_was_led_through_does_not_count():
  led = "So 3\n"
  made = length_prediction.example(
    _WORDS, "3+4 mod 10?\n<think>", "So 3\nSo 7\n</think>#### 7\n", led
  )
  at = made.tokens.index(_WORDS.think_id)
  # The last token of the beginning says what follows it.
  assert made.labels[at : at + 7] == [-1, -1, -1, 4, 3, 2, 1]
  with pytest.raises(ValueError, match="does not begin with 'So 4"):
    length_prediction.example(_WORDS, "3+4 mod 10?\n<think>", "So 3\n", "So 4")


def test_led_traces_go_on_as_the_model_would():
  traces = lambda led: [  # noqa: E731
    length_prediction.TraceMix(
      questions=thinking.DigitSumMix(least_digits=4), led=led
    ).example(i, 0)
    for i in range(600)
  ]

  def concise(lines):
    return np.mean([digit_sums.is_concise(line) for line in lines])

  before, after = [], []
  for _, completion, led in traces(1.0):
    assert completion.startswith(led)
    lines = completion.split("</think>")[0].splitlines()
    last = led.count("\n")
    before += lines[: last + 1]
    after += lines[last + 1 :]
  assert concise(before) == pytest.approx(0.6, abs=0.04)
  assert concise(after) == pytest.approx(0.2, abs=0.04)
  assert not any(led for _, _, led in traces(0.0))
  with pytest.raises(ValueError, match="mix.led is 2"):
    length_prediction.TraceMix(
      questions=thinking.DigitSumMix(), led=2
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
