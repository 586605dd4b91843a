# SPDX-License-Identifier: Apache-2.0
"""Roll-over never overspends, and never hurts who finished without it."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import local_budgets

_STEPS = 5
_TOKENS = st.lists(st.integers(0, 60), min_size=_STEPS, max_size=_STEPS)
_RUN = {
  name: jax.jit(functools.partial(local_budgets.run, roll_over=name))
  for name in local_budgets.ROLL_OVERS
}


def _run(shares, needs, name):
  given = (jnp.array(x, jnp.int32) for x in (shares, needs))
  return jax.tree.map(np.asarray, _RUN[name](*given))


@hypothesis.given(_TOKENS, _TOKENS)
@hypothesis.settings(max_examples=60)
def test_who_finishes_under_which_rule(shares, needs):
  runs = {name: _run(shares, needs, name) for name in local_budgets.ROLL_OVERS}
  for found in runs.values():
    assert found.spent.sum() <= sum(shares)
    assert (found.spent <= found.caps).all() and (found.spent >= 0).all()
    np.testing.assert_array_equal(found.finished, found.spent == needs)
  for name in ("next", "spread"):
    assert (runs[name].caps >= shares).all()
    assert (runs[name].finished >= runs["none"].finished).all()
    assert runs["pool"].finished.all() >= runs[name].finished.all()
  assert runs["pool"].finished.all() == (sum(needs) <= sum(shares))
  np.testing.assert_array_equal(runs["none"].caps, shares)


def test_each_rule_by_hand():
  shares, needs = [10, 20, 30, 0, 0], [4, 23, 35, 0, 0]
  assert _run(shares, needs, "none").caps.tolist() == [10, 20, 30, 0, 0]
  assert _run(shares, needs, "next").caps.tolist() == [10, 26, 33, 0, 0]
  assert _run(shares, needs, "spread").caps.tolist() == [10, 22, 34, 0, 0]
  assert _run(shares, needs, "pool").caps.tolist() == [60, 56, 33, 0, 0]


def test_a_pool_lets_an_early_step_starve_the_rest():
  shares, needs = [10] * 5, [50, 5, 5, 5, 5]
  assert _run(shares, needs, "pool").finished.tolist() == [True] + [False] * 4
  assert _run(shares, needs, "next").finished.tolist() == [False] + [True] * 4


@hypothesis.given(_TOKENS)
@hypothesis.settings(max_examples=20)
def test_the_last_step_may_have_all_that_is_left(shares):
  for name in ("next", "spread"):
    caps = _run(shares, [0] * _STEPS, name).caps
    if shares[-1]:
      assert caps[-1] == sum(shares)


def test_caps_and_charges_one_by_one_are_the_run():
  shares, needs = [10, 20, 30], [12, 3, 40]
  budgets = local_budgets.start(jnp.array(shares))
  caps = []
  for need in needs:
    caps.append(int(local_budgets.cap(budgets, "spread")))
    budgets = local_budgets.charge(budgets, jnp.int32(min(need, caps[-1])))
  found = local_budgets.run(jnp.array(shares), jnp.array(needs), "spread")
  assert caps == found.caps.tolist()
  assert budgets.spent.tolist() == found.spent.tolist()


def test_unknown_rule_is_refused():
  with pytest.raises(ValueError, match="roll-over 'all'"):
    local_budgets.cap(local_budgets.start(jnp.ones(2, jnp.int32)), "all")
