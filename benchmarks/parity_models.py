# SPDX-License-Identifier: Apache-2.0
"""Small random models of published families, made and run by transformers.

Weights are saved as bfloat16, in half the space, and loaded as float32. Norm
scales, biases and embeddings are drawn wide enough for every part of a family
to show in the logits.
"""

import pathlib
from typing import Any

import numpy as np

_SIZES = dict(hidden_act="silu", max_position_embeddings=256)
SMALL = dict(
  vocab_size=384,
  hidden_size=24,
  intermediate_size=32,
  num_hidden_layers=2,
  num_attention_heads=4,
  num_key_value_heads=2,
)
LARGE = dict(
  vocab_size=512,
  hidden_size=64,
  intermediate_size=160,
  num_hidden_layers=6,
  num_attention_heads=8,
  num_key_value_heads=2,
)
_LLAMA3 = {
  "rope_type": "llama3",
  "rope_theta": 500.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 32,
}
_GEMMA = dict(
  hidden_activation="gelu_pytorch_tanh",
  head_dim=16,
  query_pre_attn_scalar=12,
  sliding_window=7,
)
# Config and model class, and what its config says beside the sizes.
FAMILIES = {
  "llama": ("Llama", dict(tie_word_embeddings=False)),
  "llama3": (
    "Llama",
    dict(tie_word_embeddings=True, rope_parameters=_LLAMA3, head_dim=10),
  ),
  "llama_linear": (
    "Llama",
    dict(
      rope_parameters={
        "rope_type": "linear",
        "rope_theta": 10_000.0,
        "factor": 4.0,
      }
    ),
  ),
  "mistral": ("Mistral", dict(sliding_window=8)),
  "qwen2": ("Qwen2", dict(tie_word_embeddings=True)),
  "qwen3": ("Qwen3", dict(head_dim=16)),
  "gemma2": (
    "Gemma2",
    dict(**_GEMMA, attn_logit_softcapping=5.0, final_logit_softcapping=10.0),
  ),
  "gemma3": ("Gemma3Text", _GEMMA),
}


def make(
  name: str, directory: pathlib.Path, sizes: dict[str, int], seed: int
) -> Any:
  """Saves a random model, in bfloat16, and returns it in float32."""
  import torch
  import transformers

  kind, extra = FAMILIES[name]
  fields = {**_SIZES, **sizes, **extra, "attn_implementation": "eager"}
  fields |= dict(bos_token_id=0, eos_token_id=1, pad_token_id=2)
  if name == "gemma3":
    layers = sizes["num_hidden_layers"]
    every = min(layers, 3)
    kinds = ["sliding_attention"] * (every - 1) + ["full_attention"]
    fields["layer_types"] = (kinds * layers)[:layers]
  torch.manual_seed(seed)
  config = getattr(transformers, f"{kind}Config")(**fields)
  model = _class(kind)(config)
  with torch.no_grad():
    for weight in model.parameters():
      if weight.ndim == 1:  # norm scales and biases
        weight.add_(0.3 * torch.randn_like(weight))
      else:
        weight.copy_(torch.randn_like(weight) * weight.shape[-1] ** -0.5)
  model.bfloat16().save_pretrained(directory)
  return load(name, directory)  # the saved one rounded its frequencies, too


def load(name: str, directory: pathlib.Path) -> Any:
  """Loads a directory with transformers, in float32."""
  import torch

  kind, _ = FAMILIES[name]
  return (
    _class(kind)
    .from_pretrained(
      directory, dtype=torch.float32, attn_implementation="eager"
    )
    .eval()
  )


def logits(model: Any, tokens: np.ndarray, length: np.ndarray) -> np.ndarray:
  """Logits f32[P, T, V], each prompt alone; zeros beyond its length."""
  import torch

  out = np.zeros((*tokens.shape, model.config.vocab_size), np.float32)
  with torch.no_grad():
    for i, n in enumerate(length):
      ids = torch.tensor(tokens[i : i + 1, :n], dtype=torch.long)
      out[i, :n] = model(ids, use_cache=False).logits[0].numpy()
  return out


def greedy(
  model: Any, tokens: np.ndarray, length: np.ndarray, count: int
) -> np.ndarray:
  """The likeliest continuations i32[P, count], end tokens notwithstanding."""
  import torch

  rows = []
  with torch.no_grad():
    for i, n in enumerate(length):
      ids = torch.tensor(tokens[i : i + 1, :n], dtype=torch.long)
      out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=count,
        eos_token_id=None,
        pad_token_id=2,
      )
      rows.append(out[0, n:].numpy())
  return np.asarray(rows, np.int32)


def _class(kind: str) -> Any:
  import transformers

  name = "Gemma3" if kind == "Gemma3Text" else kind
  return getattr(transformers, f"{name}ForCausalLM")
