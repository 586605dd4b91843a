# SPDX-License-Identifier: Apache-2.0
"""Batches of rollouts: what they hold, how they fill up, and their parts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.allocators import ragged_groups, rollout_strategies
from jaxttc.inference import rollouts


class RolloutBatch(NamedTuple):
  """What a step learns from.

  Attributes:
    rows: the rollouts; W tokens a row.
    advantages: f32[B], or f32[B, S] of each token where there is a critic, or
      progress is paid for.
    old: f32[B, S], log-probabilities of the sampled tokens by the trainer's own
      pass when they were collected; None if the sampler's stand for them.
    reference: f32[B, S], the same under the reference; None without one.
    values: f32[B, S], what the critic said when they were collected; None
      without one.
    returns: f32[B, S], what it should have said; likewise.
  """

  rows: rollouts.Sequences
  advantages: Float[Array, " b"] | Float[Array, "b s"]
  old: Float[Array, "b s"] | None = None
  reference: Float[Array, "b s"] | None = None
  values: Float[Array, "b s"] | None = None
  returns: Float[Array, "b s"] | None = None


def empty(
  rows: int,
  width: int,
  columns: int,
  *,
  old: bool,
  reference: bool,
  critic: bool,
  by_token: bool = False,
) -> RolloutBatch:
  """A batch of padding; every field its own buffer, since state is donated.

  Args:
    rows: B.
    width: W.
    columns: S.
    old: whether there are such log-probabilities.
    reference: likewise.
    critic: whether there is one.
    by_token: whether advantages are those of tokens without one, too.
  """
  zeros = lambda: jnp.zeros((rows, width), jnp.int32)  # noqa: E731
  said = lambda wanted: jnp.zeros((rows, columns)) if wanted else None  # noqa: E731
  return RolloutBatch(
    rollouts.Sequences(
      tokens=zeros(),
      segments=zeros(),
      positions=zeros(),
      targets=zeros(),
      mask=jnp.zeros((rows, width), bool),
      logprobs=jnp.zeros((rows, width)),
    ),
    jnp.zeros((rows, columns) if critic or by_token else rows),
    said(old),
    said(reference),
    said(critic),
    said(critic),
  )


def part(
  batch: RolloutBatch, index: Int[Array, ""], parts: int
) -> RolloutBatch:
  """Rows index, index + parts, ..: a share of every task's rollouts."""
  return jax.tree.map(
    lambda x: x.reshape(-1, parts, *x.shape[1:])[:, index], batch
  )


class Filling(NamedTuple):
  """A batch that several draws fill.

  Attributes:
    batch: its rows so far, padding behind them.
    filled: i32[], how many those are.
  """

  batch: RolloutBatch
  filled: Int[Array, ""]


def fill(
  held: Filling,
  found: RolloutBatch,
  groups: ragged_groups.RaggedGroups,
  mixed: Bool[Array, " m"],
  size: int,
) -> tuple[Filling, RolloutBatch]:
  """Files mixed groups; hands the batch out when it is full, else padding.

  Args:
    held: the batch so far.
    found: what was drawn.
    groups: its layout, `size` rollouts a group.
    mixed: groups with successes and failures.
    size: rollouts a group.
  """
  rows = found.advantages.shape[0]
  kept, _ = rollout_strategies.kept_groups(
    mixed, size, (rows - held.filled) // size
  )
  of_row = groups.of_rows(kept) & groups.real
  place = jnp.where(of_row, held.filled + jnp.cumsum(of_row) - 1, rows)
  merged = jax.tree.map(
    lambda old, new: old.at[place].set(new, mode="drop"), held.batch, found
  )
  filled = held.filled + of_row.sum()
  full = filled >= rows
  nothing = jax.tree.map(jnp.zeros_like, merged)
  choose = lambda yes, no: jax.tree.map(  # noqa: E731
    lambda a, b: jnp.where(full, a, b), yes, no
  )
  return (
    Filling(
      choose(nothing, merged), jnp.where(full, 0, filled).astype(jnp.int32)
    ),
    choose(merged, nothing),
  )
