# SPDX-License-Identifier: Apache-2.0
"""The sizes that a checkpoint's `config.json` tells, of any architecture.

`models.families` reads a config to run the model, and refuses what it cannot
run. To account for a model its sizes are enough: mixtures of experts, other
attention masks and other norms cost what their matrices say. What changes the
matrices in a way that the closed form does not know is refused.
"""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

from jaxttc.cost import transformer_flops

# Other words for the same sizes, the usual one first.
_NAMES = {
  "width": ("hidden_size", "n_embd", "d_model"),
  "layers": ("num_hidden_layers", "n_layer", "num_layers"),
  "heads": ("num_attention_heads", "n_head", "num_heads"),
  "kv_heads": ("num_key_value_heads",),
  "head_dim": ("head_dim",),
  "mlp_width": ("intermediate_size", "n_inner", "ffn_dim"),
  "vocab_size": ("vocab_size",),
  "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
  "experts_per_token": ("num_experts_per_tok", "experts_per_token"),
  "expert_width": ("moe_intermediate_size",),
  "shared_width": ("shared_expert_intermediate_size",),
}
# Architectures whose MLP has two matrices; all others are gated.
_PLAIN_MLP = ("gpt2", "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon")
_TIED = ("gpt2", "gpt_neo", "opt", "bloom", "gemma", "gemma2", "gemma3_text")
# What changes the matrices, and how it is told.
_UNKNOWN = {
  "kv_lora_rank": "latent attention",
  "first_k_dense_replace": "layers with and without experts",
  "mlp_only_layers": "layers with and without experts",
  "encoder_layers": "an encoder beside the decoder",
  "num_encoder_layers": "an encoder beside the decoder",
  "state_size": "state-space layers",
  "text_config": "a model inside a model; give the directory of its text part",
}


def read(
  directory: str | os.PathLike[str],
) -> transformer_flops.TransformerShape:
  """The shape of the model in a Hugging Face directory.

  Args:
    directory: with a `config.json`, or the path of one.

  Raises:
    ValueError: in one line that names the file, for a config that is missing,
      is not JSON, lacks a size, or tells of what cannot be priced.
  """
  file = pathlib.Path(directory)
  if file.is_dir():
    file = file / "config.json"
  try:
    raw = json.loads(file.read_text(encoding="utf-8"))
  except OSError as error:
    raise ValueError(f"{file}: {error.strerror}") from None
  except ValueError as error:
    raise ValueError(f"{file}: not JSON: {error}") from None
  if not isinstance(raw, dict):
    raise ValueError(f"{file}: expected a JSON object")
  try:
    return shape_of(raw)
  except ValueError as error:
    raise ValueError(f"{file}: {error}") from None


def shape_of(raw: Mapping[str, Any]) -> transformer_flops.TransformerShape:
  """The shape that the fields of a `config.json` tell.

  Raises:
    ValueError: naming a field that is missing, is no positive whole number,
      or tells of what the closed form does not know.
  """
  for name, what in _UNKNOWN.items():
    if raw.get(name):
      raise ValueError(f"{name}={raw[name]!r} means {what}, of no known price")
  if raw.get("decoder_sparse_step", 1) != 1:
    raise ValueError(
      f"decoder_sparse_step={raw['decoder_sparse_step']!r} means layers with "
      "and without experts, of no known price"
    )
  kind = str(raw.get("model_type", ""))
  width, heads = _size(raw, "width"), _size(raw, "heads")
  experts = _size(raw, "experts", 1)
  mlp = _size(raw, "mlp_width", 4 * width if kind == "gpt2" else None)
  tied = raw.get("tie_word_embeddings")
  return transformer_flops.TransformerShape(
    vocab_size=_size(raw, "vocab_size"),
    width=width,
    layers=_size(raw, "layers"),
    heads=heads,
    kv_heads=_size(raw, "kv_heads", heads),
    head_dim=_size(raw, "head_dim", max(width // heads, 1)),
    mlp_width=_size(raw, "expert_width", mlp) if experts > 1 else mlp,
    tie_embeddings=kind in _TIED if tied is None else bool(tied),
    experts=experts,
    experts_per_token=_size(raw, "experts_per_token") if experts > 1 else 1,
    shared_width=_size(raw, "shared_width", 0) if experts > 1 else 0,
    mlp_matrices=2 if kind in _PLAIN_MLP else 3,
  )


def _size(
  raw: Mapping[str, Any], field: str, default: int | None = None
) -> int:
  """A size by any of its names; null and a missing one are the default."""
  names, least = _NAMES[field], 0 if default == 0 else 1
  for name in names:
    value = raw.get(name)
    if value is None:
      continue
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least:
      raise ValueError(f"{name} must be a positive whole number, got {value!r}")
    return value
  if default is None:
    raise ValueError(f"{names[0]} is missing")
  return default
