# SPDX-License-Identifier: Apache-2.0
"""Tests of int8 matrices: error bounds, products, memory, meshes."""

import dataclasses

from flax import traverse_util
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import inference
from jaxttc import mesh as mesh_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import generation, local_engine, local_prices
from jaxttc.models import config as config_lib
from jaxttc.models import int8_weights, transformer
from jaxttc.testing import tiny_models

_CONFIG = config_lib.TransformerConfig(
  vocab_size=40,
  width=16,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=32,
  tie_embeddings=False,
)


@settings(deadline=None, max_examples=40)
@given(
  seed=st.integers(0, 2**16),
  axes=st.sampled_from([(0,), (1,), (0, 1), (2,)]),
  dtype=st.sampled_from(["float32", "bfloat16"]),
  spread=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_no_number_is_off_by_more_than_half_a_step(seed, axes, dtype, spread):
  rng = np.random.default_rng(seed)
  value = (rng.normal(size=(5, 4, 3)) * spread).astype(np.float32)
  value[rng.random(value.shape) < 0.2] = 0
  q, scale = int8_weights.quantise(value, axes, dtype)
  assert q.dtype == np.int8 and scale.dtype == jnp.dtype(dtype)
  assert scale.shape == tuple(np.delete(value.shape, axes))
  step = np.expand_dims(scale.astype(np.float64), axes)
  assert (np.abs(value - q * step) <= step / 2 * (1 + 1e-6)).all()
  largest = np.abs(q.astype(int)).max(axis=axes)
  zero = np.abs(value).max(axis=axes) == 0
  assert ((largest == 127) | zero).all() and (largest[zero] == 0).all()


def test_rounding_in_chunks_is_rounding_at_once(monkeypatch):
  value = np.random.default_rng(0).normal(size=(13, 7)).astype(np.float32)
  whole = [int8_weights.quantise(value, (a,), np.float32) for a in (0, 1)]
  monkeypatch.setattr(int8_weights, "_CHUNK", 10)
  for axis, expected in enumerate(whole):
    found = int8_weights.quantise(value, (axis,), np.float32)
    for one, other in zip(found, expected, strict=True):
      np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def bundles():
  """A model with reading layers, as floats and as int8."""
  _, verifier = tiny_models.tiny_bundles(1, kv_heads=2)
  params = int8_weights.quantised(verifier.params, jnp.float32)
  return verifier, dataclasses.replace(
    verifier, params=jax.tree.map(jnp.asarray, params)
  )


def test_matrices_are_int8_and_all_else_is_as_it_was(bundles):
  floats, int8 = (traverse_util.flatten_dict(b.params) for b in bundles)
  kinds = {"qkv", "out", "gate_up", "down", "embedding"}
  for path, value in floats.items():
    matrix = path[-1] in kinds or path[-2:] == ("head", "kernel")
    assert matrix == (int8[path].dtype == jnp.int8)
    assert matrix == (int8_weights.scale_path(path) in int8)
    if not matrix:
      np.testing.assert_array_equal(int8[path], value)
  assert ("surprise", "kernel") in floats and (
    "trunk",
    "head",
    "kernel",
  ) in int8
  assert bundles[1].dtype == jnp.float32
  assert bundles[1].stored_dtype == jnp.int8


def test_a_pass_is_that_of_the_numbers_that_int8_stands_for(bundles):
  _, bundle = bundles
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 20, (2, 12)))
  args = (
    tokens,
    jnp.ones_like(tokens),
    jnp.broadcast_to(jnp.arange(12), (2, 12)),
  )
  run = jax.jit(lambda p: transformer.forward(bundle.model, p, *args))
  there = run(int8_weights.dequantised(bundle.params))
  np.testing.assert_allclose(run(bundle.params), there, atol=2e-6)


