# SPDX-License-Identifier: Apache-2.0
"""The verifier of outcomes: features by hand, fits against oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxttc.inference import rollouts
from jaxttc.models import transformer
from jaxttc.testing import tiny_models
from jaxttc.training import outcome_verifier


def labelled(count=60, width=4, seed=0):
  rng = np.random.default_rng(seed)
  found = rng.normal(size=(count, width)).astype(np.float32) * 3 + 1
  logit = found @ rng.normal(size=width) * 0.5 - 0.4
  right = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(np.float32)
  return found, right


def resampled(found, right, key):
  """What the only member is fitted to, and its standardised features."""
  drawn = jax.random.randint(
    jax.random.split(key, 1)[0], (len(found),), 0, len(found)
  )
  x = (found - found.mean(0)) / found.std(0)
  x = np.concatenate([x, np.ones((len(x), 1))], axis=1)[np.asarray(drawn)]
  return x.astype(np.float64), right[np.asarray(drawn)].astype(np.float64)


@pytest.mark.parametrize("kind", outcome_verifier.LOSSES)
def test_a_fit_is_the_minimum_of_its_penalised_loss(kind):
  found, right = labelled()
  key = jax.random.key(3)
  made = outcome_verifier.fit(
    key, jnp.asarray(found), jnp.asarray(right), ridge=2.0, members=1, kind=kind
  )
  x, y = resampled(found, right, key)
  penalty = np.array([2.0] * found.shape[1] + [1e-3])

  def loss(weights):
    said = x @ weights
    if kind == "squares":
      each = (said - y) ** 2 / 2
    else:
      each = np.logaddexp(0, said) - y * said
    return each.sum() + (penalty * weights**2).sum() / 2

  best = scipy.optimize.minimize(loss, np.zeros(x.shape[1]), tol=1e-10).x
  np.testing.assert_allclose(made.weights[0], best, atol=2e-3)


def test_members_disagree_and_pessimism_takes_that_off():
  found, right = map(jnp.asarray, labelled())
  made = outcome_verifier.fit(jax.random.key(0), found, right, members=5)
  x = (found - found.mean(0)[None]) / found.std(0)[None]
  x = jnp.concatenate([x, jnp.ones((len(x), 1))], axis=1)
  each = jax.nn.sigmoid(made.weights @ x.T)
  assert (each.std(0) > 0).all()
  for pessimism in (0.0, 1.5):
    wanted = jnp.clip(each.mean(0) - pessimism * each.std(0), 0, 1)
    np.testing.assert_allclose(
      outcome_verifier.chances(made, found, pessimism), wanted, atol=1e-5
    )
  told = outcome_verifier.calibration(each.mean(0), right)
  assert told.auc > 0.75 and told.brier < 0.2


def test_features_that_do_not_vary_do_no_harm():
  found, right = labelled(width=2)
  found[:, 1] = 7.0
  made = outcome_verifier.fit(
    jax.random.key(0), jnp.asarray(found), jnp.asarray(right)
  )
  assert jnp.isfinite(made.weights).all()
  np.testing.assert_allclose(made.weights[:, 1], 0, atol=1e-5)


def test_the_summary_reads_the_tokens_of_the_solution_only():
  mask = jnp.array([[False, True, True, True, True, False]])
  own = jnp.array([[-9.0, -1.0, -4.0, -0.5, -2.0, -9.0]])
  short = jnp.array([[9.0, 0.5, 3.0, 0.0, 1.0, 9.0]])
  entropy = jnp.array([[9.0, 0.1, 0.2, 0.3, 0.4, 9.0]])
  found = outcome_verifier.summary(own, short, entropy, mask)
  assert found.shape == (1, len(outcome_verifier.FEATURES))
  wanted = [-4.0, -2.0, -7.5, 0.4, 1.0, 3.0, -6.5, 0.9, 4.0]
  np.testing.assert_allclose(found[0], wanted, rtol=1e-6)


def test_features_are_those_of_the_model_that_sampled():
  """Sums of log-probabilities agree with the sampler's own."""
  policy, _ = tiny_models.tiny_bundles()
  prompts = rollouts.Prompts(
    jnp.array([[1, 5, 9, 7], [1, 6, 8, 0]], jnp.int32), jnp.array([4, 3])
  )
  task = jnp.array([0, 1, 1])
  drawn = rollouts.sample(
    policy.model,
    policy.params,
    prompts,
    task,
    rollouts.row_keys(jax.random.key(0), task, jnp.arange(3)),
    policy.stop_rule,
    columns=6,
  )
  rows = rollouts.sequences(prompts, drawn)
  model = transformer.Transformer(policy.config)
  found = outcome_verifier.features(model, policy.params, rows)
  np.testing.assert_allclose(found[:, 2], drawn.logprobs.sum(1), rtol=1e-3)
  np.testing.assert_allclose(found[:, 0], drawn.logprobs.min(1), rtol=1e-3)
  np.testing.assert_array_equal(found[:, 8], drawn.length)


def test_calibration_by_brute_force():
  rng = np.random.default_rng(1)
  chance = rng.integers(0, 6, 40).astype(np.float32) / 5
  right = rng.integers(0, 2, 40).astype(np.float32)
  told = outcome_verifier.calibration(jnp.asarray(chance), jnp.asarray(right))
  pairs = [
    (a > b) + (a == b) / 2
    for a in chance[right == 1]
    for b in chance[right == 0]
  ]
  assert float(told.auc) == pytest.approx(np.mean(pairs), rel=1e-5)
  assert float(told.brier) == pytest.approx(((chance - right) ** 2).mean())
  bins = np.minimum((10 * chance).astype(int), 9)
  error = sum(abs((chance - right)[bins == b].sum()) for b in range(10)) / len(
    chance
  )
  assert float(told.error) == pytest.approx(error, rel=1e-5)
  alike = outcome_verifier.calibration(jnp.asarray(chance), jnp.ones(40))
  assert float(alike.auc) == 0.5


@pytest.mark.parametrize(
  ("options", "said"),
  [({"kind": "hinge"}, "'hinge' is not one of"), ({"members": 0}, "members=0")],
)
def test_fits_that_cannot_be_are_refused(options, said):
  found, right = map(jnp.asarray, labelled())
  with pytest.raises(ValueError, match=said):
    outcome_verifier.fit(jax.random.key(0), found, right, **options)
