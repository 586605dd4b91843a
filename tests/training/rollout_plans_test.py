# SPDX-License-Identifier: Apache-2.0
"""Who is next: ranks among the rows that have a reward."""

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import ragged_groups
from jaxttc.training import rollout_plans


@hypothesis.given(
  st.lists(st.integers(0, 4), min_size=3, max_size=3),
  st.lists(st.booleans(), min_size=8, max_size=8),
)
@hypothesis.settings(max_examples=25)
def test_ranks_leave_no_gap(counts, told):
  groups = ragged_groups.layout(jnp.array(counts), 8)
  found = rollout_plans.told_ranks(jnp.array(told), groups)
  for task in range(3):
    rows = np.flatnonzero((np.asarray(groups.task) == task) & np.array(told))
    assert np.asarray(found)[rows].tolist() == list(range(len(rows)))