def test_memory_is_a_quarter_and_loops_read_int8():
  """What a compiled decoding loop carries from step to step."""
  config = dataclasses.replace(_CONFIG, width=64, mlp_width=256)
  model = transformer.Transformer(config)
  params = transformer.init(jax.random.key(0), model)
  int8 = int8_weights.quantised(params, jnp.float32)
  size = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))  # noqa: E731
  assert 0.25 < size(int8) / size(params) < 0.29

  def loop(params, token):
    def step(_, token):
      at = jnp.zeros((1, 1, 1), jnp.int32)
      mask = jnp.ones((1, 1, 1, 1), bool)
      logits = model.apply(
        {"params": params}, token[None, None], at, mask, method="everything"
      )
      return logits[0, 0].argmax(-1).astype(jnp.int32)

    return jax.lax.fori_loop(0, 64, step, token)

  program = jax.jit(loop).lower(int8, jnp.zeros((1,), jnp.int32)).compile()
  (line,) = [x for x in program.as_text().splitlines() if " while(" in x]
  carried = line.split(" while(")[0]
  for shape in ("[256,64]", "[64,2,256]"):
    assert carried.count(f"s8{shape}") == config.layers
    assert f"f32{shape}" not in carried


def test_an_engine_writes_what_the_numbers_say():
  """Greedy, through caches and segments; a policy of one layer."""
  floats, _ = tiny_models.tiny_bundles(2)
  params = int8_weights.quantised(floats.params, jnp.float32)
  int8 = dataclasses.replace(floats, params=jax.tree.map(jnp.asarray, params))
  there = dataclasses.replace(
    floats, params=int8_weights.dequantised(int8.params)
  )
  written = []
  for bundle in (int8, there):
    engine = local_engine.LocalEngine(
      bundle,
      sampler=inference.Sampler(temperature=0),
      groups=2,
      rows=1,
      columns=16,
      slots=16,
    )
    prompts = [tiny_models.PROMPT, "Solve 5 - 2 .\n"]
    engine.open(
      {
        g: engine_lib.Prompt(text=p, tokens=engine.encode(p))
        for g, p in enumerate(prompts)
      }
    )
    words = tuple(jax.random.key_data(jax.random.key(0)).tolist())
    engine.submit(
      [
        engine_lib.Request(
          group=g, ticket=0, node=0, until=generation.END, limit=16, seed=words
        )
        for g in range(2)
      ]
    )
    found = {}
    while len(found) < 2:
      found |= {c.group: c.tokens for c in engine.step()}
    written.append(found)
  assert written[0] == written[1] and min(map(len, written[0].values())) > 2


def test_a_mesh_splits_scales_with_their_outputs():
  policy, _ = tiny_models.tiny_bundles(3, kv_heads=4)
  params = int8_weights.quantised(policy.params, jnp.float32)
  bundle = dataclasses.replace(policy, params=params)
  spread = inference.shard(bundle, mesh_lib.make_mesh(2, 4))
  flat = traverse_util.flatten_dict(spread.params, sep="/")
  parts = {k: v.addressable_shards[0].data.shape for k, v in flat.items()}
  vocabulary, width = policy.config.vocab_size, policy.config.width
  assert parts["attention_0/qkv_scale"] == (1, 4, 8)
  assert parts["attention_0/out_scale"] == (width,)
  assert parts["mlp_0/gate_up_scale"] == (2, 8)
  assert parts["mlp_0/down_scale"] == (width,)
  assert parts["embed/embedding_scale"] == (vocabulary // 4,)
  assert parts["head/kernel_scale"] == (vocabulary // 4,)
  tokens = jnp.asarray(np.random.default_rng(0).integers(0, 20, (2, 12)))
  args = (
    tokens,
    jnp.ones_like(tokens),
    jnp.broadcast_to(jnp.arange(12), (2, 12)),
  )
  run = jax.jit(lambda p: transformer.forward(policy.model, p, *args))
  np.testing.assert_allclose(run(spread.params), run(params), atol=2e-5)


def test_prices_know_what_weights_and_caches_take(bundles):
  floats, int8 = bundles
  ours, _ = local_prices.local_tariff(int8, "h100-sxm", "verifier")
  theirs, _ = local_prices.local_tariff(floats, "h100-sxm", "verifier")
  assert 4 * ours.token.bytes == theirs.token.bytes > 0
  assert ours.context == theirs.context
  assert ours.token.flops == theirs.token.flops
  assert ours.token.joules == theirs.token.joules  # computed in float32 still
