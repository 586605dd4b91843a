# SPDX-License-Identifier: Apache-2.0
"""A decoder-only transformer: training, prefill, decoding and scoring in one.

The shape is Llama's: RMSNorm before each sublayer, rotary positions, grouped-
query attention, gated SiLU MLP, no biases (Touvron et al. 2023; Ainslie et
al. 2023). Other families differ from it by fields of the config. One forward
pass serves training, prefill, decoding and scoring.

Sequences come in `G` groups of `R` rows. The rows of a group are branches of
one search tree. They attend to

*  the group's *arena*, keys and values that all its rows may share, under a
   mask that says which slots hold ancestors of the row (tree attention: the
   prompt and every shared step are stored, and read, once), and
*  private keys: the tokens of the call itself, or a *scratch* of `S` columns
   into which a decoding loop writes one column a call.

Scores over the two parts are joined under one softmax, so the result is that
of plain causal attention over the row's own path. Keys carry their rotary
positions, so the order of slots and columns does not matter.

Shape letters: G groups, R rows, T tokens a row, C arena slots, S columns, D
width, K key-value heads, Q query heads a key-value head, E head size, F MLP.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.models import (
  attention,
  attention_backend,
  embedding,
  key_values,
  layers,
)
from jaxttc.models import config as config_lib

_NO_CONTEXT = key_values.Context()


class Transformer(nn.Module):
  """Tokens to final hidden states, and hidden states to logits.

  Attributes:
    config: sizes.
    dtype: to compute in; parameters are of their own.
    backend: one of `attention_backend.NAMES`.
    remat: whether a gradient computes each layer anew, from its input, in place
      of keeping what is inside; saves memory, costs one more forward pass.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  backend: str = attention_backend.AUTO
  remat: bool = False

  def setup(self):
    """Creates embedding, layers and head."""
    cfg = self.config
    apart = self.backend == attention_backend.BLOCKED
    self.embed = embedding.Embedding(
      cfg.vocab_size, cfg.width, self.dtype, apart
    )
    layers.add(self, 0, cfg.layers)
    if not cfg.tie_embeddings:
      self.head = embedding.Head(cfg.vocab_size, self.dtype, apart)

  def __call__(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: key_values.Context = _NO_CONTEXT,
  ) -> tuple[Float[Array, "G R T D"], tuple[key_values.KeyValues, ...]]:
    """Runs the trunk.

    Args:
      tokens: token ids.
      positions: each token's position in its own sequence.
      own_mask: which private keys each token sees: [.., T, T] without a
        scratch (causal, segment and padding masks live here), [.., 1, S]
        with one.
      context: arena and scratch; empty for plain training or prefill.

    Returns:
      Hidden states after the final norm, and per layer the private keys and
      values: the call's own, or the updated scratch.
    """
    x, own = layers.run(
      self, 0, self._embedded(tokens), positions, own_mask, context
    )
    return self.final_norm(x), own

  def stacked(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: key_values.Context = _NO_CONTEXT,
  ) -> tuple[
    Float[Array, "G R T D"],
    tuple[key_values.KeyValues, ...],
    Float[Array, "G R T N D"],
  ]:
    """As a plain call, and the hidden states of all layers.

    Returns:
      What a call returns, and the N = `config.layers` + 1 hidden states of each
      token: its embedding, and what comes out of each layer, of the last one
      after the final norm.
    """
    x = self._embedded(tokens)
    seen = [x]
    x, own = layers.run(self, 0, x, positions, own_mask, context, seen)
    hidden = self.final_norm(x)
    return hidden, own, jnp.stack([*seen[:-1], hidden], axis=-2)

  def _embedded(self, tokens):
    x = self.embed(tokens)
    if self.config.embed_scale != 1.0:
      x = x * self.config.embed_scale
    return x

  def logits(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Next-token logits of hidden states, in float32."""
    if self.config.tie_embeddings:
      logits = self.embed.attend(hidden)
    else:
      logits = self.head(hidden)
    return attention.capped(logits.astype(jnp.float32), self.config.logit_cap)

  def everything(self, tokens, positions, own_mask) -> Float[Array, "G R T V"]:
    """Logits of whole sequences; also what initialises all parameters."""
    hidden, _ = self(tokens, positions, own_mask)
    return self.logits(hidden)


def init(key: jax.Array, model: nn.Module) -> dict[str, dict]:
  """Fresh parameters of a `Transformer` or `ProcessRewardModel`."""
  tokens = jnp.zeros((1, 1, 1), jnp.int32)
  mask = jnp.ones((1, 1, 1, 1), bool)
  return model.init(key, tokens, tokens, mask, method="everything")["params"]


def forward(
  model: nn.Module,
  params: dict,
  tokens: Int[Array, "B T"],
  segments: Int[Array, "B T"],
  positions: Int[Array, "B T"],
):
  """`everything` of packed sequences: what training objectives call.

  Returns:
    For a `Transformer`, logits f32[B, T, V]; for a `ProcessRewardModel`,
    reward logits f32[B, T].
  """
  out = model.apply(
    {"params": params},
    tokens[:, None],
    positions[:, None],
    key_values.causal_mask(segments),
    method="everything",
  )
  return out[:, 0]


def hidden_stack(
  model: Transformer,
  params: dict,
  tokens: Int[Array, "B T"],
  segments: Int[Array, "B T"],
  positions: Int[Array, "B T"],
) -> Float[Array, "B T N D"]:
  """Hidden states of all layers (`Transformer.stacked`) of packed sequences."""
  out = model.apply(
    {"params": params},
    tokens[:, None],
    positions[:, None],
    key_values.causal_mask(segments),
    method="stacked",
  )
  return out[2][:, 0]


# Which axes of a matrix parameter are summed over, and which come out.
_MATRIX_AXES = {
  "qkv": ((0,), (1, 2, 3)),
  "gate_up": ((0,), (1, 2)),
  "out": ((0, 1), (2,)),
  "down": ((0,), (1,)),
}


def matrix_axes(params: dict) -> dict:
  """(input axes, output axes) of each matrix parameter; None for the rest.

  The blocks' matrices are stored with their head axes apart. Whoever needs
  them as matrices (Muon, low-rank adapters, quantisation) asks here.
  Embeddings, heads and norm scales are not matrices in this sense.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, _: _MATRIX_AXES.get(path[-1].key), params
  )
