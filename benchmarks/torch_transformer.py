# SPDX-License-Identifier: Apache-2.0
"""The project's transformer in torch, as one would write it there to train."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from jaxttc.models import config as config_lib


class Block(nn.Module):
  """Attention and gated MLP; as many key-value heads as query heads."""

  def __init__(self, config: config_lib.TransformerConfig):
    super().__init__()
    self.config = config
    size = config.heads * config.head_dim
    self.attention_norm = nn.RMSNorm(config.width, config.norm_eps)
    self.qkv = nn.Linear(config.width, 3 * size, bias=False)
    self.out = nn.Linear(size, config.width, bias=False)
    self.mlp_norm = nn.RMSNorm(config.width, config.norm_eps)
    self.gate_up = nn.Linear(config.width, 2 * config.mlp_width, bias=False)
    self.down = nn.Linear(config.mlp_width, config.width, bias=False)

  def forward(self, x, cos, sin):
    """Hidden states [B, T, D] to the same; each row is one causal text."""
    x = x + self.mix(self.attention_norm(x), cos, sin)
    return x + self.gated(self.mlp_norm(x))

  def mix(self, x, cos, sin):
    """Attention."""
    rows, steps, _ = x.shape
    cfg = self.config
    h = self.qkv(x)
    h = h.view(rows, steps, cfg.heads, 3, cfg.head_dim).permute(3, 0, 2, 1, 4)
    q, k, v = _rotated(h[0], cos, sin), _rotated(h[1], cos, sin), h[2]
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return self.out(mixed.transpose(1, 2).reshape(rows, steps, -1))

  def gated(self, x):
    """Gated MLP."""
    gate, up = self.gate_up(x).chunk(2, dim=-1)
    return self.down(F.silu(gate) * up)


def _rotated(x, cos, sin):
  a, b = x.chunk(2, dim=-1)
  return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Transformer(nn.Module):
  """Tokens [B, T] to the mean cross-entropy of targets [B, T]."""

  def __init__(self, config: config_lib.TransformerConfig, length: int):
    super().__init__()
    if config.kv_heads != config.heads or not config.tie_embeddings:
      raise ValueError("expected kv_heads=heads and tied embeddings")
    self.embed = nn.Embedding(config.vocab_size, config.width)
    self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
    self.norm = nn.RMSNorm(config.width, config.norm_eps)
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-torch.arange(half) / half)
    angle = torch.arange(length)[:, None] * frequency[None]
    self.register_buffer("cos", angle.cos())
    self.register_buffer("sin", angle.sin())

  def forward(self, tokens, targets):
    """The loss."""
    x = self.embed(tokens)
    for block in self.blocks:
      x = block(x, self.cos, self.sin)
    logits = F.linear(self.norm(x), self.embed.weight)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def from_params(
  config: config_lib.TransformerConfig, params: dict[str, Any], length: int
) -> Transformer:
  """A model with the parameters of a `jaxttc.models.transformer.Transformer`.

  Args:
    config: its sizes; as many key-value heads as heads, tied embeddings.
    params: its parameters.
    length: tokens a row.
  """
  params = jax.device_get(params)
  width = config.width
  state = {
    "embed.weight": params["embed"]["embedding"],
    "norm.weight": params["final_norm"]["scale"],
  }
  for i in range(config.layers):
    qkv = params[f"attention_{i}"]["qkv"]  # [D, heads, 3, E]
    gate_up = params[f"mlp_{i}"]["gate_up"]
    layer = {
      "attention_norm": params[f"attention_norm_{i}"]["scale"],
      "mlp_norm": params[f"mlp_norm_{i}"]["scale"],
      "qkv": qkv.reshape(width, -1).T,
      "out": params[f"attention_{i}"]["out"].reshape(-1, width).T,
      "gate_up": gate_up.reshape(width, -1).T,
      "down": params[f"mlp_{i}"]["down"].T,
    }
    for name, value in layer.items():
      state[f"blocks.{i}.{name}.weight"] = value
  model = Transformer(config, length)
  missing, unknown = model.load_state_dict(
    {k: torch.from_numpy(np.array(v, order="C")) for k, v in state.items()},
    strict=False,
  )
  if unknown or set(missing) - {"cos", "sin"}:
    raise ValueError(f"parameters do not fit: {missing}, {unknown}")
  return model


def stepper(
  model: nn.Module,
  batch: tuple[np.ndarray, np.ndarray],
  *,
  learning_rate: float,
  weight_decay: float,
  clip_norm: float,
  fused: bool,
  compiled: bool,
) -> Callable[[], float]:
  """A function that takes one step of AdamW, and returns the loss before it.

  Args:
    model: a `Transformer`, whose parameters it changes.
    batch: tokens and targets, i32[B, T].
    learning_rate: constant.
    weight_decay: decoupled; on matrices only.
    clip_norm: global norm that gradients are clipped to.
    fused: whether AdamW is torch's fused kernel, else its loop over tensors.
    compiled: whether the loss goes through `torch.compile`.
  """
  tokens, targets = (torch.from_numpy(x).long() for x in batch)
  matrices = [p for p in model.parameters() if p.ndim > 1]
  others = [p for p in model.parameters() if p.ndim <= 1]
  optimizer = torch.optim.AdamW(
    [
      {"params": matrices, "weight_decay": weight_decay},
      {"params": others, "weight_decay": 0.0},
    ],
    lr=learning_rate,
    betas=(0.9, 0.98),
    eps=1e-8,
    fused=fused,
  )
  loss_of = torch.compile(model) if compiled else model

  def step() -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(tokens, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return loss.item()

  return step
