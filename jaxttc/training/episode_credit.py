# SPDX-License-Identifier: Apache-2.0
"""Rewards for progress: each episode of a trace gets what it gained.

J_j is the success rate of an answer that is forced after j episodes. The
progress of episode j is J_j - J_{j-1}; it is credited to the tokens of its own
episode only. Summed over an episode and all later ones it telescopes to
J_k - J_{j-1}, a shaping of the outcome that leaves the expected gradient as it
was: `telescoped` is there to be compared with.

Outcome and bonus are normalised apart from each other, so that the one of
greater variance does not drown the other.

Reference:
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

CREDITS = ("episode", "telescoped")


def progress(values: Float[Array, "*b j"]) -> Float[Array, "*b i"]:
  """J_j - J_{j-1} of each episode.

  Args:
    values: J_0 .. J_k, success rates of forced answers.

  Returns:
    f[.., k]; sums to J_k - J_0.
  """
  return jnp.diff(values, axis=-1)


def bonus(
  values: Float[Array, "*b j"], credit: str = "episode"
) -> Float[Array, "*b i"]:
  """What each episode is given for progress.

  Args:
    values: J_0 .. J_k.
    credit: "episode", its own progress, or "telescoped", that of all from it
      on.

  Raises:
    ValueError: for an unknown credit.
  """
  if credit not in CREDITS:
    raise ValueError(f"credit {credit!r} is not one of {', '.join(CREDITS)}")
  own = progress(values)
  if credit == "episode":
    return own
  return jnp.flip(jnp.cumsum(jnp.flip(own, -1), -1), -1)


def advantages(
  outcome: Float[Array, "g n"],
  bonuses: Float[Array, "g n k"],
  alpha: float,
) -> Float[Array, "g n k"]:
  """Advantages of episodes: outcome and bonus, each inside its group.

  The outcome is centred and divided by the group's standard deviation (ddof
  1), as in GRPO. The bonus of episode j is centred by the group's mean at j,
  and divided by the standard deviation of all the group's centred bonuses: an
  episode whose bonuses all agree is not blown up.

  Args:
    outcome: reward of each of n rollouts of g prompts.
    bonuses: of their episodes.
    alpha: weight of the bonus; 0 leaves outcome-reward GRPO.
  """
  others = max(outcome.shape[1] - 1, 1)

  def scaled(centred, axes, count):
    spread = jnp.sqrt((centred**2).sum(axes, keepdims=True) / count)
    return jnp.where(spread > 1e-6, centred / (spread + 1e-6), 0.0)

  base = scaled(outcome - outcome.mean(1, keepdims=True), 1, others)
  centred = bonuses - bonuses.mean(1, keepdims=True)
  extra = scaled(centred, (1, 2), others * bonuses.shape[2])
  return base[..., None] + alpha * extra


def ragged_advantages(
  bonuses: Float[Array, "b k"],
  there: Bool[Array, "b k"],
  task: Int[Array, " b"],
  tasks: int,
) -> Float[Array, "b k"]:
  """Advantages of episodes by their bonus alone, in groups of any size.

  The bonus of episode j is centred by the mean of the group's rollouts that
  have a j-th episode, and divided by the standard deviation of all the step's
  centred bonuses. Dividing by a group's own would make a rare gain count more
  where fewer rollouts have it, and so pull towards trying everything equally.

  Args:
    bonuses: of K episodes of each rollout.
    there: which episodes a rollout has; the others get 0.
    task: its task, in [0, tasks); `tasks` for padding.
    tasks: groups; static.
  """
  there = there & (task < tasks)[:, None]
  add = lambda x: jax.ops.segment_sum(x, task, num_segments=tasks)  # noqa: E731
  counts = add(there.astype(jnp.float32))
  means = add(jnp.where(there, bonuses, 0.0)) / jnp.maximum(counts, 1.0)
  own = jnp.minimum(task, tasks - 1)
  centred = jnp.where(there, bonuses - means[own], 0.0)
  spread = jnp.sqrt((centred**2).sum() / jnp.maximum(there.sum(), 1))
  return jnp.where(spread > 1e-6, centred / (spread + 1e-6), 0.0)


def spread_over_tokens(
  per_episode: Float[Array, "b k"], episode: Int[Array, "b t"]
) -> Float[Array, "b t"]:
  """Advantages of tokens from those of episodes.

  Args:
    per_episode: advantage of each episode.
    episode: of each token; -1 for prompt, forced answers and padding, which
      get 0.
  """
  found = jnp.take_along_axis(per_episode, jnp.maximum(episode, 0), axis=1)
  return jnp.where(episode >= 0, found, 0.0)


def sampled_values(
  key: jax.Array, values: Float[Array, "*b j"], answers: int
) -> Float[Array, "*b j"]:
  """Unbiased estimates of success rates from so many forced answers each."""
  if answers < 1:
    raise ValueError(f"answers is {answers}; expected at least 1")
  drawn = jax.random.uniform(key, (answers, *values.shape)) < values[None]
  return drawn.mean(0)
