# SPDX-License-Identifier: Apache-2.0
"""Exact values of tabular policies on the planted task.

The matcher's states and the solution form a Markov chain that ends in the
solution, so the distribution of the solving token, and with it of the reward,
is known without sampling.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.tasks import planted, planted_traces

Scalar = Int[Array, ""] | int


class Value(NamedTuple):
  """What a policy earns.

  Attributes:
    reward: f32[], mean bi-level reward J, in tokens.
    accuracy: f32[], share of traces solved within the horizon.
  """

  reward: jax.Array
  accuracy: jax.Array


def solving(
  instance: planted.Instance, policy: planted.Policy
) -> Float[Array, "X S T"]:
  """The distribution of the solving token, up to the longest trace.

  Returns:
    f32[X, S, T]: the chance that style s solves prompt x with token t + 1.
  """
  length = instance.length
  chain = planted_traces.transitions(instance, policy, instance.tested)

  def step(state, _):
    after = jnp.einsum("xsm,xsmn->xsn", state, chain)
    return after[..., :length], after[..., length]

  start = jnp.zeros((*chain.shape[:2], length)).at[..., 0].set(1.0)
  _, found = jax.lax.scan(step, start, length=instance.longest)
  return jnp.moveaxis(found, 0, -1)


def solving_overall(
  instance: planted.Instance, policy: planted.Policy
) -> Float[Array, "X T"]:
  """As `solving`, over the styles that the policy opens with."""
  by_style = solving(instance, policy)
  weights = jax.nn.softmax(policy.opening)
  return jnp.einsum("s,xst->xt", weights, by_style)


def rewards(
  instance: planted.Instance, policy: planted.Policy, horizon: Scalar
) -> Float[Array, "X U"]:
  """The distribution of the reward: f32[X, T + 1], chances of 0..T tokens.

  Args:
    instance: the task.
    policy: whose traces are meant.
    horizon: tokens H, at most T, those of the longest trace; may be traced.
  """
  overall = solving_overall(instance, policy)
  # Reward r >= 1 is earned by solving with token H - r + 1.
  at = horizon - jnp.arange(1, instance.longest + 1)
  earned = jnp.take(overall, jnp.maximum(at, 0), axis=-1) * (at >= 0)[None]
  return jnp.concatenate([1 - earned.sum(-1, keepdims=True), earned], -1)


def value(
  instance: planted.Instance, policy: planted.Policy, horizon: Scalar
) -> Value:
  """What a policy earns, on average over the tested prompts.

  Args:
    instance: the task.
    policy: the policy.
    horizon: tokens H, at most those of the longest trace; may be traced.
  """
  found = solving_overall(instance, policy).mean(0)
  token = jnp.arange(1, instance.longest + 1)
  reward = found * planted.bilevel_reward(token, horizon)
  return Value(reward.sum(), (found * (token <= horizon)).sum())


def spread(chances: Float[Array, "*X U"]) -> Float[Array, "*X"]:
  """Heterogeneity sigma: the standard deviation of the reward, in tokens.

  With deterministic transitions the values Q - V along a trace are the
  increments of a martingale, so the paper's sum of variances of Q is the
  variance of the trace's reward.

  Args:
    chances: of the rewards 0..T.
  """
  reward = jnp.arange(chances.shape[-1], dtype=chances.dtype)
  mean = chances @ reward
  off = reward[(None,) * mean.ndim] - mean[..., None]
  return jnp.sqrt((chances * off**2).sum(-1))


def tail(chances: Float[Array, "*X U"], kappa: float) -> Float[Array, "*X"]:
  """Anti-concentration c: the chance of mean + sqrt(kappa) sigma, or more.

  Args:
    chances: of the rewards 0..T.
    kappa: radius of the chi-square ball, not negative.
  """
  reward = jnp.arange(chances.shape[-1], dtype=chances.dtype)
  bar = chances @ reward + jnp.sqrt(kappa) * spread(chances)
  above: Bool[Array, "*X U"] = (
    reward[(None,) * bar.ndim] >= bar[..., None] - 1e-4
  )
  return (chances * above).sum(-1)
