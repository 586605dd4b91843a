# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxttc.predictors import remaining_length as rl


def test_targets_count_the_closing_token():
  tokens = np.array([[1, 3, 8, 8, 4, 9, 2], [1, 1, 3, 8, 4, 2, 0]])
  left, inside = rl.length_targets(
    tokens, np.array([2, 3]), np.array([4, 4]), end_id=4
  )
  np.testing.assert_array_equal(left[0], [0, 0, 3, 2, 1, 0, 0])
  np.testing.assert_array_equal(left[1], [0, 0, 0, 2, 1, 0, 0])
  np.testing.assert_array_equal(inside, left > 0)


@pytest.mark.parametrize(
  ("start", "end", "message"),
  [
    (4, 4, "row 0: think_start 4, think_end 4"),
    (2, 7, "row 0: think_start 2, think_end 7"),
    (2, 5, "row 0: token 9 at think_end 5; expected the closing token 4"),
  ],
)
def test_spans_that_cannot_be(start, end, message):
  tokens = np.array([[1, 3, 8, 8, 4, 9, 2]])
  with pytest.raises(ValueError, match=message):
    rl.length_targets(tokens, np.array([start]), np.array([end]), end_id=4)


@pytest.mark.parametrize("scale", rl.SCALES)
def test_scales_are_inverted(scale):
  lengths = np.arange(1, 5000, 7)
  z = rl.encode_length(lengths, scale)
  np.testing.assert_allclose(rl.decode_length(z, scale), lengths, rtol=1e-5)
  assert (np.diff(z) > 0).all()


def test_an_unknown_scale_is_refused():
  with pytest.raises(ValueError, match="scale is 'cube'; expected one of log"):
    rl.encode_length(3, "cube")


def test_likelihood_is_scipys():
  rng = np.random.default_rng(0)
  alpha, rate = rng.uniform(0.5, 80, 50), rng.uniform(0.5, 40, 50)
  left = rng.integers(1, 300, 50)
  expected = -scipy.stats.gamma.logpdf(np.log1p(left), alpha, scale=1 / rate)
  found = rl.gamma_nll(alpha, rate, left)
  np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-3)


def _log_cdf(alpha, x):
  """log P(alpha, x) in float64, by the series where SciPy underflows."""
  with np.errstate(divide="ignore"):
    plain = np.log(scipy.special.gammainc(alpha, x))
  term = total = np.ones_like(x)
  for k in range(1, 2000):
    term = term * x / (alpha + k)
    total = total + term
  front = alpha * np.log(x) - x - scipy.special.gammaln(alpha + 1)
  return np.where(plain < -600, front + np.log(total), plain)


def test_log_cdf_holds_in_the_far_tail():
  alpha = np.array([1, 1.5, 2, 4, 7.9, 8, 12, 30, 77, 150, 320, 500.0])
  share = np.array([0.001, 0.01, 0.1, 0.3, 0.6, 0.8, 0.9, 1, 1.1, 1.5, 3.0])
  alpha, share = (g.ravel() for g in np.meshgrid(alpha, share))
  x = np.float64(np.float32(alpha * share))
  found = np.asarray(rl.log_gamma_cdf(alpha, x))
  expected = _log_cdf(alpha, x)
  assert expected.min() < -2000  # float32 has no such probability
  near = np.abs(found - expected)
  assert (near < 1e-3 + 2e-6 * np.abs(expected)).all()
  assert near[expected > -60].max() < 1e-3


def test_log_cdf_rises_with_the_budget_and_starts_from_nothing():
  alpha = jnp.array([0.3, 1.0, 5.0, 40.0, 400.0])[:, None]
  x = jnp.linspace(0.0, 900.0, 4001)[None]
  found = np.asarray(rl.log_gamma_cdf(alpha, x))
  assert np.isneginf(found[:, 0]).all()
  assert (np.diff(found[:, 1:]) >= -2e-4).all()
  assert (found <= 0).all() and (found[:, -1] > -1e-4).all()


def test_trust_names_modes_as_modes():
  alpha = jnp.array([50.0, 50.0, 0.9, 8.0])
  rate = jnp.array([20.0, 5.0, 20.0, 20.0])
  # The third is flat, the second too wide, the last has its mode below 0.9.
  np.testing.assert_array_equal(
    rl.TrustMask()(alpha, rate), [True, False, False, False]
  )


