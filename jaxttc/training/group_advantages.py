# SPDX-License-Identifier: Apache-2.0
"""Advantages inside groups of unequal size, and how many groups taught.

Rewards come flat, a row a rollout, with the task that owns it; a row whose task
is one past the last is padding and has advantage 0. Statistics of groups are
segment sums, so that one program serves whatever sizes the groups have. A
group of one has nothing to compare with: its advantage is 0.

Take advantages of a whole step before it is cut into parts: a group must not
straddle two of them.

References:
  Shao et al. (2024), DeepSeekMath, arXiv:2402.03300 (GRPO).
  Liu et al. (2025), Understanding R1-Zero-like training, arXiv:2503.20783
    (Dr. GRPO).
  Ahmadian et al. (2024), Back to basics, arXiv:2402.14740 (RLOO).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

KINDS = ("grpo", "dr_grpo", "rloo")
_EDGES = (0.0, 0.2, 0.8, 1.0)


class GroupMetrics(NamedTuple):
  """What a step's groups looked like.

  Attributes:
    effective_gradient_ratio: f[], share of rollouts in mixed groups.
    effective_prompt_ratio: f[], share of groups, with any rollout, mixed.
    positive_coverage: f[], share of groups with a success.
    negative_coverage: f[], share of groups with a failure.
    difficulty: f[5], share of groups whose mean reward is 0, in (0, .2],
      (.2, .8), [.8, 1), and 1.
    largest: i32[], rollouts of the largest group.
  """

  effective_gradient_ratio: Float[Array, ""]
  effective_prompt_ratio: Float[Array, ""]
  positive_coverage: Float[Array, ""]
  negative_coverage: Float[Array, ""]
  difficulty: Float[Array, "5"]
  largest: Int[Array, ""]


def group_advantages(
  rewards: Float[Array, " b"],
  task: Int[Array, " b"],
  tasks: int,
  kind: str = "grpo",
  *,
  clip: float = 5.0,
) -> Float[Array, " b"]:
  """Advantage of each rollout inside its group.

  Args:
    rewards: of each rollout.
    task: its task, in [0, tasks); `tasks` for padding.
    tasks: groups; static.
    kind: "grpo", centred and divided by the standard deviation (ddof 1) plus
      1e-6; "dr_grpo", centred; "rloo", against the mean of the others.
    clip: largest absolute advantage of "grpo".

  Returns:
    f[B].

  Raises:
    ValueError: for an unknown kind.
  """
  if kind not in KINDS:
    raise ValueError(f"advantage {kind!r} is not one of {', '.join(KINDS)}")
  size, mean = _sizes_and_means(rewards, task, tasks)
  own = jnp.minimum(task, tasks - 1)
  centred = jnp.where(task < tasks, rewards - mean[own], 0.0)
  others = jnp.maximum(size - 1, 1)[own]
  if kind == "rloo":
    advantage = centred * size[own] / others
  elif kind == "grpo":
    spread = _sums(jnp.square(centred), task, tasks)[own] / others
    advantage = jnp.clip(centred / (jnp.sqrt(spread) + 1e-6), -clip, clip)
  else:
    advantage = centred
  return jnp.where(size[own] > 1, advantage, 0.0)


def group_metrics(
  rewards: Float[Array, " b"], task: Int[Array, " b"], tasks: int
) -> GroupMetrics:
  """Metrics of a step; rewards are 0 or 1.

  Args:
    rewards: of each rollout.
    task: as in `group_advantages`.
    tasks: groups; static.
  """
  size, mean = _sizes_and_means(rewards, task, tasks)
  drawn = size > 0
  mixed = drawn & (mean > 0) & (mean < 1)
  groups = jnp.maximum(drawn.sum(), 1)
  share = lambda which: (which & drawn).sum() / groups  # noqa: E731
  none, low, high, full = _EDGES
  bins = (
    mean <= none,
    (mean > none) & (mean <= low),
    (mean > low) & (mean < high),
    (mean >= high) & (mean < full),
    mean >= full,
  )
  return GroupMetrics(
    (size * mixed).sum() / jnp.maximum(size.sum(), 1),
    share(mixed),
    share(mean > 0),
    share(mean < 1),
    jnp.stack([share(which) for which in bins]),
    size.max().astype(jnp.int32),
  )


def _sizes_and_means(rewards, task, tasks):
  size = _sums(jnp.ones_like(rewards), task, tasks)
  return size, _sums(rewards, task, tasks) / jnp.maximum(size, 1)


def _sums(values, task, tasks):
  return jax.ops.segment_sum(values, task, num_segments=tasks)
