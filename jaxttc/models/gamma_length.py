# SPDX-License-Identifier: Apache-2.0
"""Modules that tell, for each next token, how much thinking would be left.

A frozen language model's hidden states of all layers, at one position, are
read as a short sequence (Li et al. 2025, "Steering LLM thinking with budget
guidance", section 3): a learned vector is put before them, a bidirectional
encoder mixes them, and that vector's output says for every candidate token how
the remaining length is distributed. Two laws: a Gamma (the paper's) and a
discrete one over bins.

Heads are the cost of a large vocabulary. "full" has a row a token; "embedding"
and "lowrank" read the language model's own embedding of a token instead, so
that tokens which never occurred in training get figures from their like.

Shape letters: B positions, N hidden states, D their width, C candidates, W the
encoder's width, O numbers a candidate.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

HEADS = ("full", "lowrank", "embedding")
# Laws are sharp: shapes and rates run to a hundred, pre-activations to ten.
_GAIN = 8.0


@dataclasses.dataclass(kw_only=True, unsafe_hash=True)
class LengthPredictorConfig:
  """Sizes of a length predictor.

  Attributes:
    vocab_size: V of the language model.
    hidden_width: D of the language model.
    hidden_states: N, its layers and one.
    width: W of the encoder.
    layers: of the encoder; 0 reads the last hidden state alone, linearly.
    heads: attention heads of the encoder.
    head: one of `HEADS`.
    rank: of the head "lowrank".
    min_alpha: least shape of a Gamma.
    min_rate: least rate of a Gamma.
    bins: of the discrete law; 0 for a Gamma.
  """

  vocab_size: int
  hidden_width: int
  hidden_states: int
  width: int = 64
  layers: int = 1
  heads: int = 4
  head: str = "full"
  rank: int = 16
  min_alpha: float = 1e-2
  min_rate: float = 1e-2
  bins: int = 0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for sizes that cannot be."""
    for name in (
      "vocab_size",
      "hidden_width",
      "hidden_states",
      "width",
      "heads",
      "rank",
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f"predictor.{name} must be at least 1, got {getattr(self, name)}"
        )
    for name in ("layers", "bins"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"predictor.{name} must not be negative, got {getattr(self, name)}"
        )
    for name in ("min_alpha", "min_rate"):
      if not getattr(self, name) > 0:
        raise ValueError(
          f"predictor.{name} must be positive, got {getattr(self, name)}"
        )
    if self.head not in HEADS:
      raise ValueError(
        f"predictor.head is {self.head!r}, expected one of {', '.join(HEADS)}"
      )
    if self.width % self.heads:
      raise ValueError(
        f"predictor.width={self.width} must be a multiple of "
        f"predictor.heads={self.heads}"
      )


class _Encoder(nn.Module):
  """Hidden states [B, N, D] to one feature vector [B, W]."""

  config: LengthPredictorConfig

  @nn.compact
  def __call__(self, stack):
    cfg = self.config
    if not cfg.layers:
      return stack[:, -1]
    mark = self.param("mark", nn.initializers.zeros, (1, cfg.hidden_width))
    marks = jnp.broadcast_to(mark, (stack.shape[0], *mark.shape))
    x = nn.Dense(cfg.width)(jnp.concatenate([marks, stack], axis=1))
    # Which layer a state is of; the paper's encoder is not told.
    shape = (1, cfg.hidden_states + 1, cfg.width)
    x = x + self.param("layer", nn.initializers.normal(0.02), shape)
    for _ in range(cfg.layers):
      h = nn.LayerNorm()(x)
      x = x + nn.MultiHeadDotProductAttention(cfg.heads)(h)
      h = nn.Dense(4 * cfg.width)(nn.LayerNorm()(x))
      x = x + nn.Dense(cfg.width)(jax.nn.gelu(h))
    return nn.LayerNorm()(x[:, 0])


