# SPDX-License-Identifier: Apache-2.0
import dataclasses
import fractions
import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import tariff as tariff_lib

SHAPE = transformer_flops.TransformerShape(
  vocab_size=100,
  width=64,
  layers=4,
  heads=8,
  kv_heads=2,
  head_dim=8,
  mlp_width=160,
)
H100 = hardware_lib.lookup("h100-sxm")
LOCAL = tariff_lib.Tariff.local(SHAPE, H100)
ENDPOINT = tariff_lib.Tariff.per_token(2e-6, 8e-6)
TARIFFS = {
  "local": LOCAL,
  "verifier": tariff_lib.Tariff.local(SHAPE, role="verifier", dtype_bytes=2),
  "endpoint": ENDPOINT,
}
PRICES = {
  name: jax.jit(jax.vmap(tariff.price)) for name, tariff in TARIFFS.items()
}


def one_by_one(tariff, tokens, context):
  """The price of one call, added up token by token in exact arithmetic."""
  exact = lambda c: {  # noqa: E731
    k: fractions.Fraction(v) for k, v in c.as_dict().items()
  }
  call, prefix = exact(tariff.call), exact(tariff.prefix)
  token, position = exact(tariff.token), exact(tariff.context)
  total = {}
  for name in costs.FIELDS:
    total[name] = call[name] + context * prefix[name]
    for j in range(tokens):
      total[name] += token[name] + (context + j + 1) * position[name]
  return total


@pytest.mark.parametrize("name", TARIFFS)
@pytest.mark.parametrize("tokens", [0, 1, 13])
@pytest.mark.parametrize("context", [0, 1, 40])
def test_price_is_the_sum_over_tokens(name, tokens, context):
  price = TARIFFS[name].price(tokens, context)
  for field, value in one_by_one(TARIFFS[name], tokens, context).items():
    got = getattr(price, field)
    if isinstance(got, int):
      assert got == value
    else:
      assert got == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize("name", TARIFFS)
def test_compiled_prices_are_never_too_low(name):
  rng = np.random.default_rng(0)
  tokens, context = rng.integers(0, 4096, (2, 200), dtype=np.int32)
  prices = PRICES[name](tokens, context)
  pairs = zip(tokens.tolist(), context.tolist(), strict=True)
  host = [TARIFFS[name].price(n, c) for n, c in pairs]
  for field in costs.FIELDS:
    got = np.asarray(getattr(prices, field), np.float64)
    want = np.array([float(getattr(price, field)) for price in host])
    if field in costs.COUNTS:
      np.testing.assert_array_equal(got, want)
    else:
      assert (got >= want).all()
      np.testing.assert_allclose(got, want, rtol=2e-6)


def test_local_prices_are_the_closed_forms():
  price = LOCAL.price(30, 100)
  assert price.generated_tokens == 30
  assert price.flops == transformer_flops.prefill_flops(SHAPE, 30, 100)
  alone = transformer_flops.decode_bytes(SHAPE, 1, 100)
  assert LOCAL.price(1, 100).bytes == alone
  assert price.joules == pytest.approx(price.flops * 700 / 67e12)
  floor = hardware_lib.roofline_seconds(
    H100, price.flops, price.bytes, "float32"
  )
  assert price.dollars >= H100.dollars(floor) * (1 - 1e-12)
  assert price.seconds == 0
  free = tariff_lib.Tariff.local(SHAPE).price(30, 100)
  assert (free.flops, free.bytes) == (price.flops, price.bytes)
  assert free.joules == free.dollars == 0


def test_roles_count_their_own_tokens():
  verifier = TARIFFS["verifier"].price(7, 3)
  assert (verifier.verifier_tokens, verifier.verifier_calls) == (7, 1)
  assert verifier.generated_tokens == 0
  prompt = tariff_lib.Tariff.local(SHAPE, role="prompt").price(7, 0)
  assert (prompt.prompt_tokens, prompt.generated_tokens) == (7, 0)


def test_endpoints_bill_the_prompt_of_every_call():
  price = ENDPOINT.price(10, 1000)
  assert (price.prompt_tokens, price.generated_tokens) == (1000, 10)
  assert price.dollars == pytest.approx(2e-3 + 8e-5)
  assert price.flops == 0


