# SPDX-License-Identifier: Apache-2.0
"""How probable a model finds each token of a text, and what it expected.

These are the model's own log-probabilities, before any controller bends them:
one forward pass over the text, apart from the loop that samples, which need
not carry what few ask for.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import generation


class TokenScore(NamedTuple):
  """One token as the model saw it.

  Attributes:
    token: its id.
    logprob: its log-probability after what precedes it, in nats.
    top: the likeliest tokens there and their log-probabilities, best first.
  """

  token: int
  logprob: float
  top: tuple[tuple[int, float], ...]


class TokenScorer:
  """Scores tokens with a language model; one program a power of two of length.

  Attributes:
    policy: the model.
    top: alternatives that a score holds.
  """

  def __init__(self, policy: bundle_lib.Bundle, top: int = 20):
    """A scorer.

    Args:
      policy: the model.
      top: alternatives to report, at least 1 and at most the vocabulary.

    Raises:
      ValueError: if the bundle is no language model, or `top` is out of range.
    """
    bundle_lib.check_pair(policy, None)
    if not 1 <= top <= policy.config.vocab_size:
      raise ValueError(
        f"top is {top}; expected 1..{policy.config.vocab_size}, the vocabulary"
      )
    self.policy, self.top = policy, top
    self._score = jax.jit(self._traced_score)

  def score(
    self, prefix: Sequence[int], tokens: Sequence[int]
  ) -> list[TokenScore]:
    """Scores `tokens` as the continuation of `prefix`.

    Raises:
      ValueError: if `prefix` is empty: the first token follows nothing.
    """
    if not prefix:
      raise ValueError("the prefix is empty; expected at least one token")
    if not tokens:
      return []
    text = [*prefix, *tokens]
    ids = np.zeros((generation.bucket(len(text)),), np.int32)
    ids[: len(text)] = text
    logprob, values, best = jax.device_get(self._score(self.policy.params, ids))
    # Position i of the pass speaks about token i + 1.
    return [
      TokenScore(
        token=text[i + 1],
        logprob=float(logprob[i]),
        top=tuple(zip(best[i].tolist(), values[i].tolist(), strict=True)),
      )
      for i in range(len(prefix) - 1, len(text) - 1)
    ]

  def _traced_score(self, params, ids):
    index = jnp.arange(ids.shape[0])
    causal = index[:, None] >= index[None, :]
    logits = self.policy.model.apply(
      {"params": params},
      ids[None, None],
      index[None, None],
      causal[None, None],
      method="everything",
    )[0, 0]
    logprobs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    following = jnp.roll(ids, -1)[:, None]
    logprob = jnp.take_along_axis(logprobs, following, axis=1)[:, 0]
    return logprob, *jax.lax.top_k(logprobs, self.top)
