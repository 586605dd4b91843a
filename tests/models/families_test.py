# SPDX-License-Identifier: Apache-2.0
"""Tests of what published configs say in our words."""

import dataclasses
import math

import jax
import pytest

from jaxttc.models import config as config_lib
from jaxttc.models import families, stored_tensors, transformer

_SIZES = {
  "vocab_size": 64,
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_hidden_layers": 4,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 128,
}


def _raw(name="LlamaForCausalLM", **fields):
  return _SIZES | {"architectures": [name]} | fields


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_parameter_of_the_module_is_named_once(name):
  config = families.read_config(_raw(name, sliding_window=8))
  model = transformer.Transformer(config)
  shapes = jax.eval_shape(
    lambda key: transformer.init(key, model), jax.random.key(0)
  )
  wanted = {
    tuple(k.key for k in path): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }
  table = stored_tensors.parameters(config, name)
  assert {path: one.shape for path, one in table.items()} == wanted
  stored = [piece.name for one in table.values() for piece in one.pieces]
  assert len(stored) == len(set(stored))
  for one in table.values():
    held = sum(math.prod(piece.shape) for piece in one.pieces)
    assert held == math.prod(one.shape)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_configs_survive_a_round_trip(name):
  config = families.read_config(
    _raw(name, head_dim=8, sliding_window=8, rope_theta=77.0)
  )
  assert families.read_config(families.write_config(config, name)) == config


def test_older_and_newer_ways_to_write_rotary_bases_agree():
  scaling = {"rope_type": "linear", "factor": 4.0}
  old = _raw(rope_theta=500.0, rope_scaling=scaling)
  new = _raw(rope_parameters=scaling | {"rope_theta": 500.0})
  assert families.read_config(old) == families.read_config(new)
  old = _raw("Gemma3ForCausalLM", rope_theta=700.0, rope_local_base_freq=50.0)
  new = _raw(
    "Gemma3ForCausalLM",
    rope_parameters={
      "full_attention": {"rope_type": "default", "rope_theta": 700.0},
      "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    },
  )
  config = families.read_config(old)
  assert config == families.read_config(new)
  assert (config.rope_theta, config.rope_theta_local) == (700.0, 50.0)


@pytest.mark.parametrize(
  ("name", "fields", "local"),
  [
    ("LlamaForCausalLM", {"sliding_window": 8}, [False] * 4),
    ("MistralForCausalLM", {"sliding_window": 8}, [True] * 4),
    ("MistralForCausalLM", {"sliding_window": None}, [False] * 4),
    ("Gemma2ForCausalLM", {"sliding_window": 8}, [True, False] * 2),
    ("Gemma3ForCausalLM", {"sliding_window": 8}, [True] * 4),
    ("Qwen2ForCausalLM", {"sliding_window": 8}, [False] * 4),
    (
      "Qwen2ForCausalLM",
      {
        "sliding_window": 8,
        "use_sliding_window": True,
        "max_window_layers": 0,
      },
      [True] * 4,
    ),
    (
      "Qwen3ForCausalLM",
      {
        "sliding_window": 8,
        "use_sliding_window": True,
        "max_window_layers": 4,
      },
      [False] * 4,
    ),
    (
      "Gemma3ForCausalLM",
      {
        "sliding_window": 8,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
      },
      [True, True, True, False],
    ),
  ],
)
def test_which_layers_are_local(name, fields, local):
  config = families.read_config(_raw(name, **fields))
  assert [config.is_local(i) for i in range(4)] == local


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not known"),
    ({"architectures": None}, "expected one of LlamaForCausalLM, Mistral"),
    ({"hidden_size": None}, "hidden_size is None; expected a whole number"),
    ({"hidden_size": 16.5}, "hidden_size is 16.5; expected a whole number"),
    ({"vocab_size": "64"}, "vocab_size is '64'"),
    ({"num_key_value_heads": 3}, "model.heads=4 must be a multiple"),
    ({"hidden_act": "relu"}, "hidden_act is 'relu'; expected one of"),
    ({"attention_bias": True}, "attention_bias is True; expected false"),
    ({"quantization_config": {"bits": 4}}, "quantised checkpoints"),
    (
      {"rope_scaling": {"type": "yarn", "factor": 4.0}},
      "rope_type is 'yarn'; expected 'default', 'linear' or 'llama3'",
    ),
    ({"rope_scaling": {"rope_type": "llama3"}}, "factor is None"),
    (
      {
        "architectures": ["Gemma2ForCausalLM"],
        "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
      },
      "layer_types is .* of which every n-th",
    ),
  ],
)
def test_what_cannot_be_run_is_refused(fields, message):
  with pytest.raises(ValueError, match=message) as caught:
    families.read_config(_raw() | fields)
  assert "\n" not in str(caught.value)


def test_a_config_finds_a_family_or_is_told_that_there_is_none():
  config = families.read_config(_raw("Qwen3ForCausalLM", head_dim=8))
  assert families.family_of(config) == "Qwen3ForCausalLM"
  plain = config_lib.TransformerConfig(
    vocab_size=8,
    width=8,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    mlp_width=8,
  )
  assert families.family_of(plain) == "LlamaForCausalLM"
  odd = dataclasses.replace(plain, qk_norm=True, qkv_bias=True)
  with pytest.raises(ValueError, match="no family of"):
    families.family_of(odd)
  with pytest.raises(ValueError, match="cannot say model.qk_norm=True"):
    families.write_config(config, "LlamaForCausalLM")
