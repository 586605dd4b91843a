# SPDX-License-Identifier: Apache-2.0
"""What is logged of a step's rollouts."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.allocators import ragged_groups
from jaxttc.training import group_advantages

_BINS = ("0", "to_0.2", "to_0.8", "below_1", "1")


def figures(
  right: Float[Array, " b"],
  earned: Float[Array, " b"] | None,
  groups: ragged_groups.RaggedGroups,
  length: Int[Array, " b"],
  finished: Bool[Array, " b"],
) -> dict[str, Float[Array, ""]]:
  """Means over a step's rollouts.

  Args:
    right: 1 or 0; NaN where the grader could not tell.
    earned: what each earned; None if that is `right`.
    groups: whose they are.
    length: tokens of each.
    finished: which ended by themselves.

  Returns:
    f32[] each: `reward`, the share that is right; `undecided`, the share that
    could not be told; `earned`, if there is such; `finished`; `rollout_tokens`;
    and the figures of `group_advantages.group_metrics`.
  """
  tasks = groups.counts.shape[0]
  seen = group_advantages.group_metrics(right, groups.task, tasks)
  told = groups.real & ~jnp.isnan(right)
  real = jnp.maximum(groups.real.sum(), 1)

  def mean(values):
    kept = groups.real & ~jnp.isnan(values)
    return jnp.where(kept, values, 0.0).sum() / jnp.maximum(kept.sum(), 1)

  found = {
    "reward": mean(right),
    "undecided": (groups.real & ~told).sum() / real,
    "effective_gradient_ratio": seen.effective_gradient_ratio,
    "effective_prompt_ratio": seen.effective_prompt_ratio,
    "positive_coverage": seen.positive_coverage,
    "negative_coverage": seen.negative_coverage,
    "finished": (finished & groups.real).sum() / real,
    "rollout_tokens": length.sum() / real,
  }
  if earned is not None:
    found["earned"] = mean(earned)
  return found | {
    f"difficulty_{name}": seen.difficulty[i] for i, name in enumerate(_BINS)
  }