class _CandidateHead(nn.Module):
  """Features [B, W] to O numbers of each candidate, [B, C, O]."""

  config: LengthPredictorConfig
  outputs: int

  @nn.compact
  def __call__(self, features, embedding, candidates):
    cfg, width = self.config, features.shape[-1]
    init = nn.initializers.lecun_normal(in_axis=-1, out_axis=(0, 1))
    if cfg.head == "full":
      shape = (cfg.vocab_size, self.outputs, width)
      rows = self.param("rows", init, shape)
      picked = rows if candidates is None else rows[candidates]
      spec = "vow,bw->bvo" if candidates is None else "bcow,bw->bco"
      return jnp.einsum(spec, picked, features)
    known = jax.lax.stop_gradient(embedding)
    known = known if candidates is None else known[candidates]
    if cfg.head == "lowrank":
      known = nn.Dense(cfg.rank, use_bias=False, name="project")(known)
    # Rows of an embedding are small; bring their products to order one.
    asked = nn.Dense(self.outputs * known.shape[-1], name="query")(features)
    asked = asked.reshape(-1, self.outputs, known.shape[-1])
    bias = self.param("bias", nn.initializers.zeros, (1, 1, self.outputs))
    spec = "vd,bod->bvo" if candidates is None else "bcd,bod->bco"
    return jnp.einsum(spec, known, asked) + bias


def _check(config, stack, embedding):
  expected = (config.hidden_states, config.hidden_width)
  if stack.shape[1:] != expected:
    raise ValueError(
      f"hidden states of shape {stack.shape}; expected [B, {expected[0]}, "
      f"{expected[1]}], as the predictor was made for"
    )
  if config.head == "full":
    return
  expected = (config.vocab_size, config.hidden_width)
  if embedding is None or embedding.shape != expected:
    found = "none" if embedding is None else f"shape {embedding.shape}"
    raise ValueError(
      f"head {config.head!r} reads the language model's embedding, {found}; "
      f"expected shape {expected}"
    )


class GammaLengthPredictor(nn.Module):
  """Shape and rate of a Gamma over the encoded remaining length.

  Attributes:
    config: sizes.
  """

  config: LengthPredictorConfig

  @nn.compact
  def __call__(
    self,
    hidden_stack: Float[Array, "B _ _"],
    embedding: Float[Array, "_ _"] | None = None,
    candidates: Int[Array, "B C"] | None = None,
  ) -> tuple[Float[Array, "B C"], Float[Array, "B C"]]:
    """Reads hidden states.

    Args:
      hidden_stack: of all layers at each position (`Transformer.stacked`).
      embedding: the language model's; heads other than "full" need it.
      candidates: token ids; the whole vocabulary if None.

    Returns:
      alpha f32[B, C] and rate f32[B, C], both positive.

    Raises:
      ValueError: if the hidden states, or the embedding, are of another model.
    """
    _check(self.config, hidden_stack, embedding)
    features = _Encoder(self.config)(hidden_stack.astype(jnp.float32))
    raw = _CandidateHead(self.config, 2)(features, embedding, candidates)
    shape, rate = jnp.moveaxis(_GAIN * jax.nn.softplus(raw), -1, 0)
    return self.config.min_alpha + shape, self.config.min_rate + rate


class BinLengthPredictor(nn.Module):
  """A discrete law of the remaining length, over `config.bins` bins.

  Attributes:
    config: sizes.
  """

  config: LengthPredictorConfig

  @nn.compact
  def __call__(
    self,
    hidden_stack: Float[Array, "B _ _"],
    embedding: Float[Array, "_ _"] | None = None,
    candidates: Int[Array, "B C"] | None = None,
  ) -> Float[Array, "B C bins"]:
    """Log-probability of each bin, f32[B, C, bins].

    Args and errors as `GammaLengthPredictor` has them.
    """
    _check(self.config, hidden_stack, embedding)
    features = _Encoder(self.config)(hidden_stack.astype(jnp.float32))
    head = _CandidateHead(self.config, self.config.bins)
    return jax.nn.log_softmax(head(features, embedding, candidates), axis=-1)


def module(
  config: LengthPredictorConfig,
) -> GammaLengthPredictor | BinLengthPredictor:
  """The predictor of a config: discrete if it has bins, else a Gamma."""
  config.validate()
  if config.bins:
    return BinLengthPredictor(config)
  return GammaLengthPredictor(config)


def init(key: jax.Array, config: LengthPredictorConfig) -> dict[str, Any]:
  """Fresh parameters of `module(config)`."""
  stack = jnp.zeros((1, config.hidden_states, config.hidden_width))
  embedding = jnp.zeros((config.vocab_size, config.hidden_width))
  return module(config).init(key, stack, embedding)["params"]
