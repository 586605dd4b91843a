# SPDX-License-Identifier: Apache-2.0
"""A reward head on a transformer's trunk: how right is each prefix."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.models import attention_backend, key_values, layers, transformer
from jaxttc.models import config as config_lib

_NO_CONTEXT = key_values.Context()

_LEAST_LOGPROB = -16.0  # surprise has an end
_COLUMNS = 16  # of vocabulary logits at once, when text is compared


class Judgement(NamedTuple):
  """What a reward model says of every prefix that ends in its input.

  Attributes:
    logits: f32[G, R, T], reward logits.
    hidden: [G, R, T, D] of the trunk, what it expects next; D is 0 in a model
      that does not compare text with what was expected.
  """

  logits: jax.Array
  hidden: jax.Array


class ProcessRewardModel(nn.Module):
  """A trunk with a scalar head: how right is the prefix ending here.

  The reward of a prefix is `sigmoid(logit)` at its last token (Lightman et
  al. 2023, "Let's verify step by step").

  The last `config.reading_layers` layers lie above the trunk and read, beside
  its hidden states, how probable the trunk's own language head found each
  token. A wrong number is one that was not expected, so a trunk that computes
  well need not learn anew what an error looks like; the layers above only
  collect what it says, and learn which surprises matter. Attributes are those
  of `Transformer`.
  """

  config: config_lib.TransformerConfig
  dtype: jnp.dtype = jnp.float32
  backend: str = attention_backend.AUTO
  remat: bool = False

  def setup(self):
    """Creates trunk, reading layers and head."""
    cfg, reading = self.config, self.config.reading_layers
    self.trunk = transformer.Transformer(
      cfg.trunk(), self.dtype, self.backend, self.remat
    )
    self.reward = nn.Dense(1, dtype=jnp.float32)
    if cfg.reward_width:
      self.reward_hidden = nn.Dense(cfg.reward_width, dtype=self.dtype)
    if reading:
      self.surprise = nn.Dense(cfg.width, use_bias=False, dtype=self.dtype)
      layers.add(self, cfg.layers - reading, reading)

  def __call__(
    self,
    tokens: Int[Array, "G R T"],
    positions: Int[Array, "G R T"],
    own_mask: Bool[Array, "G R T S"],
    context: key_values.Context = _NO_CONTEXT,
    before: Float[Array, "G R D"] | None = None,
  ) -> tuple[Judgement, tuple[key_values.KeyValues, ...]]:
    """Judges the prefixes that end in `tokens`.

    Args:
      tokens: token ids.
      positions: as in `Transformer`.
      own_mask: as in `Transformer`.
      context: as in `Transformer`.
      before: `Judgement.hidden` of the token before the first one; None if
        all sequences begin in this call.

    Returns:
      The judgement, and private keys and values as `Transformer` gives them.
    """
    hidden, own = self.trunk(tokens, positions, own_mask, context)
    if not self.config.reading_layers:
      return Judgement(self._reward(hidden), hidden[..., :0]), own
    if before is None:
      before = jnp.zeros_like(hidden[:, :, 0])
    expected = jnp.concatenate([before[:, :, None], hidden[:, :, :-1]], axis=2)
    found = self._found(expected, tokens)
    # Nothing was expected of a text's first token.
    found = jnp.where(positions[..., None] > 0, found, 0.0).astype(self.dtype)
    x, read = layers.run(
      self,
      len(own),
      hidden + self.surprise(found),
      positions,
      own_mask,
      context,
    )
    return Judgement(self._reward(self.final_norm(x)), hidden), own + read

  def everything(self, tokens, positions, own_mask) -> Float[Array, "G R T"]:
    """Reward logits of whole sequences; also initialises all parameters."""
    return self(tokens, positions, own_mask)[0].logits

  def _reward(self, hidden):
    """Reward logits [..] of the last hidden states [.., D]."""
    if self.config.reward_width:
      hidden = jax.nn.relu(self.reward_hidden(hidden))
    return self.reward(hidden)[..., 0]

  def _found(self, expected, tokens):
    """How tokens compare with what was expected: f32[G, R, T, READ]."""

    def compare(pair):
      hidden, token = pair
      logprobs = jax.nn.log_softmax(self.trunk.logits(hidden))
      own = jnp.take_along_axis(logprobs, token[..., None], axis=-1)[..., 0]
      entropy = -(jnp.exp(logprobs) * logprobs).sum(-1)
      own = jnp.maximum(own, _LEAST_LOGPROB)
      short = jnp.minimum(logprobs.max(-1) - own, -_LEAST_LOGPROB)
      return jnp.stack([own / 4, jnp.exp(own), short / 4, entropy], axis=-1)

    # The vocabulary's logits exist for a few columns at a time.
    pairs = (expected.swapaxes(0, 2), tokens.swapaxes(0, 2))
    if tokens.shape[2] <= _COLUMNS:
      found = compare(pairs)
    else:
      found = jax.lax.map(compare, pairs, batch_size=_COLUMNS)
    return found.swapaxes(0, 2)
