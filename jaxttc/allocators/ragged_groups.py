# SPDX-License-Identifier: Apache-2.0
"""Groups of unequal size in a batch of fixed size.

A step has as many rollouts as its budget, whatever task they belong to. So the
batch is flat: `rows` rollouts, each with the task that owns it, tasks in order.
Counts change from step to step, shapes never do, and nothing compiles anew.

Rows beyond the sum of counts are padding: their task is M, one past the last,
which segment operations with M segments leave out.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Shaped


@flax.struct.dataclass
class RaggedGroups:
  """Which task owns which row.

  Attributes:
    task: i32[rows], the row's task; M for padding.
    rank: i32[rows], the row's place in its group, from 0.
    counts: i32[M], rows of each task.
    start: i32[M], first row of each task.
  """

  task: Int[Array, " rows"]
  rank: Int[Array, " rows"]
  counts: Int[Array, " m"]
  start: Int[Array, " m"]

  @property
  def real(self) -> Bool[Array, " rows"]:
    """Rows that are no padding."""
    return self.task < self.counts.shape[0]

  def of_rows(
    self, values: Shaped[Array, "m ..."]
  ) -> Shaped[Array, "rows ..."]:
    """What belongs to a task, for each of its rows; padding has the last's."""
    return values[jnp.minimum(self.task, self.counts.shape[0] - 1)]


def layout(counts: Int[Array, " m"], rows: int) -> RaggedGroups:
  """Lays groups out in a batch.

  Args:
    counts: rollouts of each task, non-negative. If they sum to more than
      `rows`, the last ones are cut.
    rows: size of the batch; static.

  Returns:
    The groups, their counts as cut.
  """
  ends = jnp.minimum(jnp.cumsum(counts), rows).astype(jnp.int32)
  start = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
  row = jnp.arange(rows, dtype=jnp.int32)
  task = jnp.searchsorted(ends, row, side="right").astype(jnp.int32)
  first = start[jnp.minimum(task, counts.shape[0] - 1)]
  return RaggedGroups(task, row - first, ends - start, start)


def group_sums(
  values: Shaped[Array, " rows"], groups: RaggedGroups
) -> Shaped[Array, " m"]:
  """Sums of each task's rows; those of padding are left out."""
  return jax.ops.segment_sum(
    values,
    groups.task,
    num_segments=groups.counts.shape[0],
    indices_are_sorted=True,
  )
