# SPDX-License-Identifier: Apache-2.0
"""The shape of a decoder-only transformer, validated once."""

import dataclasses
import math
from typing import Any

from jaxttc.cost import transformer_flops

ACTIVATIONS = ("silu", "gelu_tanh")
# Fields that are switched off by 0.
_MAY_BE_ZERO = (
  "rope_original",
  "reward_width",
  "query_width",
  "score_cap",
  "logit_cap",
  "window",
  "global_every",
  "rope_theta_local",
)


# Hashable, since a linen module's fields must be, yet not frozen, since flags
# override the fields of a recipe's model before anything is built from it.
@dataclasses.dataclass(kw_only=True, unsafe_hash=True)
class TransformerConfig:
  """Sizes of a Llama-shaped transformer, and how its family differs.

  The defaults are Llama's. Fields that change what is computed are off, or
  at their neutral value, unless a family sets them (`models.families`).

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
    rope_factor: how far positions are stretched beyond the first training.
    rope_original: of Llama 3's scaling, the length of the first training, in
      tokens; 0 stretches all frequencies alike.
    rope_low: of Llama 3's scaling: waves longer than `rope_original / this`
      are stretched in full.
    rope_high: waves shorter than `rope_original / this` are left alone.
    norm_eps: epsilon of RMSNorm.
    tie_embeddings: whether the output head is the embedding table.
    reading_layers: of a reward model, how many of the layers lie above its
      trunk and read how it expected each token (`ProcessRewardModel`).
    reward_width: of a reward model, size of the hidden layer of its head; 0 if
      the head is linear.
    qkv_bias: whether queries, keys and values have biases.
    qk_norm: whether each head's queries and keys are normalised.
    post_norms: whether the output of each sublayer is normalised, too.
    activation: of the gated MLP, "silu" or "gelu_tanh".
    embed_scale: what embeddings are multiplied with.
    query_width: scores are divided by its square root; 0 for `head_dim`.
    score_cap: bound of attention scores, by a tanh; 0 for none.
    logit_cap: bound of the logits, by a tanh; 0 for none.
    window: tokens that a local layer sees, the present one included; 0 if all
      layers are global.
    global_every: every so many layers one is global; 0 if all are local.
    rope_theta_local: `rope_theta` of local layers, which are never stretched;
      0 for the same as that of global ones.
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
  rope_factor: float = 1.0
  rope_original: int = 0
  rope_low: float = 1.0
  rope_high: float = 4.0
  reward_width: int = 0
  qkv_bias: bool = False
  qk_norm: bool = False
  post_norms: bool = False
  activation: str = "silu"
  embed_scale: float = 1.0
  query_width: int = 0
  score_cap: float = 0.0
  logit_cap: float = 0.0
  window: int = 0
  global_every: int = 0
  rope_theta_local: float = 0.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, if the sizes do not fit."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      off = value == 0 and not isinstance(value, bool)
      if field.name in ("reading_layers", "activation"):
        continue
      if not (field.name in _MAY_BE_ZERO and off):
        _check(field.name, value, field.type)
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f"model.activation must be one of {ACTIVATIONS}, got "
        f"{self.activation!r}"
      )
    if self.rope_original and not self.rope_low < self.rope_high:
      raise ValueError(
        f"model.rope_low={self.rope_low} must be below "
        f"model.rope_high={self.rope_high}"
      )
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

  def is_local(self, layer: int) -> bool:
    """Whether a layer sees no more than the last `window` tokens."""
    every = self.global_every
    return self.window > 0 and not (every and (layer + 1) % every == 0)

  def shape(
    self, outputs: int | None = None
  ) -> transformer_flops.TransformerShape:
    """The sizes that a call's cost depends on.

    A local layer is priced like a global one: it computes scores of all that
    is cached, and masks what lies outside its window.

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
    """The fields as a JSON-ready dict, less what a family leaves as it is.

    So a model's description does not change when another family needs a new
    field.
    """
    fields = dataclasses.fields(self)
    names = [field.name for field in fields]
    own = names.index("reading_layers")  # families set what comes behind it
    return {
      field.name: getattr(self, field.name)
      for i, field in enumerate(fields)
      if i <= own or getattr(self, field.name) != field.default
    }

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
