# SPDX-License-Identifier: Apache-2.0
"""What a rollout earns: several rewards, weighed, and what is taken off.

Whether a rollout is right is what success rates and mixed groups are about.
What it earns may be more than that: a reward for any answer that can be read,
one for ending by itself, less for one that is nearly too long, less for leaving
the reference.

References:
  Yu et al. (2025), DAPO, arXiv:2503.14476 (overlong shaping).
  Liu et al. (2026), GDPO, arXiv:2601.05242 (each reward normalised).
"""

from collections.abc import Mapping
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.training import group_advantages, length_rewards, policy_losses

LENGTHS = {
  "lcpo_exact": length_rewards.lcpo_exact,
  "lcpo_max": length_rewards.lcpo_max,
}
"""Rewards of right answers whose length the prompt named."""
PARTS = ("right", "answered", "finished", *LENGTHS)


@dataclasses.dataclass(kw_only=True)
class RewardConfig:
  """What a rollout earns. Mutable, for flags to override.

  Attributes:
    parts: some of `PARTS`: "right", it ended by itself and the grader finds it
      right; "answered", it ended and an answer can be read off it, right or
      wrong; "finished", it ended. Each is 0 or 1. And for prompts that name a
      length "lcpo_exact" and "lcpo_max", as `length_rewards` has them: right
      and near it, in place of "right".
    weights: of each part.
    each: whether each reward is normalised inside its groups before they are
      added (GDPO), or their sum is.
    overlong: tokens at the end of `rollouts.max_tokens` over which a penalty
      grows from 0 to 1; 0 for none. It is taken off where a rollout of a group
      is right, and nowhere else: in a group that all failed nothing but length
      would differ, and advantages, which are scaled to the group, would teach
      short failures as firmly as right answers.
    kl_weight: of log p(rollout) - log p_ref(rollout), in nats, taken off: the
      estimator k1, whose gradient is right in a reward. The reference is where
      training started.
    alpha: of "lcpo_exact" and "lcpo_max", what a token is worth; None for the
      paper's, which is meant for lengths of thousands.
  """

  parts: tuple[str, ...] = ("right",)
  weights: tuple[float, ...] = (1.0,)
  each: bool = False
  overlong: int = 0
  kl_weight: float = 0.0
  alpha: float | None = None

  def validate(self, advantage: str, longest: int) -> None:
    """Raises ValueError, naming the field, for what cannot be or is ignored.

    Args:
      advantage: one of `group_advantages.KINDS`.
      longest: most tokens of a rollout.
    """
    unknown = set(self.parts) - set(PARTS)
    if not self.parts or unknown or len(set(self.parts)) < len(self.parts):
      raise ValueError(
        f"rewards.parts={self.parts}: expected some of {', '.join(PARTS)}, "
        "each once"
      )
    if len(self.weights) != len(self.parts) or 0 in self.weights:
      raise ValueError(
        f"rewards.weights={self.weights}: expected one for each of "
        f"{', '.join(self.parts)}, not 0"
      )
    if self.each and advantage != "grpo":
      raise ValueError(
        f"rewards.each would ignore rollouts.advantage={advantage!r}; expected "
        "'grpo'"
      )
    if not 0 <= self.overlong <= longest:
      raise ValueError(
        f"rewards.overlong={self.overlong}: expected 0 to "
        f"rollouts.max_tokens={longest}"
      )
    if not self.kl_weight >= 0:
      raise ValueError(
        f"rewards.kl_weight must not be negative, got {self.kl_weight}"
      )
    if self.alpha is not None:
      if not self.of_length:
        raise ValueError(
          f"rewards.alpha={self.alpha} would be ignored by parts {self.parts}; "
          f"expected one of {', '.join(LENGTHS)} among them"
        )
      if not 0 <= self.alpha < float("inf"):
        raise ValueError(
          f"rewards.alpha must be finite and not negative, got {self.alpha}"
        )

  @property
  def of_length(self) -> tuple[str, ...]:
    """The parts that need prompts which name a length."""
    return tuple(name for name in self.parts if name in LENGTHS)

  @property
  def shapes(self) -> bool:
    """Whether a rollout earns anything but 1 for being right."""
    plain = self.parts == ("right",) and tuple(self.weights) == (1.0,)
    return not plain or bool(self.overlong) or bool(self.kl_weight)


def length_parts(
  config: RewardConfig,
  right: Float[np.ndarray, " b"],
  lengths: Int[np.ndarray, " b"],
  targets: Int[np.ndarray, " b"],
) -> dict[str, Float[np.ndarray, " b"]]:
  """`RewardConfig.of_length`, of each rollout.

  Args:
    config: what is earned.
    right: 1 if a rollout ended and is right; NaN where it could not be told.
    lengths: tokens of each rollout, n.
    targets: tokens that its prompt named, N.

  Returns:
    By name; NaN where it could not be told.
  """
  alpha = length_rewards.ALPHA if config.alpha is None else config.alpha
  return {
    name: np.where(
      np.isnan(right),
      np.nan,
      np.asarray(LENGTHS[name](right == 1, lengths, targets, alpha=alpha)),
    )
    for name in config.of_length
  }


def earned(
  config: RewardConfig,
  parts: Mapping[str, Float[Array, " b"]],
  lengths: Int[Array, " b"],
  divergence: Float[Array, " b"] | None,
  longest: int,
  solved: Bool[Array, " b"],
) -> Float[Array, "b k"]:
  """Weighed rewards of each rollout; a row's sum is what it earned.

  Args:
    config: what is earned.
    parts: each of `config.parts`; NaN where it could not be told.
    lengths: tokens of each rollout.
    divergence: log p - log p_ref of each, if there is a `config.kl_weight`.
    longest: most tokens of a rollout.
    solved: whose group has a right rollout.
  """
  columns = [
    weight * parts[name]
    for name, weight in zip(config.parts, config.weights, strict=True)
  ]
  if config.overlong:
    late = policy_losses.overlong_penalty(lengths, longest, config.overlong)
    columns.append(jnp.where(solved, late, 0.0))
  if config.kl_weight:
    columns.append(-config.kl_weight * divergence)
  return jnp.stack(columns, axis=1)


def advantages(
  config: RewardConfig,
  rewards: Float[Array, "b k"],
  task: Int[Array, " b"],
  tasks: int,
  kind: str,
) -> Float[Array, " b"]:
  """Advantage of each rollout inside its group.

  Args:
    config: whether each reward is normalised.
    rewards: as `earned` returns them.
    task: as in `group_advantages.group_advantages`.
    tasks: groups; static.
    kind: one of `group_advantages.KINDS`.
  """
  if not config.each:
    return group_advantages.group_advantages(rewards.sum(1), task, tasks, kind)
  # Normalised rewards have forgotten their weights, so they come again.
  weights = jnp.array(
    [abs(w) for w in config.weights]
    + [1.0] * bool(config.overlong)
    + [config.kl_weight] * bool(config.kl_weight)
  )
  return group_advantages.several_rewards(rewards, weights, task, tasks)
