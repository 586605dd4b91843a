# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import controls
from jaxttc.models import transformer
from jaxttc.testing import tiny_models


def rewards(bundle):
  tokens = jax.random.randint(jax.random.key(3), (4, 12), 272, 372)
  ones = jnp.ones_like(tokens)
  positions = jnp.broadcast_to(jnp.arange(12), tokens.shape)
  logits = transformer.forward(
    bundle.model, bundle.params, tokens, ones, positions
  )
  return np.asarray(jax.nn.sigmoid(logits))


@pytest.fixture(scope="module")
def verifier():
  return tiny_models.tiny_bundles()[1]


def test_constant_is_one_half_everywhere(verifier):
  np.testing.assert_array_equal(
    rewards(controls.control(verifier, "constant")), 0.5
  )


def test_random_spreads_about_one_half(verifier):
  found = rewards(controls.control(verifier, "random"))
  assert found.std() > 0.05
  assert 0.05 < found.mean() < 0.95
  again = rewards(controls.control(verifier, "random", seed=1))
  assert not np.allclose(found, again)


def test_weak_resembles_the_model_but_is_not_it(verifier):
  trained, weak = rewards(verifier), rewards(controls.control(verifier, "weak"))
  assert not np.allclose(trained, weak)
  norm = lambda params: sum(  # noqa: E731
    float(jnp.sum(x**2)) for x in jax.tree.leaves(params)
  )
  changed = controls.control(verifier, "weak").params
  difference = jax.tree.map(jnp.subtract, changed, verifier.params)
  assert 0 < norm(difference) < 0.2 * norm(verifier.params)


def test_the_model_itself_stays_as_it_is(verifier):
  before = rewards(verifier)
  for kind in controls.CONTROLS:
    found = controls.control(verifier, kind)
    assert found.kind == "process_reward"
    assert found.tokenizer is verifier.tokenizer
    assert found.recipe == {"control": kind}
    assert jax.tree.structure(found.params) == jax.tree.structure(
      verifier.params
    )
  np.testing.assert_array_equal(rewards(verifier), before)


def test_unknown_control_and_wrong_model_are_refused(verifier):
  with pytest.raises(ValueError, match="Did you mean 'random'"):
    controls.control(verifier, "ramdom")
  with pytest.raises(ValueError, match="got a language_model"):
    controls.control(tiny_models.tiny_bundles()[0], "weak")
