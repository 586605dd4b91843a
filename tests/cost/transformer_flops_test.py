# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import jaxpr_flops
from jaxttc.cost import transformer_flops as tf
from jaxttc.models import config as config_lib
from jaxttc.models import key_values, reward_model
from jaxttc.models import transformer as transformer_lib

# Meta-Llama-3-8B and Llama-3.2-1B: sizes whose parameter counts are published.
LLAMA_8B = tf.TransformerShape(
  vocab_size=128256,
  width=4096,
  layers=32,
  heads=32,
  kv_heads=8,
  head_dim=128,
  mlp_width=14336,
  tie_embeddings=False,
)
LLAMA_1B = tf.TransformerShape(
  vocab_size=128256,
  width=2048,
  layers=16,
  heads=32,
  kv_heads=8,
  head_dim=64,
  mlp_width=8192,
)
CONFIG = config_lib.TransformerConfig(
  vocab_size=50,
  width=32,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=48,
)


@pytest.fixture(autouse=True)
def any_ranks():
  """These tests count what the model multiplies, not how it broadcasts."""
  with jax.numpy_rank_promotion("allow"):
    yield


def shape_of(config, **changes):
  names = [f.name for f in dataclasses.fields(tf.TransformerShape)]
  fields = {n: getattr(config, n) for n in names if hasattr(config, n)}
  return tf.TransformerShape(**fields | changes)


def built(config, kind=transformer_lib.Transformer):
  model = kind(config)
  return model, jax.eval_shape(
    lambda key: transformer_lib.init(key, model), jax.random.key(0)
  )


def ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def test_parameters_of_published_models():
  assert tf.parameters(LLAMA_8B) == 8_030_261_248
  assert tf.parameters(LLAMA_1B) == 1_235_814_400


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_module(tied):
  config = dataclasses.replace(CONFIG, tie_embeddings=tied)
  _, params = built(config)
  counted = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert tf.parameters(shape_of(config)) == counted


def test_flops_are_linear_in_tokens_and_attended_positions():
  for context in (0, 1, 17):
    steps = [tf.decode_flops(LLAMA_1B, context + j) for j in range(9)]
    assert tf.prefill_flops(LLAMA_1B, 9, context) == sum(steps)
  attended = sum(i + 1 for i in range(40))
  assert tf.attended_positions(40) == attended
  assert tf.prefill_flops(LLAMA_1B, 40) == tf.forward_flops(
    LLAMA_1B, 40, attended
  )
  # Without attention a token costs 2 FLOPs a parameter; norms are not matmul.
  norms = 33 * 2048
  assert tf.token_flops(LLAMA_1B) == 2 * (tf.parameters(LLAMA_1B) - norms)


def test_prefill_equals_the_traced_transformer():
  """The dense masked kernel computes a rectangle: length^2 positions."""
  batch, length = 2, 12
  model, params = built(CONFIG)
  traced = jaxpr_flops.count_flops(
    lambda p, t: transformer_lib.forward(model, p, t, t, t),
    params,
    ints(batch, length),
  )
  shape = shape_of(CONFIG)
  positions = batch * length * length
  assert traced == tf.forward_flops(shape, batch * length, positions)
  triangle = batch * tf.prefill_flops(shape, length)
  upper_half = batch * length * (length - 1) // 2
  assert traced - triangle == upper_half * tf.context_flops(shape)


def test_training_equals_the_traced_gradient():
  batch, length = 2, 12
  model, params = built(CONFIG)

  def loss(p, t):
    logits = transformer_lib.forward(model, p, t, t, t)
    return jax.nn.log_softmax(logits).sum()

  shape = shape_of(CONFIG)
  upper = batch * (length * (length - 1) // 2) * tf.context_flops(shape)
  for remat in (False, True):
    fn = jax.checkpoint(loss) if remat else loss
    traced = jaxpr_flops.count_flops(jax.grad(fn), params, ints(batch, length))
    factor = 4 if remat else 3
    closed = tf.train_flops(shape, batch, length, remat=remat)
    assert traced == closed + factor * upper


def test_decoding_equals_the_traced_transformer():
  """One token a row over an arena of C slots and a scratch of S columns."""
  groups, rows, slots, columns = 2, 3, 16, 8
  model, params = built(CONFIG)
  empty = key_values.empty_key_values

  def step(p, tokens):
    context = key_values.Context(
      arena=empty(CONFIG, (groups,), slots),
      arena_mask=jnp.ones((groups, rows, slots), bool),
      scratch=empty(CONFIG, (groups, rows), columns),
      scratch_mask=jnp.ones((groups, rows, columns), bool),
      column=jnp.int32(0),
    )
    mask = jnp.ones((groups, rows, 1, columns), bool)
    variables = {"params": p}
    hidden, _ = model.apply(variables, tokens, tokens, mask, context)
    return model.apply(variables, hidden, method="logits")

  traced = jaxpr_flops.count_flops(step, params, ints(groups, rows, 1))
  shape, tokens = shape_of(CONFIG), groups * rows
  assert traced == tf.forward_flops(shape, tokens, tokens * (slots + columns))
  context = slots + columns - 1
  assert traced == tokens * tf.decode_flops(shape, context)


@pytest.mark.parametrize("reading", [0, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_reward_models_cost_their_heads(reading, tied):
  if not reading and not tied:
    return  # a plain reward model has no language head to tie
  config = dataclasses.replace(
    CONFIG, reading_layers=reading, tie_embeddings=tied
  )
  model, params = built(config, reward_model.ProcessRewardModel)
  mask = jax.ShapeDtypeStruct((1, 1, 5, 5), bool)
  traced = jaxpr_flops.count_flops(
    lambda p, t, m: model.apply({"params": p}, t, t, m)[0].logits,
    params,
    ints(1, 1, 5),
    mask,
  )
  shape = shape_of(config, outputs=1)
  assert traced == tf.forward_flops(shape, 5, 25)
  # The module's head has a bias as well.
  counted = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert tf.parameters(shape) == counted - 1
  heads = tf.token_flops(shape) - tf.token_flops(shape, outputs=False)
  rows = 1 + reading * (CONFIG.vocab_size + tf.READ)
  assert heads == 2 * CONFIG.width * rows


def test_bytes_of_decoding():
  assert tf.kv_bytes_per_token(LLAMA_1B, 2) == 2 * 16 * 8 * 64 * 2
  one = tf.decode_bytes(LLAMA_1B, 1, 511, bytes_per_weight=2)
  assert one == 2 * tf.matmul_weights(LLAMA_1B) + 512 * 32768
  many = tf.decode_bytes(LLAMA_1B, 64, 511, bytes_per_weight=2)
  assert many - one == 63 * 512 * 32768
  mixed = tf.decode_bytes(LLAMA_1B, 1, 511, 1, bytes_per_value=2)
  assert one - mixed == tf.matmul_weights(LLAMA_1B)


def test_bad_sizes_are_refused():
  with pytest.raises(ValueError, match="width must be a positive int"):
    dataclasses.replace(LLAMA_1B, width=0)
  for call in (
    lambda: tf.prefill_flops(LLAMA_1B, -1),
    lambda: tf.decode_flops(LLAMA_1B, -1),
    lambda: tf.attended_positions(1, -1),
    lambda: tf.train_flops(LLAMA_1B, -1, 1),
    lambda: tf.decode_bytes(LLAMA_1B, -1, 1),
  ):
    with pytest.raises(ValueError, match="must not be negative"):
      call()
