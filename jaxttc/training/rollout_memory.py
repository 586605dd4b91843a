# SPDX-License-Identifier: Apache-2.0
"""What a collector of rollouts remembers between steps, and takes up again.

Its rows belong to problems by their digests, not by their places in a file. So
a run goes on, to the same bits, where the file was put in another order; and
where problems were added, taken out or changed, it says so, or keeps what it
knows of those that are left.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt32
import numpy as np

from jaxttc import mesh as mesh_lib
from jaxttc.predictors import rollout_length, success_rate
from jaxttc.tasks import problem_digest
from jaxttc.training import rollout_batches


@flax.struct.dataclass
class Collected:
  """What is remembered between steps; saved with the training state.

  Attributes:
    digests: u32[P, 2], the problem of each of the tracker's rows.
    tracker: rewards seen of each problem.
    lengths: of a strategy that counts tokens, lengths seen of each problem.
    draws: i32[], how often rollouts were drawn.
    rollouts: i32[], drawn so far, all that were thrown away among them.
    tokens: i32[], sampled so far.
    filling: of a strategy that redraws, the batch that is being filled.
    batch: what is learnt from, where it serves several steps; else None.
    left: i32[], steps that it still serves.
    figures: what was logged of it; else empty.
  """

  digests: UInt32[Array, "p 2"]
  tracker: success_rate.TrackerState
  lengths: rollout_length.LengthState | None
  draws: Int[Array, ""]
  rollouts: Int[Array, ""]
  tokens: Int[Array, ""]
  filling: rollout_batches.Filling | None
  batch: rollout_batches.RolloutBatch | None
  left: Int[Array, ""]
  figures: dict[str, Array]


def places(
  held: Collected,
  ids: Int[np.ndarray, " m"],
  present: UInt32[np.ndarray, "p 2"],
) -> Int[np.ndarray, " m"]:
  """Where the problems of some rows are among those of today.

  Args:
    held: what is remembered.
    ids: rows of its tracker.
    present: digests of the problems that are there.

  Raises:
    ValueError: if one of them is not there.
  """
  known = mesh_lib.fetch(held.digests)
  found = problem_digest.places(present, known[ids])
  if (found < 0).any():
    raise ValueError(_changed(known, present))
  return found


def taken_up(
  saved: Collected,
  fresh: Collected,
  *,
  carry: bool,
) -> Collected:
  """What was saved, for the problems that are there now.

  Args:
    saved: of a checkpoint.
    fresh: as for a run that begins; its digests say what is there.
    carry: whether problems may have changed. Rows of those that are still
      there are then kept, in their order, and new ones come after them with
      nothing known. Else all must be there, in whatever order.

  Raises:
    ValueError: without `carry`, if a problem is gone or new; it says how many
      are, and what to do.
  """
  known, present = (
    mesh_lib.fetch(held.digests).astype(np.uint32) for held in (saved, fresh)
  )
  still = problem_digest.places(present, known) >= 0
  new = problem_digest.places(known, present) < 0
  if still.all() and not new.any():
    return saved
  if not carry:
    raise ValueError(_changed(known, present))
  rows = np.flatnonzero(still)

  def merged(old, blank):
    return jnp.concatenate([old[rows], blank[np.flatnonzero(new)]])

  return saved.replace(
    digests=merged(saved.digests, fresh.digests),
    tracker=jax.tree.map(merged, saved.tracker, fresh.tracker),
    lengths=jax.tree.map(merged, saved.lengths, fresh.lengths),
  )


def _changed(known: np.ndarray, present: np.ndarray) -> str:
  gone = np.flatnonzero(problem_digest.places(present, known) < 0)
  new = np.flatnonzero(problem_digest.places(known, present) < 0)
  which = f", the first of them number {gone[0] + 1} of the run's" * bool(
    gone.size
  )
  also = f", the first of them number {new[0] + 1} of the task's" * bool(
    new.size
  )
  return (
    f"the run knows {len(known)} problems by their text and answer: "
    f"{gone.size} are gone or were changed{which}, and {new.size} are new"
    f"{also}. Restore them, choose another --workdir, or set carry_rates=true "
    f"to go on with what is known of the other {len(known) - gone.size}"
  )
