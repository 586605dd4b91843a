# SPDX-License-Identifier: Apache-2.0
"""Groups of unequal size in a batch of fixed size."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import ragged_groups

_ROWS = 20
_layout = jax.jit(lambda counts: ragged_groups.layout(counts, _ROWS))


@hypothesis.given(st.lists(st.integers(0, 8), min_size=5, max_size=5))
@hypothesis.settings(max_examples=40)
def test_rows_belong_to_tasks_in_order(counts):
  groups = _layout(jnp.array(counts, jnp.int32))
  task = [i for i, n in enumerate(counts) for _ in range(n)][:_ROWS]
  rank = [k for n in counts for k in range(n)][:_ROWS]
  real = np.asarray(groups.real)
  assert real.sum() == len(task)
  np.testing.assert_array_equal(np.asarray(groups.task)[real], task)
  np.testing.assert_array_equal(np.asarray(groups.rank)[real], rank)
  assert (np.asarray(groups.task)[~real] == 5).all()
  np.testing.assert_array_equal(groups.counts, np.bincount(task, minlength=5))
  ones = ragged_groups.group_sums(jnp.ones(_ROWS), groups)
  np.testing.assert_array_equal(ones, groups.counts)


def test_one_program_serves_all_counts():
  before = _layout._cache_size()
  for counts in ([4, 4, 4, 4, 4], [0, 20, 0, 0, 0], [2, 2, 2, 2, 2]):
    _layout(jnp.array(counts, jnp.int32))
  assert _layout._cache_size() - before <= 1


def test_values_of_tasks_reach_their_rows():
  groups = _layout(jnp.array([1, 0, 3, 0, 2], jnp.int32))
  values = jnp.arange(5) * 10
  found = groups.of_rows(values)[groups.real]
  assert found.tolist() == [0, 20, 20, 20, 40, 40]
