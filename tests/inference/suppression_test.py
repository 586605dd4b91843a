# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import suppression
from jaxttc.tasks import tokenizer


def test_tokens_are_found_in_whatever_case():
  words = tokenizer.WordTokenizer()
  found = suppression.reflection_tokens(words)
  texts = {words.decode([token]) for token in found}
  assert {"Wait", "Check", " check", "Verify", " verify"} <= texts
  assert not texts & {" checks", "\n", "So", "Step", ""}
  assert suppression.reflection_tokens(words, ["STEP"]) == (
    *sorted([words.id_of("Step"), words.id_of(" step")]),
  )
  with pytest.raises(ValueError, match="no token .* spells one of zounds"):
    suppression.reflection_tokens(words, ["zounds"])


def test_words_are_out_until_the_span_closes():
  kept = suppression.suppress([1, 3], end=2)
  state = kept.init(2)
  logits = jnp.array([[0.0, 5.0, 1.0, 4.0], [0.0, 1.0, 2.0, 3.0]])
  bent = kept.apply(state, logits)
  np.testing.assert_array_equal(
    bent, [[0.0, -np.inf, 1.0, -np.inf], [0.0, -np.inf, 2.0, -np.inf]]
  )
  token, state = kept.commit(state, jnp.array([2, 2]), jnp.array([True, False]))
  np.testing.assert_array_equal(token, [2, 2])
  np.testing.assert_array_equal(state, [False, True])
  bent = kept.apply(state, logits)
  np.testing.assert_array_equal(bent[0], logits[0])
  assert jnp.isneginf(bent[1, 1])
  only = jnp.full((2, 4), -jnp.inf).at[:, 1].set(0.0)
  np.testing.assert_array_equal(kept.apply(state, only), only)


def test_tokens_that_cannot_be():
  for tokens in ([], [1, 2]):
    with pytest.raises(ValueError, match="not the closing token 2"):
      suppression.suppress(tokens, end=2)
