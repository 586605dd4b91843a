# SPDX-License-Identifier: Apache-2.0
"""Tests of next-token prediction and its batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.tasks import arithmetic
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.training import language_model, packing

_CONFIG = config_lib.TransformerConfig(
  vocab_size=13,
  width=8,
  layers=1,
  heads=2,
  kv_heads=1,
  head_dim=4,
  mlp_width=8,
)
_MODEL = transformer.Transformer(_CONFIG)


def test_loss_against_summing_by_hand():
  init = jax.jit(lambda key: transformer.init(key, _MODEL))
  params = init(jax.random.key(0))
  examples = [
    packing.Example([3, 4, 5, 6], [0.0, 0.0, 1.0, 0.5]),
    packing.Example([7, 8, 9], [0.0, 1.0, 1.0]),
    packing.Example([2, 1, 0, 4, 5], [0.0, 0.0, 0.0, 1.0, 1.0]),
  ]
  batch = packing.pack(examples, rows=2, length=8)
  loss = jax.jit(language_model.objective(_MODEL))
  got, figures = loss(
    params, jax.tree.map(jnp.asarray, batch), jax.random.key(0)
  )

  @jax.jit
  def alone(row):
    index = jnp.arange(5)[None]
    logits = transformer.forward(_MODEL, params, row, jnp.ones_like(row), index)
    return jax.nn.log_softmax(logits[0])

  nats, right, total = 0.0, 0.0, 0.0
  for tokens, weights, _ in examples:
    row = np.zeros((1, 5), np.int32)  # zeros behind change nothing before
    row[0, : len(tokens)] = tokens
    logprob = np.asarray(alone(row))
    for i in range(1, len(tokens)):
      nats -= weights[i] * logprob[i - 1, tokens[i]]
      right += weights[i] * (logprob[i - 1].argmax() == tokens[i])
      total += weights[i]
  np.testing.assert_allclose(got, nats / total, rtol=1e-5)
  np.testing.assert_allclose(figures["loss"], got, rtol=1e-6)
  np.testing.assert_allclose(figures["accuracy"], right / total, rtol=1e-6)


def test_only_the_completion_is_learned_unless_asked():
  tokenizer = tokenizer_lib.WordTokenizer()
  made = language_model.example(tokenizer, "Solve 1 + 2 .\n", "#### 3\n")
  assert made.tokens[0] == tokenizer.bos_id
  assert made.tokens[-1] == tokenizer.eos_id
  assert tokenizer.decode(made.tokens) == "Solve 1 + 2 .\n#### 3\n"
  learned = [t for t, w in zip(*made[:2], strict=True) if w]
  assert tokenizer.decode(learned) == "#### 3\n"
  both = language_model.example(tokenizer, "a", "b", prompt_weight=0.5)
  assert set(both.weights) == {0.5, 1.0}


def test_batches_are_a_function_of_the_step_and_the_seed():
  tokenizer = tokenizer_lib.WordTokenizer()

  def batches(seed):
    mix = arithmetic.TrainingMix()
    return language_model.generated_batches(tokenizer, mix, 2, 200, seed)

  first = batches(0)(3)
  for a, b in zip(first, batches(0)(3), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not np.array_equal(first.tokens, batches(0)(4).tokens)
  assert not np.array_equal(first.tokens, batches(1)(3).tokens)
  assert (first.segments > 0).mean() > 0.5


def test_rows_too_short_for_any_problem_are_refused(monkeypatch):
  monkeypatch.setattr(language_model, "_EXAMPLES_A_BATCH", 50)
  batch = language_model.generated_batches(
    tokenizer_lib.WordTokenizer(), arithmetic.TrainingMix(), 2, 4, 0
  )
  with pytest.raises(ValueError, match="train.length=4"):
    batch(0)


def test_bfloat16_is_computed_on_float32_parameters():
  rough = transformer.Transformer(_CONFIG, jnp.bfloat16, remat=True)
  batch = packing.pack(
    [packing.Example([1, 2, 3, 4, 5], [0.0] + [1.0] * 4)] * 3, 2, 12
  )
  key = jax.random.key(0)
  params = transformer.init(key, rough)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  found = []
  for model in (_MODEL, rough):
    step = jax.value_and_grad(language_model.objective(model), has_aux=True)
    found.append(jax.jit(step)(params, batch, key))
  ((exact, _), grads), ((near, figures), others) = found
  assert exact != near and abs(exact - near) < 0.05
  assert figures["weight"] == 12
  for a, b in zip(*map(jax.tree.leaves, (grads, others)), strict=True):
    assert b.dtype == jnp.float32
    assert np.linalg.norm(a - b) < 0.05 * np.linalg.norm(a) + 1e-3
