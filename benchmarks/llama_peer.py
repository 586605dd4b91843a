# SPDX-License-Identifier: Apache-2.0
"""The same weights in transformers: a jaxttc policy as a LlamaForCausalLM."""

from typing import Any

import jax
import numpy as np
import torch
import transformers

from jaxttc.models import config as config_lib


def llama(
  config: config_lib.TransformerConfig, params: dict[str, Any]
) -> transformers.LlamaForCausalLM:
  """A torch model that computes what ours does, in float32.

  Args:
    config: sizes of a `Transformer`.
    params: its parameters.

  Returns:
    The model in evaluation mode, its end-of-sequence token disabled.
  """
  model = transformers.LlamaForCausalLM(_config(config))
  model.load_state_dict(_state(config, params))
  model.generation_config.eos_token_id = None
  return model.eval()


def untrained(
  config: config_lib.TransformerConfig, device: str, dtype: torch.dtype
) -> transformers.LlamaForCausalLM:
  """A torch model of that shape with weights of its own, made on the device.

  What it writes means nothing; how fast it writes does not depend on that.
  """
  before = torch.get_default_dtype()
  torch.set_default_dtype(dtype)
  try:
    with torch.device(device):
      model = transformers.LlamaForCausalLM(_config(config))
  finally:
    torch.set_default_dtype(before)
  model.generation_config.eos_token_id = None
  return model.eval()


def _config(config) -> transformers.LlamaConfig:
  return transformers.LlamaConfig(
    vocab_size=config.vocab_size,
    hidden_size=config.width,
    intermediate_size=config.mlp_width,
    num_hidden_layers=config.layers,
    num_attention_heads=config.heads,
    num_key_value_heads=config.kv_heads,
    head_dim=config.head_dim,
    # Room for longer prompts; rotary angles do not depend on it.
    max_position_embeddings=max(config.max_length, 2048),
    rms_norm_eps=config.norm_eps,
    rope_parameters={
      "rope_type": "default",
      "rope_theta": config.rope_theta,
    },
    tie_word_embeddings=config.tie_embeddings,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=0,
    attn_implementation="sdpa",
  )


def _state(config, params) -> dict[str, torch.Tensor]:
  """Our parameters under their names, as [out, in] matrices."""
  params = jax.device_get(params)
  state = {
    "model.embed_tokens.weight": params["embed"]["embedding"],
    "model.norm.weight": params["final_norm"]["scale"],
    "lm_head.weight": (
      params["embed"]["embedding"]
      if config.tie_embeddings
      else params["head"]["kernel"].T
    ),
  }
  for i in range(config.layers):
    for name, value in _layer(config, params, i).items():
      state[f"model.layers.{i}.{name}.weight"] = value
  return {
    name: torch.from_numpy(np.array(value, np.float32, order="C"))
    for name, value in state.items()
  }


def _layer(config, params, i: int) -> dict[str, np.ndarray]:
  width = config.width
  # [D, KV, Q + 2, E]: the query heads of a key-value head, then k, then v.
  qkv = params[f"attention_{i}"]["qkv"]
  gate_up = params[f"mlp_{i}"]["gate_up"]
  matrix = lambda x: x.reshape(width, -1).T  # noqa: E731
  return {
    "input_layernorm": params[f"attention_norm_{i}"]["scale"],
    "post_attention_layernorm": params[f"mlp_norm_{i}"]["scale"],
    "self_attn.q_proj": matrix(qkv[:, :, :-2]),
    "self_attn.k_proj": matrix(qkv[:, :, -2]),
    "self_attn.v_proj": matrix(qkv[:, :, -1]),
    "self_attn.o_proj": params[f"attention_{i}"]["out"].reshape(-1, width).T,
    "mlp.gate_proj": gate_up[:, 0].T,
    "mlp.up_proj": gate_up[:, 1].T,
    "mlp.down_proj": params[f"mlp_{i}"]["down"].T,
  }


def generate(
  model: transformers.LlamaForCausalLM,
  prompts: np.ndarray,
  new_tokens: int,
  samples: int = 1,
  sample: bool = False,
) -> np.ndarray:
  """What transformers writes after prompts of equal length.

  Args:
    model: as `llama` makes it.
    prompts: i32[B, T].
    new_tokens: tokens to write after each, all of them.
    samples: continuations of each prompt (`num_return_sequences`).
    sample: draw at temperature 1, else greedily.

  Returns:
    i64[B * samples, new_tokens].
  """
  ids = torch.from_numpy(np.asarray(prompts, np.int64)).to(model.device)
  out = model.generate(
    ids,
    attention_mask=torch.ones_like(ids),
    max_new_tokens=new_tokens,
    do_sample=sample,
    num_return_sequences=samples,
    use_cache=True,
    **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
  )
  return out[:, prompts.shape[1] :].cpu().numpy()


def logits(
  model: transformers.LlamaForCausalLM, prompts: np.ndarray
) -> np.ndarray:
  """Next-token logits f32[B, T, V] of prompts i32[B, T]."""
  with torch.no_grad():
    out = model(torch.from_numpy(np.asarray(prompts, np.int64)))
  return out.logits.numpy()