def _laws(seed, rows=6, tokens=9):
  a, b, c = jax.random.split(jax.random.key(seed), 3)
  logits = jax.random.normal(a, (rows, tokens))
  alpha = jax.random.uniform(b, (rows, tokens), minval=20, maxval=90)
  rate = jax.random.uniform(c, (rows, tokens), minval=11, maxval=40)
  return logits, alpha, rate


def test_guidance_vanishes_as_the_budget_grows_or_the_strength_is_zero():
  logits, alpha, rate = _laws(0)
  plain = jax.nn.softmax(logits)
  budget = jnp.full(6, 2_000_000)
  bent = rl.guide_logits(logits, alpha, rate, budget, trust=None)
  np.testing.assert_allclose(jax.nn.softmax(bent), plain, atol=1e-5)
  none = rl.guide_logits(
    logits, alpha, rate, jnp.ones(6, jnp.int32), strength=0.0
  )
  np.testing.assert_array_equal(none, logits)


def test_guidance_commutes_with_renaming_the_vocabulary():
  logits, alpha, rate = _laws(1)
  order = np.random.default_rng(0).permutation(9)
  budget = jnp.array([1, 2, 5, 9, 20, 60])
  for top_k in (None, 4):
    bent = rl.guide_logits(logits, alpha, rate, budget, top_k=top_k)
    turned = rl.guide_logits(
      logits[:, order], alpha[:, order], rate[:, order], budget, top_k=top_k
    )
    np.testing.assert_allclose(bent[:, order], turned, rtol=1e-6)


def test_some_token_is_always_left():
  logits, alpha, rate = _laws(2)
  distrusted = rl.guide_logits(logits, alpha, rate / 100, jnp.full(6, 5))
  left = np.isfinite(np.asarray(distrusted))
  np.testing.assert_array_equal(left.sum(1), 1)
  np.testing.assert_array_equal(left.argmax(1), np.argmax(logits, 1))
  hopeless = rl.guide_logits(logits, alpha * 50, rate, jnp.full(6, 1))
  assert np.isfinite(np.asarray(hopeless)).all()


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"strength": -1.0}, "strength is -1.0"),
    ({"remaining": np.zeros(6, int)}, "budget is .*expected integers >= 1"),
    ({"remaining": np.full(6, 2.5)}, "budget is .*expected integers >= 1"),
    ({"alpha": np.full((6, 9), np.nan)}, "alpha of row 0, token 0 is nan"),
    ({"rate": np.zeros((6, 9))}, "rate of row 0, token 0 is 0.0"),
    ({"alpha": np.ones((6, 8))}, "expected one vocabulary"),
    ({"top_k": 0}, "top_k is 0"),
  ],
)
def test_what_cannot_be_is_refused(change, message):
  logits, alpha, rate = _laws(3)
  given = {"alpha": alpha, "rate": rate, "remaining": np.full(6, 5)} | change
  with pytest.raises(ValueError, match=message):
    rl.guide_logits(logits, **given)


def test_bins_grow_and_their_cdf_is_a_sum():
  edges = rl.bin_edges(12, 64)
  assert edges[0] == 1 and edges[-1] == 64 and (np.diff(edges) > 0).all()
  mass = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (3, 2, 12)))
  each = np.exp(
    [-rl.bin_nll(mass, jnp.full((3, 2), r), edges) for r in range(1, 65)]
  )
  np.testing.assert_allclose(each.sum(0), 1.0, rtol=1e-5)
  for budget in (1, 7, 40, 64, 900):
    found = np.exp(rl.log_bin_cdf(mass, jnp.full(3, budget), edges))
    np.testing.assert_allclose(found, each[:budget].sum(0), rtol=1e-4)
  with pytest.raises(ValueError, match="9 bins of lengths to 5"):
    rl.bin_edges(9, 5)


@pytest.mark.parametrize(
  ("alpha", "rate", "message"),
  [
    (-1.0, 2.0, "alpha is -1.0; expected finite and > 0"),
    (2.0, 0.0, "rate is 0.0; expected finite and > 0"),
    (float("nan"), 2.0, "alpha is nan"),
  ],
)
def test_densities_of_laws_that_cannot_be(alpha, rate, message):
  ones = jnp.ones(3)
  with pytest.raises(ValueError, match=message):
    rl.gamma_nll(alpha * ones, rate * ones, jnp.arange(1, 4))
