# SPDX-License-Identifier: Apache-2.0
"""NoWait: a thought without the words that make a model think again.

Source: Wang et al. 2025, "Wait, we don't need to wait!" (NoWait): tokens that
spell "wait", "hmm", "alternatively" and the like are never drawn inside the
thinking span. It keeps no budget by itself. Chain it before the sampler's
filters: behind them, a greedy row would have nothing else left.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.inference import controllers, guidance

WORDS = (
  *("wait", "alternatively", "hmm", "but", "however", "alternative", "another"),
  *("check", "double-check", "oh", "maybe", "verify", "other", "again", "ah"),
)
"""The words, in lower case."""

_AROUND = " \t\r\n.,:;!?…-\u2014'\"()*"  # what may stand around one in a token


def reflection_tokens(
  tokenizer: guidance.Tokenizer, words: Sequence[str] = WORDS
) -> tuple[int, ...]:
  """Ids of the tokens that spell one of some words, in whatever case.

  A token is one of them if nothing but spaces and punctuation is beside the
  word: "Wait", " wait" and "Wait," are, "Ohio" is not.

  Raises:
    ValueError: if there is none.
  """
  wanted = {word.lower() for word in words}
  found = tuple(
    token
    for token in range(tokenizer.vocab_size)
    if tokenizer.decode([token]).strip(_AROUND).lower() in wanted
  )
  if not found:
    raise ValueError(
      f"no token of the vocabulary spells one of {', '.join(sorted(wanted))}"
    )
  return found


def suppress(tokens: Sequence[int], *, end: int) -> controllers.Controller:
  """Takes tokens out of the distribution until a row closes its span.

  Rows begin inside their span. A row that could draw nothing else is let be.

  Args:
    tokens: ids, not the closing one among them.
    end: the closing token.

  Raises:
    ValueError: if there are no tokens, or the closing one is among them.
  """
  banned = np.asarray(sorted(set(tokens)), np.int32)
  if not banned.size or end in banned:
    raise ValueError(
      f"tokens are {list(tokens)[:5]}; expected some, and not the closing "
      f"token {end}"
    )

  def init(
    batch: int, prompt: Int[Array, "B T"] | None = None
  ) -> Bool[Array, " B"]:
    del prompt
    return jnp.ones(batch, bool)

  def apply(
    thinking: Bool[Array, " B"],
    logits: Float[Array, "B V"],
    context: controllers.Context | None = None,
  ) -> Float[Array, "B V"]:
    del context
    left = logits.at[:, jnp.asarray(banned)].set(-jnp.inf)
    some = ~jnp.isneginf(left.max(axis=-1))
    return jnp.where((thinking & some)[:, None], left, logits)

  def commit(
    thinking: Bool[Array, " B"], token: Array, active: Array
  ) -> tuple[Array, Bool[Array, " B"]]:
    return token, thinking & ~(active & (token == end))

  return controllers.Controller(init, apply, commit)
