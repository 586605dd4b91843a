# SPDX-License-Identifier: Apache-2.0
"""What a model holds at the end of some texts: logits and hidden states."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import generation
from jaxttc.models import transformer


def next_token(
  policy: bundle_lib.Bundle, texts: Sequence[Sequence[int]]
) -> tuple[Float[np.ndarray, "B V"], Float[np.ndarray, "B N D"]]:
  """Logits after each text, and the hidden states of all layers there.

  Args:
    policy: the language model.
    texts: token ids.

  Raises:
    ValueError: for an empty text.
  """
  if not texts or min(map(len, texts)) < 1:
    raise ValueError("an empty text; expected at least one token in each")
  width = generation.bucket(max(map(len, texts)))
  ids = np.zeros((len(texts), width), np.int32)
  segments = np.zeros_like(ids)
  for row, text in enumerate(texts):
    ids[row, : len(text)], segments[row, : len(text)] = text, 1
  last = np.array([len(text) - 1 for text in texts])
  logits, hidden = _last_states(policy.model)(
    policy.params, ids, segments, last
  )
  return np.asarray(logits), np.asarray(hidden)


@functools.lru_cache(maxsize=4)
def _last_states(model: transformer.Transformer):
  @jax.jit
  def run(params, ids, segments, last):
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    stack = transformer.hidden_stack(model, params, ids, segments, positions)
    hidden = stack[jnp.arange(len(ids)), last]
    logits = model.apply({"params": params}, hidden[:, -1], method="logits")
    return logits, hidden

  return run
