# SPDX-License-Identifier: Apache-2.0
"""Verifier-based training on the planted task: rewards of the base's traces.

Both methods label n traces with the checker, as many as the cloned ones, and
start from the base:

  policy gradient: REINFORCE on its own traces, batch by batch, with rewards
    standardised in the batch (Williams 1992; the baseline of GRPO);
  reweighting: one pass over traces of the base, then the table that fits them
    under the best weights of a chi-square ball (offline, as the simple
    verifier-based method of Setlur et al. 2025, arXiv:2502.12118).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.tasks import planted, planted_traces
from jaxttc.training import chi2_ball, cloning, trace_batches

Scalar = Int[Array, ""] | int
# From (solving tokens i32[B], 0 for never, horizon) to rewards f32[B].
Reward = Callable[[Int[Array, " B"], Scalar], Float[Array, " B"]]


def outcome_reward(
  solved: Int[Array, " B"], horizon: Scalar
) -> Float[Array, " B"]:
  """1 where a trace was solved within the horizon, however late; else 0."""
  return ((solved > 0) & (solved <= horizon)).astype(jnp.float32)


def policy_gradient_loss(
  policy: planted.Policy, counts: planted_traces.Counts
) -> Float[Array, ""]:
  """Its gradient is minus the policy gradient.

  Args:
    policy: the table that the traces were sampled from.
    counts: of the traces, each weighted by its advantage over their number.
  """
  return -planted_traces.log_likelihood(policy, counts)


def policy_gradient(
  instance: planted.Instance,
  key: Key[Array, ""],
  traces: Scalar,
  horizon: Scalar,
  rate: Float[Array, ""] | float,
  bounds: trace_batches.Bounds,
  *,
  reward: Reward = planted.bilevel_reward,
) -> trace_batches.Trained:
  """REINFORCE from the base, each trace used once.

  Args:
    instance: the task.
    key: random key; consumed.
    traces: n, sampled and labelled in all, at least 1.
    horizon: tokens H of a trace.
    rate: step size, on the gradient of the mean over a batch.
    bounds: of the loops.
    reward: from solving tokens to rewards.
  """

  def fold(policy, drawn, counted):
    earned = reward(drawn.solved, horizon)
    advantage = _standardised(earned, counted) / jnp.maximum(counted.sum(), 1)
    counts = planted_traces.total(drawn, advantage, policy)
    slope = jax.grad(policy_gradient_loss)(policy, counts)
    return jax.tree.map(lambda x, g: x - rate * g, policy, slope)

  policy = trace_batches.run(
    key,
    traces,
    bounds,
    draw=lambda policy, key: planted_traces.sample(
      instance, policy, key, trace_batches.BATCH, horizon, bounds.steps
    ),
    fold=fold,
    start=instance.base,
  )
  return trace_batches.Trained(
    policy, trace_batches.price(traces, horizon, labelled=True)
  )


def reweight(
  instance: planted.Instance,
  key: Key[Array, ""],
  traces: Scalar,
  horizon: Scalar,
  kappa: Float[Array, ""] | float,
  bounds: trace_batches.Bounds,
  *,
  strength: float = 1.0,
) -> trace_batches.Trained:
  """Fits labelled traces of the base under the best weights of a ball.

  The traces are drawn twice from the same key, first for their rewards and
  then for their counts: nothing of a trace needs to be kept.

  Args:
    instance: the task.
    key: random key; consumed.
    traces: n, sampled and labelled, at least 1.
    horizon: tokens H of a trace.
    kappa: radius of the chi-square ball.
    bounds: of the loops.
    strength: pseudo-traces of the base a row, as `cloning.fit`.
  """

  values = jnp.arange(instance.longest + 1, dtype=jnp.float32)

  def earned(solved):
    return planted.bilevel_reward(solved, horizon).astype(jnp.int32)

  def draw(_, key):
    return planted_traces.sample(
      instance, instance.base, key, trace_batches.BATCH, horizon, bounds.steps
    )

  def count(found, drawn, counted):
    return found + counted @ jax.nn.one_hot(earned(drawn.solved), len(values))

  found = trace_batches.run(
    key, traces, bounds, draw=draw, fold=count, start=jnp.zeros_like(values)
  )
  weights = chi2_ball.chi2_tilt(values, kappa, found / found.sum()).weights
  counts = trace_batches.add_up(
    key,
    traces,
    bounds,
    draw=draw,
    weigh=lambda solved: weights[earned(solved)],
    shape=instance.base,
  )
  policy = cloning.fit(instance.base, counts, strength)
  return trace_batches.Trained(
    policy, trace_batches.price(traces, horizon, labelled=True)
  )


def _standardised(
  rewards: Float[Array, " B"], counted: Bool[Array, " B"]
) -> Float[Array, " B"]:
  """Mean 0 and deviation 1 over the traces that count; 0 elsewhere."""
  many = jnp.maximum(counted.sum(), 1)
  off = jnp.where(counted, rewards - (rewards * counted).sum() / many, 0.0)
  return off / (jnp.sqrt((off**2).sum() / many) + 1e-6)
