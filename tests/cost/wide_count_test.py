# SPDX-License-Identifier: Apache-2.0
"""Tests of counts beyond 2^31."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.cost import wide_count


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
  st.lists(
    st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    min_size=1,
    max_size=20,
  )
)
def test_sums_are_exact(rounds):
  count = wide_count.WideCount.zeros(())
  add = jax.jit(lambda c, x: c.add(x))
  for amounts in rounds:
    count = add(count, jnp.asarray(np.asarray(amounts, np.uint32)))
  assert int(count) == sum(map(sum, rounds))


def test_many_largest_amounts_at_once():
  most = jnp.full((2, 2047), 2**32 - 1, jnp.uint32)
  count = wide_count.WideCount.zeros((2,)).add(most)
  one = jax.tree.map(lambda x: x[1], count)
  assert int(one) == 2047 * (2**32 - 1)
