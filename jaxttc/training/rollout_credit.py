# SPDX-License-Identifier: Apache-2.0
"""What rollouts are credited with: rewards, advantages, and who was asked.

Beside the policy there may be a reference, whose distance is taken off or held
in a loss, and a critic, whose values say how much better each token was than
was to be expected. Each reads a collection once.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxttc.allocators import ragged_groups
from jaxttc.inference import controllers, rollouts
from jaxttc.models import transformer
from jaxttc.training import (
  critic_network,
  policy_losses,
  rollout_batches,
  rollout_config,
  rollout_reading,
  rollout_rewards,
)


class Credited(NamedTuple):
  """What is learnt from, and what it was found to be.

  Attributes:
    batch: the rollouts with their advantages.
    earned: f32[B], what each earned; NaN where it could not be told.
    figures: what a critic is logged by; else empty.
  """

  batch: rollout_batches.RolloutBatch
  earned: Float[Array, " b"]
  figures: dict[str, Float[Array, ""]]


def crediting(
  model: transformer.Transformer,
  config: rollout_config.RolloutConfig,
  loss: policy_losses.PolicyLossConfig,
  rewards: rollout_rewards.RewardConfig,
  critic: critic_network.CriticConfig | None,
  chunk: int,
) -> Callable[..., Credited]:
  """How a step's rollouts are credited.

  Args:
    model: the policy as the trainer computes it.
    config: how rollouts were drawn, and what an advantage is.
    loss: which log-probabilities it reads.
    rewards: what a rollout earns.
    critic: what its values do; None without one.
    chunk: rows read at once.

  Returns:
    (parameters, those of the reference or None, prompts, rollouts, layout of
    the groups, `RewardConfig.parts` by name) -> `Credited`; traceable.
  """
  columns = config.max_tokens
  # The reference is not cut: what it never writes would be infinitely far.
  whole = controllers.Sampler(temperature=config.temperature)

  def read(params, rows, sampler):
    return rollout_reading.read_all(
      model, params, rows, columns=columns, sampler=sampler, chunk=chunk
    )

  def judged(params, rows, earned):
    said = critic_network.all_values(
      model, params, rows, columns=columns, chunk=chunk
    )
    mask = rollout_reading.responses(rows, columns).mask
    found = critic_network.judge(critic, earned, said, mask)
    return (found.advantages, said, found.returns), found.explained

  def credit(
    params: Any,
    reference: Any,
    prompts: rollouts.Prompts,
    sampled: rollouts.Rollouts,
    groups: ragged_groups.RaggedGroups,
    parts: Mapping[str, Float[Array, " b"]],
  ) -> Credited:
    acting = params if critic is None else params["policy"]
    rows = rollouts.sequences(prompts, sampled)
    corrects = loss.sampler_cap is not None
    old = read(acting, rows, config.sampler) if corrects else None
    said = None if reference is None else read(reference, rows, whole)
    divergence = None
    if rewards.kl_weight:
      divergence = sampled.logprobs.sum(1) - said.sum(1)
    right = jnp.nan_to_num(parts["right"])
    solved = groups.of_rows(ragged_groups.group_sums(right, groups) > 0)
    earned = rollout_rewards.earned(
      rewards, parts, sampled.length, divergence, columns, solved
    )
    figures = {}
    if critic is None:
      advantages = rollout_rewards.advantages(
        rewards,
        earned,
        groups.task,
        groups.counts.shape[0],
        config.advantage,
      )
      values = returns = None
    else:
      # What could not be told is not learnt from, by critic and policy alike.
      told = ~jnp.isnan(earned.sum(1))
      rows = rows._replace(mask=rows.mask & told[:, None])
      (advantages, values, returns), explained = judged(
        params["critic"], rows, earned.sum(1)
      )
      figures["value_explained"] = explained
    batch = rollout_batches.RolloutBatch(
      rows,
      advantages,
      old,
      said if loss.kl is not None else None,
      values,
      returns,
    )
    return Credited(batch, earned.sum(1), figures)

  return credit
