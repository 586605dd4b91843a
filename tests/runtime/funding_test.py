# SPDX-License-Identifier: Apache-2.0
"""Tests of how expansions are cut to what a budget can pay for."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.cost import tariff as tariff_lib
from jaxttc.runtime import funding

_SHAPE = transformer_flops.TransformerShape(
  vocab_size=50,
  width=8,
  layers=1,
  heads=2,
  kv_heads=1,
  head_dim=4,
  mlp_width=16,
)


def _prices(verifier=True):
  def local(role):
    return tariff_lib.Tariff.local(_SHAPE, None, role)

  return funding.Prices(
    prompt=local("prompt"),
    policy=local("policy"),
    verifier=local("verifier") if verifier else None,
  )


_PRICES = _prices()
_CHILDREN = 5
_fund = jax.jit(lambda meter, *rest: funding.fund(meter, _PRICES, *rest))


def _by_hand(meter, wanted, context, cap):
  """The same on the host, child by child, in exact numbers."""
  limits = [0] * len(wanted)
  for i, want in enumerate(wanted):
    if not want:
      continue
    bound = _PRICES.child(cap[i], context[i])
    if meter.affords(bound):
      meter = meter.charge(bound)
      limits[i] = cap[i]
      continue
    if not any(limits):
      fitting = [
        n
        for n in range(1, cap[i])
        if meter.affords(_PRICES.child(n, context[i]))
      ]
      limits[i] = max(fitting, default=0)
    break
  return limits


_COUNT_LIMITS = st.fixed_dictionaries(
  {},
  optional={
    "generated_tokens": st.integers(0, 40),
    "verifier_calls": st.integers(0, 6),
    "verifier_tokens": st.integers(0, 40),
  },
)
_ROWS = st.tuples(
  st.lists(st.booleans(), min_size=_CHILDREN, max_size=_CHILDREN),
  st.lists(st.integers(1, 30), min_size=_CHILDREN, max_size=_CHILDREN),
  st.lists(st.integers(1, 12), min_size=_CHILDREN, max_size=_CHILDREN),
)


@hypothesis.given(_COUNT_LIMITS, _ROWS)
@hypothesis.settings(max_examples=60)
def test_counts_are_funded_exactly_as_by_hand(limits, rows):
  meter = budget_lib.Meter.start(budget_lib.Budget(**limits))
  got = _fund(meter.to_arrays(), *map(jnp.asarray, rows))
  assert got.tolist() == _by_hand(meter, *rows)


@hypothesis.given(st.integers(0, 2_000_000), _ROWS)
@hypothesis.settings(max_examples=40)
def test_amounts_are_never_overrun_and_hardly_underused(flops, rows):
  wanted, context, cap = rows
  meter = budget_lib.Meter.start(budget_lib.Budget(flops=flops))
  got = _fund(meter.to_arrays(), *map(jnp.asarray, rows)).tolist()
  total = sum(
    _PRICES.child(n, context[i]).flops for i, n in enumerate(got) if n
  )
  assert total <= flops
  # With a thousandth more or less, the exact rule says the same.
  near = [
    _by_hand(
      budget_lib.Meter.start(budget_lib.Budget(flops=int(flops * share))),
      *rows,
    )
    for share in (0.999, 1.0)
  ]
  assert got in near
  assert all(want or not n for want, n in zip(wanted, got, strict=True))


def test_a_search_without_verifier_pays_for_none():
  prices = _prices(verifier=False)
  child = prices.child(5, 10)
  assert child.verifier_calls == 0 == child.verifier_tokens
  assert child.generated_tokens == 5
  assert child.flops == transformer_flops.prefill_flops(_SHAPE, 5, 9)


def test_the_root_is_every_prompt_token_once_and_no_call():
  root = _PRICES.root(7)
  assert root.prompt_tokens == 7 == root.verifier_tokens
  assert root.verifier_calls == 0 == root.generated_tokens
  assert root.flops == transformer_flops.prefill_flops(
    _SHAPE, 6
  ) + transformer_flops.prefill_flops(_SHAPE, 7)
  arrays = _PRICES.root(jnp.asarray([7, 1]))
  np.testing.assert_array_equal(arrays.prompt_tokens, [7, 1])


def test_refuses_a_negative_length():
  with pytest.raises(ValueError, match="negative"):
    _PRICES.child(-1, 5)
  assert _PRICES.child(0, 5).generated_tokens == 0
  assert isinstance(_PRICES.child(1, 5), costs.Cost)


def test_without_a_cache_the_prefix_is_paid_for_by_each_child():
  prices = funding.Prices(
    prompt=None, policy=tariff_lib.Tariff.per_token(0.5, 2.0)
  )
  assert prices.root(10) == costs.Cost()
  assert prices.child(3, 10) == costs.Cost(
    prompt_tokens=10, generated_tokens=3, dollars=11.0
  )
  meter = budget_lib.Meter.start(budget_lib.Budget(dollars=11.0))
  assert [prices.longest(meter, 10, n) for n in (1, 2, 3, 9)] == [1, 2, 3, 3]
  assert prices.longest(meter, 22, 9) == 0
