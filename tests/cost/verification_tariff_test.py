# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import costs, transformer_flops, verification_tariff
from jaxttc.cost import tariff as tariff_lib

_MODEL = tariff_lib.Tariff.local(
  transformer_flops.TransformerShape(
    vocab_size=100,
    width=64,
    layers=4,
    heads=8,
    kv_heads=2,
    head_dim=8,
    mlp_width=160,
  ),
  role="verifier",
)
_LIMIT, _BESIDE = 9, 3
_TARIFF = verification_tariff.VerificationTariff(
  model=_MODEL, samples=2, limit=_LIMIT, beside=_BESIDE
)
_PRICE = jax.jit(_TARIFF.price)


def test_what_is_spent_is_the_reading_and_each_writing():
  found = _TARIFF.spent(10, [4, 1])
  token, position = _MODEL.token.flops, _MODEL.context.flops
  # 9 tokens are prefilled; each verification feeds the tenth, and its own.
  attended = sum(range(1, 10)) + sum(range(10, 14)) + sum(range(10, 11))
  assert found.flops == (9 + 4 + 1) * token + attended * position
  assert (found.verifier_tokens, found.verifier_calls) == (10 + 4 + 1, 2)
  assert _TARIFF.prompt(50) == costs.Cost()


@hypothesis.given(
  st.integers(1, 60),
  st.integers(1, 60),
  st.integers(0, _BESIDE),
  st.lists(st.integers(0, _LIMIT), min_size=2, max_size=2),
)
def test_a_price_bounds_whatever_is_spent(context, tokens, beside, written):
  spent = _TARIFF.spent(context + tokens + beside, written)
  assert spent.fits_within(_TARIFF.price(tokens, context))
  arrays = _PRICE(jnp.int32(tokens), jnp.int32(context))
  assert spent.fits_within(arrays.to_numbers())
  longer = _TARIFF.price(tokens + 1, context)
  assert _TARIFF.price(tokens, context).fits_within(longer)


def test_what_cannot_be():
  with pytest.raises(ValueError, match="samples and limit >= 1"):
    verification_tariff.VerificationTariff(model=_MODEL, samples=0, limit=3)
  assert _TARIFF.total(tokens=0, attended=0) == costs.Cost()
  with pytest.raises(ValueError, match="came without a bill"):
    _TARIFF.total(tokens=3, attended=6, calls=1)
