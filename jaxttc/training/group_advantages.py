# SPDX-License-Identifier: Apache-2.0
"""Advantages inside groups of unequal size, and how many groups taught.

Rewards come flat, a row a rollout, with the task that owns it; a row whose task
is one past the last is padding and has advantage 0. Statistics of groups are
segment sums, so that one program serves whatever sizes the groups have. A
group of one has nothing to compare with: its advantage is 0. A reward that is
NaN could not be told: its row has advantage 0 and is left out of all means.

Take advantages of a whole step before it is cut into parts: a group must not
straddle two of them.

References:
  Shao et al. (2024), DeepSeekMath, arXiv:2402.03300 (GRPO).
  Liu et al. (2025), Understanding R1-Zero-like training, arXiv:2503.20783
    (Dr. GRPO).
  Ahmadian et al. (2024), Back to basics, arXiv:2402.14740 (RLOO).
  Hu et al. (2025), REINFORCE++, arXiv:2501.03262 (whitening over the batch).
  Liu et al. (2026), GDPO, arXiv:2601.05242 (several rewards).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

KINDS = ("grpo", "dr_grpo", "rloo", "batch_scaled")
_TINY = 1e-6  # keeps a deviation of 0 from dividing
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
    rewards: of each rollout; NaN where it could not be scored.
    task: its task, in [0, tasks); `tasks` for padding.
    tasks: groups; static.
    kind: "grpo", centred and divided by the standard deviation (ddof 1) plus
      1e-6; "dr_grpo", centred; "rloo", against the mean of the others;
      "batch_scaled", centred and divided by the standard deviation (ddof 1)
      of all rewards of the batch plus 1e-6.
    clip: largest absolute advantage of "grpo" and "batch_scaled"; the others
      keep the rewards' unit, and are not clipped.

  Returns:
    f[B].

  Raises:
    ValueError: for an unknown kind.
  """
  if kind not in KINDS:
    raise ValueError(f"advantage {kind!r} is not one of {', '.join(KINDS)}")
  rewards, task = _scored(rewards, task, tasks)
  size, mean = _sizes_and_means(rewards, task, tasks)
  own = jnp.minimum(task, tasks - 1)
  centred = jnp.where(task < tasks, rewards - mean[own], 0.0)
  others = jnp.maximum(size - 1, 1)[own]
  if kind == "rloo":
    advantage = centred * size[own] / others
  elif kind == "grpo":
    spread = _sums(jnp.square(centred), task, tasks)[own] / others
    advantage = jnp.clip(centred / (jnp.sqrt(spread) + _TINY), -clip, clip)
  elif kind == "batch_scaled":
    spread = _deviation(rewards, task < tasks)
    advantage = jnp.clip(centred / (spread + _TINY), -clip, clip)
  else:
    advantage = centred
  return jnp.where((size[own] > 1) & (task < tasks), advantage, 0.0)


def whiten(
  values: Float[Array, "*n"], real: Bool[Array, "*n"]
) -> Float[Array, "*n"]:
  """Mean 0 and standard deviation (ddof 1) 1 over what is real; 0 elsewhere.

  A batch of one real value has nothing to compare it with: it becomes 0.
  """
  count = jnp.maximum(real.sum(), 1)
  centred = jnp.where(
    real, values - jnp.where(real, values, 0).sum() / count, 0
  )
  return centred / (_deviation(values, real) + _TINY)


def several_rewards(
  rewards: Float[Array, "b k"],
  weights: Float[Array, " k"],
  task: Int[Array, " b"],
  tasks: int,
) -> Float[Array, " b"]:
  """Advantages of several rewards, each normalised before they are added.

  So a reward that varies little is not drowned by one that varies much, as it
  would be in their plain sum (GDPO).

  Args:
    rewards: K rewards of each rollout; a rollout that lacks one is left out.
    weights: of each reward.
    task: as in `group_advantages`.
    tasks: groups; static.

  Returns:
    f[B], whitened over the batch.
  """
  whole = jnp.isfinite(rewards).all(1)
  task = jnp.where(whole, task, tasks)
  rewards = jnp.where(whole[:, None], rewards, 0.0)
  each = jax.vmap(
    lambda r: group_advantages(r, task, tasks, "grpo"), in_axes=1, out_axes=1
  )(rewards)
  return whiten(each @ weights, task < tasks)


def group_metrics(
  rewards: Float[Array, " b"], task: Int[Array, " b"], tasks: int
) -> GroupMetrics:
  """Metrics of a step; rewards are 0 or 1.

  Args:
    rewards: of each rollout; NaN where it could not be scored.
    task: as in `group_advantages`.
    tasks: groups; static.
  """
  rewards, task = _scored(rewards, task, tasks)
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


def _scored(rewards, task, tasks):
  """Rewards and tasks, where a row without a reward is padding."""
  told = ~jnp.isnan(rewards)
  return jnp.where(told, rewards, 0.0), jnp.where(told, task, tasks)


def _deviation(values, real):
  """Standard deviation (ddof 1) over what is real, f32[]; 0 of one value."""
  count = real.sum()
  mean = jnp.where(real, values, 0.0).sum() / jnp.maximum(count, 1)
  squares = jnp.where(real, (values - mean) ** 2, 0.0).sum()
  return jnp.sqrt(squares / jnp.maximum(count - 1, 1))


def _sizes_and_means(rewards, task, tasks):
  size = _sums(jnp.ones_like(rewards), task, tasks)
  return size, _sums(rewards, task, tasks) / jnp.maximum(size, 1)


def _sums(values, task, tasks):
  return jax.ops.segment_sum(values, task, num_segments=tasks)
