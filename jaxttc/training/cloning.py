# SPDX-License-Identifier: Apache-2.0
"""Verifier-free training on the planted task: cloning of traces.

Supervised finetuning of a table has a closed-form optimum, so no step size or
number of epochs can hold it back: the counts of the traces, smoothed by
`strength` pseudo-traces of the base a row. Strength is what early stopping is
to a network, and is tuned as the step sizes of the verifier-based methods are.

Two teachers, both as in Setlur et al. (2025), arXiv:2502.12118: traces of the
base that were solved (RFT; its filter is already a little verifier), and traces
of the best expert in a chi-square ball around the base.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxttc.tasks import planted, planted_oracles, planted_traces
from jaxttc.training import chi2_ball, trace_batches

Scalar = Int[Array, ""] | int


def fit(
  base: planted.Policy,
  counts: planted_traces.Counts,
  strength: Float[Array, ""] | float,
) -> planted.Policy:
  """The table of greatest posterior probability, given traces.

  Args:
    base: the table that a row without data stays at.
    counts: of the traces; weights need not be whole numbers.
    strength: pseudo-traces of the base in every row, positive.
  """

  def smoothed(counted, logits):
    share = counted + strength * jax.nn.softmax(logits)
    return jnp.log(share / share.sum(-1, keepdims=True) + 1e-30)

  return planted.Policy(
    smoothed(counts.opening, base.opening),
    smoothed(counts.emission, base.emission),
  )


def clone_solved(
  instance: planted.Instance,
  key: Key[Array, ""],
  traces: Scalar,
  horizon: Scalar,
  strength: Float[Array, ""] | float,
  bounds: trace_batches.Bounds,
  *,
  expert_is_free: bool,
) -> trace_batches.Trained:
  """Clones solved traces of the base (SFT on correct samples, RFT).

  Args:
    instance: the task.
    key: random key; consumed.
    traces: n, at least 1.
    horizon: tokens H of a trace.
    strength: see `fit`.
    bounds: of the loops.
    expert_is_free: whether n traces are *solved* ones, and cost what they hold;
      if not, n traces of the base are sampled and checked, and the solved ones
      among them cloned.
  """
  solves = lambda solved: (solved > 0).astype(jnp.float32)  # noqa: E731
  if expert_is_free:
    worth = solves(jnp.arange(instance.longest + 1))
    return _clone_worth(instance, key, traces, horizon, strength, bounds, worth)
  counts = trace_batches.add_up(
    key,
    traces,
    bounds,
    draw=lambda _, key: planted_traces.sample(
      instance,
      instance.base,
      key,
      trace_batches.BATCH,
      horizon,
      bounds.steps,
    ),
    weigh=solves,
    shape=instance.base,
  )
  cost = trace_batches.price(traces, horizon, labelled=True)
  return trace_batches.Trained(fit(instance.base, counts, strength), cost)


def clone_expert(
  instance: planted.Instance,
  key: Key[Array, ""],
  traces: Scalar,
  horizon: Scalar,
  strength: Float[Array, ""] | float,
  bounds: trace_batches.Bounds,
  *,
  kappa: float,
) -> trace_batches.Trained:
  """Clones the best expert of the chi-square ball, which is free.

  The expert reweights the base by the true distribution of rewards; the clone
  sees its traces, and no reward.

  Args:
    instance: the task.
    key: random key; consumed.
    traces: n expert traces, at least 1.
    horizon: tokens H of a trace.
    strength: see `fit`.
    bounds: of the loops.
    kappa: radius of the ball, not negative.
  """
  chances = planted_oracles.rewards(instance, instance.base, horizon).mean(0)
  rewards = jnp.arange(instance.longest + 1, dtype=jnp.float32)
  weights = chi2_ball.chi2_tilt(rewards, kappa, chances).weights
  earned = planted.bilevel_reward(jnp.arange(instance.longest + 1), horizon)
  worth = weights[earned.astype(jnp.int32)]
  return _clone_worth(instance, key, traces, horizon, strength, bounds, worth)


def _clone_worth(instance, key, traces, horizon, strength, bounds, worth):
  """Clones the expert whose traces are worth so much, by solving token."""
  counts = trace_batches.add_up(
    key,
    traces,
    bounds,
    draw=lambda _, key: planted_traces.sample_expert(
      instance,
      instance.base,
      key,
      trace_batches.BATCH,
      horizon,
      bounds.steps,
      worth,
    ),
    weigh=lambda solved: jnp.ones(solved.shape),
    shape=instance.base,
  )
  cost = trace_batches.price(traces, horizon, labelled=False)
  return trace_batches.Trained(fit(instance.base, counts, strength), cost)
