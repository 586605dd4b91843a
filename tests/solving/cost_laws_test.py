# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.solving import cost_laws

_FIELDS = ("verifier_calls", "flops")


@pytest.fixture(scope="module", name="laws")
def _laws():
  tokens = np.array([[10.0, 40.0], [20.0, 40.0], [30.0, 40.0]])
  calls = 1 + tokens / 10
  flops = 5e6 * tokens + np.array([1e8, 0.0])
  return cost_laws.fit(_FIELDS, tokens, np.stack([calls, flops], -1))


def test_laws_are_found_and_limits_are_what_was_seen(laws):
  np.testing.assert_allclose(laws.rate, [[0.1, 5e6], [0.0, 0.0]], atol=1e-9)
  np.testing.assert_allclose(laws.base[0], [1.0, 1e8])
  # An arm that always takes as much: the mean is all there is to know.
  np.testing.assert_allclose(laws.base[1], [5.0, 2e8])
  np.testing.assert_allclose(laws.limits, [[4.0, 2.5e8], [5.0, 2e8]])


def test_expected_costs_follow_the_budgets_fields(laws):
  caps = np.array([30, 50])
  tokens = np.array([[15.0, 45.0]])
  found = cost_laws.expected(laws, ("generated_tokens", "flops"), tokens, caps)
  np.testing.assert_allclose(found[0], [[15.0, 1.75e8], [45.0, 2e8]])
  most = cost_laws.limits(laws, ("verifier_calls", "generated_tokens"), caps)
  np.testing.assert_allclose(most, [[4.0, 30.0], [5.0, 50.0]])
  # Never beyond the limit, and never free.
  far = cost_laws.expected(laws, ("flops",), np.array([[1e6, 1.0]]), caps)
  np.testing.assert_allclose(far[0, :, 0], [2.5e8, 2e8])


def test_unknown_fields_are_named(laws):
  with pytest.raises(
    ValueError, match="nothing of joules; .*, verifier_calls, flops"
  ):
    cost_laws.limits(laws, ("joules",), np.array([1, 1]))
  with pytest.raises(ValueError, match="nothing of flops; .* generated_tokens"):
    cost_laws.expected(None, ("flops",), np.ones((1, 2)), np.array([1, 1]))


def test_packed_laws_are_the_same(laws):
  again = cost_laws.unpack(*cost_laws.pack(laws))
  assert again.fields == laws.fields
  np.testing.assert_array_equal(again.limits, laws.limits)
  part = laws.take(np.array([1]))
  np.testing.assert_array_equal(part.base, laws.base[1:])
