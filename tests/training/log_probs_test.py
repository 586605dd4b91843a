# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities against NumPy; in chunks as at once; packed as alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.training import log_probs

_CONFIG = config_lib.TransformerConfig(
  vocab_size=19,
  width=16,
  layers=1,
  heads=2,
  kv_heads=1,
  head_dim=8,
  mlp_width=16,
  max_length=32,
)


def test_against_numpy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
  targets = rng.integers(5, size=(2, 3)).astype(np.int32)
  found = log_probs.of_logits(jnp.array(logits), jnp.array(targets), 0.5)
  p = np.exp(2.0 * logits.astype(np.float64))
  p /= p.sum(-1, keepdims=True)
  own = np.take_along_axis(p, targets[..., None], -1)[..., 0]
  np.testing.assert_allclose(found.log_probs, np.log(own), rtol=1e-5)
  np.testing.assert_allclose(found.entropy, -(p * np.log(p)).sum(-1), rtol=1e-5)


def test_excluded_tokens_leave_entropy_and_gradient_finite():
  logits = jnp.array([[[0.0, 0.0, -jnp.inf]]])

  def entropy(logits):
    return log_probs.of_logits(logits, jnp.zeros((1, 1), int)).entropy.sum()

  value, slope = jax.value_and_grad(entropy)(logits)
  assert float(value) == pytest.approx(np.log(2))
  assert np.isfinite(slope[..., :2]).all()


def _rows():
  """Three texts, a row each and packed into one; targets follow."""
  rng = np.random.default_rng(1)
  texts = [rng.integers(1, 19, size=n) for n in (5, 3, 6)]
  rows = np.zeros((4, 3, 6), np.int32)  # tokens, segments, positions, targets
  packed = np.zeros((4, 1, 15), np.int32)
  start = 0
  for i, text in enumerate(texts):
    n = len(text)
    for held, row, at in ((rows, i, 0), (packed, 0, start)):
      held[0, row, at : at + n] = text
      held[1, row, at : at + n] = i + 1 if held is packed else 1
      held[2, row, at : at + n] = np.arange(n)
      held[3, row, at : at + n - 1] = text[1:]
    start += n
  return [*map(jnp.array, rows)], [*map(jnp.array, packed)], [5, 3, 6]


@pytest.fixture(scope="module")
def model():
  made = transformer.Transformer(_CONFIG)
  return made, transformer.init(jax.random.key(0), made)


@pytest.mark.parametrize("chunk", [1, 4, 6])
def test_chunks_change_neither_values_nor_gradients(model, chunk):
  rows, _, _ = _rows()

  def total(params, chunk):
    found = log_probs.of_model(model[0], params, *rows, chunk=chunk)
    return found.log_probs.sum() + 0.3 * (found.entropy**2).sum()

  whole = jax.value_and_grad(total)(model[1], None)
  parts = jax.value_and_grad(total)(model[1], chunk)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    whole,
    parts,
  )


def test_packed_equals_a_row_each(model):
  rows, packed, lengths = _rows()
  alone = log_probs.of_model(model[0], model[1], *rows).log_probs
  found = log_probs.of_model(model[0], model[1], *packed).log_probs[0]
  start = 0
  for i, n in enumerate(lengths):
    np.testing.assert_allclose(
      found[start : start + n - 1], alone[i, : n - 1], rtol=1e-4, atol=1e-5
    )
    start += n


def test_bad_options_are_refused(model):
  rows, _, _ = _rows()
  with pytest.raises(ValueError, match="temperature must be positive"):
    log_probs.of_logits(jnp.zeros((1, 1, 2)), jnp.zeros((1, 1), int), 0.0)
  with pytest.raises(ValueError, match="chunk must be at least 1"):
    log_probs.of_model(model[0], model[1], *rows, chunk=0)
