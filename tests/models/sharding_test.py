# SPDX-License-Identifier: Apache-2.0
"""Tests of where parameters and caches lie on a mesh of 8 simulated devices."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import inference
from jaxttc import mesh as mesh_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import generation, local_engine, stop, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import key_values, sharding
from jaxttc.testing import tiny_models
from jaxttc.verifiers import local_verifier

_T = mesh_lib.TENSOR


@pytest.fixture(scope="module")
def bundles():
  return tiny_models.tiny_bundles(3, kv_heads=4)


def _shard_shapes(params):
  """Path -> the shape of what each device has of a parameter."""
  found = {}
  for path, leaf in jax.tree.leaves_with_path(params):
    (shape,) = {shard.data.shape for shard in leaf.addressable_shards}
    found[jax.tree_util.keystr(path, simple=True, separator="/")] = shape
  return found


def test_each_device_has_the_part_that_the_table_says(bundles):
  policy, _ = bundles
  mesh = mesh_lib.make_mesh(2, 4)
  shapes = _shard_shapes(inference.shard(policy, mesh).params)
  vocabulary, width = policy.config.vocab_size, policy.config.width
  assert shapes == {
    "embed/embedding": (vocabulary // 4, width),
    "attention_0/qkv": (width, 1, 4, 8),
    "attention_0/out": (2, 8, width),
    "mlp_0/gate_up": (width, 2, 8),
    "mlp_0/down": (8, width),
    "head/kernel": (width, vocabulary // 4),
    "attention_norm_0/scale": (width,),
    "mlp_norm_0/scale": (width,),
    "final_norm/scale": (width,),
  }


def test_reading_layers_are_split_as_the_trunk_is(bundles):
  _, verifier = bundles
  shapes = _shard_shapes(
    inference.shard(verifier, mesh_lib.make_mesh(4, 2)).params
  )
  assert shapes["attention_0/qkv"] == (16, 2, 4, 8)
  assert shapes["trunk/attention_0/qkv"] == (16, 2, 4, 8)
  assert shapes["reward/kernel"] == (16, 1)
  assert shapes["surprise/kernel"] == (4, 16)


def test_sharding_keeps_every_number_and_loads_straight_to_its_place(
  bundles, tmp_path
):
  policy, _ = bundles
  mesh = mesh_lib.make_mesh(2, 4)
  spread = inference.shard(policy, mesh)
  path = str(tmp_path / "policy.safetensors")
  bundle_lib.save(path, spread)  # whole again
  loaded = inference.load(path, mesh=mesh)

  def same(a, b, c):
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    assert b.sharding == c.sharding

  jax.tree.map(same, policy.params, spread.params, loaded.params)
  half = inference.load(path, jnp.bfloat16, mesh)
  assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(half.params))
  assert _shard_shapes(half.params) == _shard_shapes(spread.params)


def test_what_lies_there_already_is_not_copied(bundles):
  mesh = mesh_lib.make_mesh(2, 4)
  once = inference.shard(bundles[0], mesh)
  again = inference.shard(once, mesh)

  def pointers(bundle):
    return [
      shard.data.unsafe_buffer_pointer()
      for leaf in jax.tree.leaves(bundle.params)
      for shard in leaf.addressable_shards
    ]

  assert pointers(once) == pointers(again)


@pytest.mark.parametrize(
  ("path", "shape", "expected"),
  [
    ("embed/embedding", (96, 16), jax.P(_T)),
    ("embed/embedding", (97, 16), jax.P(None, _T)),
    ("embed/embedding", (97, 17), jax.P()),
    ("head/kernel", (16, 96), jax.P(None, _T)),
    ("head/kernel", (16, 97), jax.P(_T)),
    ("trunk/mlp_11/down", (32, 16), jax.P(_T)),
    ("surprise/kernel", (4, 16), jax.P()),
    ("attention_norm_0/scale", (16,), jax.P()),
    ("overhead/kernel", (16, 96), jax.P()),
  ],
)
def test_the_first_rule_that_divides_is_taken(path, shape, expected):
  assert sharding.spec(path, shape, 4) == expected


@pytest.mark.parametrize(
  ("change", "parts", "message"),
  [
    ({"kv_heads": 2}, 4, "model.kv_heads=2 .*tensor=4.*expected one of 1, 2$"),
    ({"mlp_width": 30}, 4, "model.mlp_width=30 .*expected one of 1, 2, 3, 5"),
  ],
)
def test_refuses_sizes_that_do_not_divide(bundles, change, parts, message):
  policy, _ = bundles
  config = dataclasses.replace(policy.config, **change)
  with pytest.raises(ValueError, match=message) as caught:
    sharding.check(config, parts)
  assert "\n" not in str(caught.value)
  with pytest.raises(ValueError, match=message):
    inference.shard(
      dataclasses.replace(policy, config=config),
      mesh_lib.make_mesh(8 // parts, parts),
    )


def test_the_host_driven_form_refuses_models_on_many_devices(bundles):
  mesh = mesh_lib.make_mesh(4, 2)
  policy, verifier = (inference.shard(bundle, mesh) for bundle in bundles)
  with pytest.raises(ValueError, match="language_model is spread over 8 dev"):
    local_engine.LocalEngine(policy)
  with pytest.raises(ValueError, match="process_reward is spread over 8 dev"):
    local_verifier.LocalVerifier(verifier)


def test_caches_are_split_by_heads_and_all_else_is_whole():
  config = config_lib.TransformerConfig(
    vocab_size=8,
    width=16,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=4,
    mlp_width=8,
  )
  state = {
    "cache": tree_cache.init(config, groups=3, capacity=5),
    "scratch": key_values.empty_key_values(config, (3, 2), 6),
    "rounds": jnp.zeros(3, jnp.int32),
  }
  specs = sharding.state_specs(state, mesh_lib.DATA)
  data = mesh_lib.DATA
  assert specs["rounds"] == jax.P(data) == specs["cache"].owner
  assert specs["cache"].arena[1].k == jax.P(data, _T)
  assert specs["scratch"][0].v == jax.P(data, None, _T)
  # Outside of `data_parallel` there is nothing to pin.
  assert sharding.pin(state)["rounds"] is state["rounds"]


def test_a_layer_meets_twice_and_moves_no_weight_or_cache(bundles):
  """The compiled decoding loop holds the collectives of the plan, no more."""
  policy, _ = bundles
  mesh = mesh_lib.make_mesh(4, 2)
  params = inference.shard(policy, mesh).params
  controller = inference.Sampler().controller(policy.config.vocab_size)

  def run(params, tokens):
    cache = tree_cache.init(policy.config, tokens.shape[0], 24)
    rows = generation.idle_rows(
      policy.config, tokens.shape[0], 3, 10, 24, controller
    )
    rule = generation.StopRule(eos_id=1, step_end=stop.build([]))
    rows = rows.replace(
      active=~rows.active, request=rows.request.replace(token=tokens)
    )
    rows = generation.decode(
      policy.model,
      params,
      cache,
      rows,
      rule,
      controller,
      inference.Sampler().draw,
      10,
    )
    return rows.written

  spread = mesh_lib.data_parallel(run, mesh, replicated_argnums=(0,))
  tokens = mesh_lib.shard_batch(jnp.full((8, 3), 7), mesh)
  text = jax.jit(spread).lower(params, tokens).compile().as_text()
  kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
  found = re.findall(rf"= (\S+) ({kinds})(?:-start)?\(", text)
  shapes = sorted((kind, shape.split("{")[0]) for shape, kind in found)
  residual = ("all-reduce", "f32[2,3,1,16]")
  logits = ("all-gather", f"f32[2,3,{policy.config.vocab_size}]")
  # Embedding, attention, MLP; and the logits that all draw from.
  assert shapes == [logits, *[residual] * 3]
  groups = set(
    re.findall(rf"(?:{kinds})\(.*replica_groups=([^,]+,?\d*\]?)", text)
  )
  assert len(groups) == 1
