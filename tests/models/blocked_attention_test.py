# SPDX-License-Identifier: Apache-2.0
"""Tests of attention in blocks, against attention in one piece."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import blocked_attention, key_values


def _whole(q, k, v, mask):
  scores = jnp.einsum("grtkqe,grske->grktqs", q, k).astype(jnp.float32)
  scores = jnp.where(mask[:, :, None, :, None], scores, -jnp.inf)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  return jnp.einsum("grktqs,grske->grtkqe", weights, v)


def _inputs(tokens, dtype=jnp.float32, queries=2):
  rng = np.random.default_rng(tokens)
  shape = (2, 1, tokens, 3)
  draw = lambda *more: jnp.asarray(  # noqa: E731
    rng.normal(size=(*shape, *more)), dtype
  )
  segments = np.sort(rng.integers(0, 3, (2, tokens)), axis=1)
  mask = key_values.causal_mask(jnp.asarray(segments, jnp.int32))
  return draw(queries, 4), draw(4), draw(4), mask, draw(queries, 4)


@pytest.fixture(autouse=True, params=[1, 2], ids=["a_row", "all_rows"])
def devices(request, monkeypatch):
  """Rows one by one, as on one device, and together, as on several."""
  monkeypatch.setattr(jax, "device_count", lambda: request.param)


def _results(attend, q, k, v, mask, d_out):
  @jax.jit
  def run(q, k, v, d_out):
    out, back = jax.vjp(lambda q, k, v: attend(q, k, v, mask), q, k, v)
    return out, *back(d_out)

  return run(q, k, v, d_out)


@pytest.mark.parametrize("tokens", [1, 4, 5, 13])
@pytest.mark.parametrize("queries", [1, 2])
def test_values_and_gradients_are_those_of_one_piece(
  tokens, queries, monkeypatch
):
  monkeypatch.setattr(blocked_attention, "_BLOCK", 4)
  inputs = _inputs(tokens, queries=queries)
  ours = _results(blocked_attention.attend, *inputs)
  for a, b in zip(ours, _results(_whole, *inputs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_half_precision_comes_back_and_is_near(monkeypatch):
  monkeypatch.setattr(blocked_attention, "_BLOCK", 4)
  inputs = _inputs(9, jnp.bfloat16)
  ours = _results(blocked_attention.attend, *inputs)
  exact = _results(
    _whole, *(x.astype(jnp.float32) if x.dtype != bool else x for x in inputs)
  )
  for a, b in zip(ours, exact, strict=True):
    assert a.dtype == jnp.bfloat16
    np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0.1, atol=0.1)


def test_scores_that_overflow_an_exponential_stay_finite():
  q, k, v, mask, d_out = _inputs(7)
  for x in _results(blocked_attention.attend, 100 * q, k, v, mask, d_out):
    assert np.isfinite(x).all()
