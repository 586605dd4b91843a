# SPDX-License-Identifier: Apache-2.0
"""Demonstrations first, pairs second: both stages of the styled-answers task.

How many annotations each stage has may be traced, so one compiled program
trains a whole grid of splits and seeds, mapped over them. Demonstrations come
from the front of the pool and pairs from its back: a larger budget's are a
superset of a smaller one's, and no prompt has both.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from jaxttc.tasks import styled_answers
from jaxttc.training import preference_losses

Count = Int[Array, ""] | int


class StageSettings(NamedTuple):
  """How each stage trains; the same in every cell of a grid.

  Attributes:
    rate: of Adam.
    epochs: passes over a stage's annotations.
    batch: annotations a step.
  """

  rate: float = 0.02
  epochs: int = 8
  batch: int = 32


class Bounds(NamedTuple):
  """How far loops run where counts are mapped over; they change no result.

  Attributes:
    sft: at least every number of demonstrations.
    pairs: at least every number of pairs.
  """

  sft: Count
  pairs: Count


class Tuned(NamedTuple):
  """What both stages made.

  Attributes:
    policy: the trained policy.
    steps: i32[], optimizer steps of both stages.
    forward_passes: i32[], of responses through a policy: 1 a demonstration and
      epoch; of a pair, 2 an epoch and 2 for the reference, which are kept.
  """

  policy: styled_answers.Policy
  steps: Int[Array, ""]
  forward_passes: Int[Array, ""]


def tune(
  base: styled_answers.Policy,
  pool: styled_answers.Annotations,
  sft: Count,
  pairs: Count,
  bounds: Bounds,
  stages: StageSettings,
  loss: preference_losses.PreferenceLossConfig,
) -> Tuned:
  """Trains on demonstrations, then on pairs from where that ended.

  The reference of the pairs is the policy that the demonstrations made, or the
  base if there are none.

  Args:
    base: where it starts.
    pool: annotations to take from; the caller sees to it that they suffice.
    sft: demonstrations; may be 0, may be traced.
    pairs: pairs; may be 0, may be traced.
    bounds: of the loops.
    stages: settings; static.
    loss: of pairs; static.
  """
  count = pool.features.shape[0]

  def sft_loss(policy, rows, weights):
    found = styled_answers.log_probs(
      policy,
      pool.features[rows],
      styled_answers.STEP,
      pool.demonstrated[rows],
    )
    tokens = found.shape[1] * jnp.maximum(weights.sum(), 1)
    return -(found.sum(1) * weights).sum() / tokens

  start = _fit(sft_loss, base, sft, bounds.sft, stages, lambda i: i)
  needs_reference = loss.kind != "orpo"

  def pair_loss(policy, rows, weights):
    def side(answers):
      def total(of):
        found = styled_answers.log_probs(
          of, pool.features[rows], styled_answers.STEP, answers[rows]
        )
        return found.sum(1)

      return preference_losses.Responses(
        total(policy),
        jnp.full(rows.shape, 2.0),
        total(start) if needs_reference else None,
      )

    found = preference_losses.preference_loss(
      loss, side(pool.chosen), side(pool.rejected)
    )
    return (found.losses * weights).sum() / jnp.maximum(weights.sum(), 1)

  policy = _fit(
    pair_loss, start, pairs, bounds.pairs, stages, lambda i: count - 1 - i
  )
  steps = stages.epochs * (_batches(sft, stages) + _batches(pairs, stages))
  kept = 2 if needs_reference else 0
  passes = stages.epochs * (sft + 2 * pairs) + kept * pairs
  return Tuned(policy, jnp.asarray(steps), jnp.asarray(passes))


def _batches(count, stages):
  return (count + stages.batch - 1) // stages.batch


def _fit(loss: Any, start, count, bound, stages, place):
  """Adam over the first `count` rows, in order, `epochs` times."""
  tx = optax.adam(stages.rate)
  batches = _batches(count, stages)

  def step(t, carry):
    policy, state = carry
    within = (t % jnp.maximum(batches, 1)) * stages.batch
    i = within + jnp.arange(stages.batch)
    weights: Float[Array, " batch"] = (i < count).astype(jnp.float32)
    slope = jax.grad(loss)(policy, place(i), weights)
    updates, new = tx.update(slope, state, policy)
    moved = (optax.apply_updates(policy, updates), new)
    active = t < stages.epochs * batches
    return jax.tree.map(
      lambda new, old: jnp.where(active, new, old), moved, carry
    )

  last = stages.epochs * _batches(bound, stages)
  policy, _ = jax.lax.fori_loop(0, last, step, (start, tx.init(start)))
  return policy
