# SPDX-License-Identifier: Apache-2.0
"""The shape of a decoder-only transformer, validated once."""

import dataclasses
import math
from typing import Any

from jaxttc.cost import transformer_flops


# Hashable, since a linen module's fields must be, yet not frozen, since flags
# override the fields of a recipe's model before anything is built from it.
@dataclasses.dataclass(kw_only=True, unsafe_hash=True)
class TransformerConfig:
  """Sizes of a Llama-shaped transformer.

  Attributes:
    vocab_size: rows of the embedding table.
    width: size of the residual stream.
    layers: number of blocks, reading ones included.
    heads: query heads; must be a multiple of `kv_heads`.
    kv_heads: key and value heads (grouped-query attention).
    head_dim: size of a head; even, for rotary positions.
    mlp_width: hidden size of the gated MLP.
    max_length: longest sequence the model was trained for, in tokens.
    rope_theta: base of the rotary frequencies.
    norm_eps: epsilon of RMSNorm.
    tie_embeddings: whether the output head is the embedding table.
    reading_layers: of a reward model, how many of the layers lie above its
      trunk and read how it expected each token (`ProcessRewardModel`).
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  mlp_width: int
  max_length: int = 2048
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-5
  tie_embeddings: bool = True
  reading_layers: int = 0

  def validate(self) -> None:
    """Raises ValueError, naming the field, if the sizes do not fit."""
    for field in dataclasses.fields(self):
      if field.name != "reading_layers":
        _check(field.name, getattr(self, field.name), field.type)
    reading = self.reading_layers
    if not isinstance(reading, int) or not 0 <= reading < self.layers:
      raise ValueError(
        f"model.reading_layers must be an int from 0 to below model.layers="
        f"{self.layers}, got {reading!r}"
      )
    if self.heads % self.kv_heads:
      raise ValueError(
        f"model.heads={self.heads} must be a multiple of "
        f"model.kv_heads={self.kv_heads}"
      )
    if self.head_dim % 2:
      raise ValueError(
        f"model.head_dim={self.head_dim} must be even for rotary positions"
      )
    if self.width % self.heads:
      raise ValueError(
        f"model.width={self.width} must be divisible by "
        f"model.heads={self.heads}"
      )

  def shape(
    self, outputs: int | None = None
  ) -> transformer_flops.TransformerShape:
    """The sizes that a call's cost depends on.

    Args:
      outputs: size of the head, where it is not a row a vocabulary entry.
    """
    return transformer_flops.TransformerShape(
      vocab_size=self.vocab_size,
      width=self.width,
      layers=self.layers,
      heads=self.heads,
      kv_heads=self.kv_heads,
      head_dim=self.head_dim,
      mlp_width=self.mlp_width,
      tie_embeddings=self.tie_embeddings,
      outputs=outputs,
      reading_layers=self.reading_layers,
    )

  def trunk(self) -> "TransformerConfig":
    """The language model below the reading layers."""
    below = self.layers - self.reading_layers
    return dataclasses.replace(self, layers=below, reading_layers=0)

  def to_dict(self) -> dict[str, Any]:
    """The fields as a JSON-ready dict."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> "TransformerConfig":
    """Inverse of `to_dict`.

    Raises:
      ValueError: on missing or unknown fields, or sizes that do not fit.
    """
    if not isinstance(fields, dict):
      raise ValueError(f"a model config must be a dict, got {fields!r}")
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(fields) - known)
    if unknown:
      raise ValueError(
        f"unknown model config fields {unknown}; expected {sorted(known)}"
      )
    try:
      config = cls(**fields)
    except TypeError as error:
      raise ValueError(f"incomplete model config: {error}") from None
    config.validate()
    return config


def _check(name: str, value: Any, kind: Any) -> None:
  """Refuses a value of the wrong type, or a size that is not positive."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  if kind is bool:
    fits, expected = isinstance(value, bool), "true or false"
  elif kind is int:
    whole = number and isinstance(value, int)
    fits, expected = whole and value > 0, "a positive int"
  else:
    fits, expected = number and 0 < value < math.inf, "positive and finite"
  if not fits:
    raise ValueError(f"model.{name} must be {expected}, got {value!r}")
