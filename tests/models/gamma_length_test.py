# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import gamma_length

_CONFIG = gamma_length.LengthPredictorConfig(
  vocab_size=11, hidden_width=6, hidden_states=3, width=8, heads=2, rank=4
)
_STACK = jax.random.normal(jax.random.key(1), (5, 3, 6))
_EMBEDDING = jax.random.normal(jax.random.key(2), (11, 6))


def _config(**changes):
  return dataclasses.replace(_CONFIG, **changes)


@pytest.mark.parametrize("head", gamma_length.HEADS)
@pytest.mark.parametrize("layers", [0, 1])
def test_candidates_are_columns_of_the_whole(head, layers):
  config = _config(head=head, layers=layers)
  module = gamma_length.module(config)
  params = gamma_length.init(jax.random.key(0), config)
  call = lambda *args: module.apply({"params": params}, *args)  # noqa: E731
  alpha, rate = call(_STACK, _EMBEDDING)
  assert alpha.shape == rate.shape == (5, 11)
  assert (alpha > 0).all() and (rate > 0).all()
  candidates = jnp.array([[3, 0], [10, 3], [1, 2], [5, 5], [9, 8]])
  some = call(_STACK, _EMBEDDING, candidates)
  for whole, part in zip((alpha, rate), some, strict=True):
    expected = np.take_along_axis(np.asarray(whole), candidates, axis=1)
    np.testing.assert_allclose(part, expected, rtol=1e-5)


def test_shared_heads_know_a_token_by_its_embedding_alone():
  config = _config(head="embedding")
  module = gamma_length.module(config)
  params = gamma_length.init(jax.random.key(0), config)
  turned = jnp.roll(_EMBEDDING, 1, axis=0)
  before, after = (
    module.apply({"params": params}, _STACK, e)[0] for e in (_EMBEDDING, turned)
  )
  np.testing.assert_allclose(jnp.roll(before, 1, axis=1), after, rtol=1e-5)


def test_bins_hold_all_mass():
  config = _config(bins=7)
  params = gamma_length.init(jax.random.key(0), config)
  out = gamma_length.module(config).apply({"params": params}, _STACK)
  assert out.shape == (5, 11, 7)
  np.testing.assert_allclose(jnp.exp(out).sum(-1), 1.0, rtol=1e-5)


def test_the_linear_variant_reads_the_last_state_only():
  config = _config(layers=0)
  params = gamma_length.init(jax.random.key(0), config)
  module = gamma_length.module(config)
  other = _STACK.at[:, :-1].add(1.0)
  np.testing.assert_array_equal(
    module.apply({"params": params}, _STACK)[0],
    module.apply({"params": params}, other)[0],
  )


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"head": "wide"}, "predictor.head is 'wide'"),
    ({"width": 9}, "predictor.width=9 must be a multiple"),
    ({"vocab_size": 0}, "predictor.vocab_size must be at least 1"),
    ({"layers": -1}, "predictor.layers must not be negative"),
    ({"min_rate": 0.0}, "predictor.min_rate must be positive"),
  ],
)
def test_sizes_that_cannot_be(changes, message):
  with pytest.raises(ValueError, match=message):
    gamma_length.module(_config(**changes))


def test_another_models_states_are_refused():
  params = gamma_length.init(jax.random.key(0), _CONFIG)
  module = gamma_length.module(_CONFIG)
  with pytest.raises(ValueError, match="expected \\[B, 3, 6\\]"):
    module.apply({"params": params}, _STACK[:, :2])
  shared = _config(head="lowrank")
  params = gamma_length.init(jax.random.key(0), shared)
  with pytest.raises(ValueError, match="embedding, none; expected shape"):
    gamma_length.module(shared).apply({"params": params}, _STACK)