@hypothesis.settings(max_examples=40)
@hypothesis.given(
  st.sampled_from(sorted(TARIFFS)), st.integers(0, 500), st.integers(0, 500)
)
def test_the_bound_covers_every_shorter_extension(name, tokens, context):
  tariff = TARIFFS[name]
  bound = tariff.bound(tokens, context)
  assert tariff.price(tokens // 2, context).fits_within(bound)
  assert tariff.price(tokens, context // 2).fits_within(bound)


@hypothesis.settings(max_examples=60)
@hypothesis.given(st.integers(0, 80), st.integers(0, 50), st.integers(0, 10**8))
def test_affordable_tokens_against_enumeration(wanted, context, flops):
  meter = budget_lib.Meter.start(budget_lib.Budget(flops=flops))
  got = LOCAL.affordable_tokens(meter, context, wanted)
  fits = [
    n for n in range(wanted + 1) if meter.affords(LOCAL.bound(n, context))
  ]
  assert got == max(fits)


def test_affordable_tokens_compiled():
  budgets = [
    budget_lib.Budget(generated_tokens=20),
    budget_lib.Budget(flops=10**8),
    budget_lib.Budget(tool_calls=0),
    budget_lib.Budget(seconds=0.0),
  ]
  meters = [budget_lib.Meter.start(budget) for budget in budgets]
  arrays = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *[m.to_arrays() for m in meters]
  )
  solve = jax.jit(jax.vmap(lambda m, c: LOCAL.affordable_tokens(m, c, 1000)))
  got = solve(arrays, jnp.int32([5, 5, 5, 5]))
  want = [LOCAL.affordable_tokens(meter, 5, 1000) for meter in meters]
  assert want[0] == 20 and 0 < want[1] < 1000 and want[2:] == [1000, 0]
  np.testing.assert_array_equal(got, want)


def test_funding_by_bound_never_overspends():
  """Requests of unknown length, sent as the meter allows, fit the budget."""
  rng = np.random.default_rng(1)
  budget = budget_lib.Budget(generated_tokens=300, flops=10**9, dollars=1e-6)
  meter = budget_lib.Meter.start(budget)
  rounds = 0
  while True:
    length = LOCAL.affordable_tokens(meter, 50, 16)
    sent = meter.fundable(LOCAL.bound(length, 50), 4) if length else 0
    if not sent:
      break
    for tokens in rng.integers(1, length + 1, sent):
      meter = meter.charge(LOCAL.price(int(tokens), 50))
    rounds += 1
  assert rounds > 3
  assert meter.spent.fits_within(budget)
  assert not meter.affords(LOCAL.bound(1, 50))


def test_int8_weights_under_float_caches():
  mixed = tariff_lib.Tariff.local(SHAPE, H100, dtype_bytes=1, value_bytes=2)
  half = tariff_lib.Tariff.local(SHAPE, H100, dtype_bytes=2)
  weights = transformer_flops.matmul_weights(SHAPE)
  assert mixed.token.bytes == weights and half.token.bytes == 2 * weights
  assert mixed.context == half.context
  # The arithmetic is that of the floats.
  assert mixed.token.joules == half.token.joules
  with pytest.raises(ValueError, match="value_bytes must be one of"):
    tariff_lib.Tariff.local(SHAPE, value_bytes=3)


def test_bad_inputs_are_refused():
  with pytest.raises(ValueError, match="role must be one of"):
    tariff_lib.Tariff.local(SHAPE, role="judge")
  with pytest.raises(ValueError, match="dtype_bytes must be one of"):
    tariff_lib.Tariff.local(SHAPE, dtype_bytes=8)
  with pytest.raises(ValueError, match="no known dollars_per_hour"):
    tariff_lib.Tariff.local(SHAPE, hardware_lib.lookup("h200-sxm"))
  with pytest.raises(ValueError, match="dollars must be finite"):
    tariff_lib.Tariff.per_token(math.nan, 1e-6)
  with pytest.raises(ValueError, match="amounts only"):
    dataclasses.replace(LOCAL, context=costs.Cost(tool_calls=1))
  with pytest.raises(ValueError, match="not be negative"):
    LOCAL.price(-1, 0)
