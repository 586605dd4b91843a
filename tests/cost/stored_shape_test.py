# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import pytest

from jaxttc.cost import stored_shape
from jaxttc.cost import transformer_flops as tf
from jaxttc.models import families

_HF = pathlib.Path(__file__).parents[1] / "data" / "hf"
# Published sizes: Mixtral-8x7B-v0.1 and GPT-2 (small).
MIXTRAL = {
  "model_type": "mixtral",
  "vocab_size": 32000,
  "hidden_size": 4096,
  "num_hidden_layers": 32,
  "num_attention_heads": 32,
  "num_key_value_heads": 8,
  "intermediate_size": 14336,
  "num_local_experts": 8,
  "num_experts_per_tok": 2,
  "tie_word_embeddings": False,
}
GPT2 = {
  "model_type": "gpt2",
  "vocab_size": 50257,
  "n_embd": 768,
  "n_layer": 12,
  "n_head": 12,
  "n_inner": None,
}


@pytest.mark.parametrize(
  "name", ["llama", "llama3", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"]
)
def test_families_that_we_run_have_the_shape_of_their_model(name):
  file = _HF / name / "config.json"
  config = families.read_config(json.loads(file.read_text()))
  assert stored_shape.read(file.parent) == config.shape()
  assert stored_shape.read(file) == config.shape()


def test_mixtures_of_experts_are_priced_by_what_a_token_meets():
  shape = stored_shape.shape_of(MIXTRAL)
  # 46.7e9 and 12.9e9 are published; norms and router included to the last.
  assert tf.parameters(shape) == 46_702_792_704
  assert tf.active_parameters(shape) == 12_879_925_248
  norms, table = 65 * 4096, 32000 * 4096
  assert tf.token_flops(shape) == 2 * (
    tf.active_parameters(shape) - norms - table
  )


def test_plain_mlps_have_two_matrices():
  shape = stored_shape.shape_of(GPT2)
  assert shape.mlp_width == 3072 and shape.mlp_matrices == 2
  # 124,439,808 are published; biases and positions are left out here.
  biases = 12 * (2304 + 768 + 3072 + 768 + 2 * 768) + 768
  positions = 1024 * 768
  assert tf.parameters(shape) == 124_439_808 - biases - positions


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"hidden_size": None}, "hidden_size is missing"),
    ({"hidden_size": -1}, "hidden_size must be a positive whole number"),
    ({"hidden_size": 4096.5}, "hidden_size must be a positive whole number"),
    ({"kv_lora_rank": 512}, "latent attention"),
    ({"mlp_only_layers": [0]}, "layers with and without experts"),
    ({"decoder_sparse_step": 2}, "decoder_sparse_step=2"),
    ({"text_config": {"hidden_size": 3}}, "a model inside a model"),
    ({"num_experts_per_tok": None}, "num_experts_per_tok is missing"),
    ({"num_experts_per_tok": 9}, "must be at most experts=8"),
  ],
)
def test_what_cannot_be_priced_is_named(change, message, tmp_path):
  file = tmp_path / "config.json"
  file.write_text(json.dumps(MIXTRAL | change))
  with pytest.raises(ValueError, match=f"config.json: .*{message}"):
    stored_shape.read(tmp_path)


def test_files_that_are_none_are_named(tmp_path):
  with pytest.raises(ValueError, match="No such file"):
    stored_shape.read(tmp_path)
  for text, message in (("{", "not JSON"), ("[]", "expected a JSON object")):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
      stored_shape.read(tmp_path)
