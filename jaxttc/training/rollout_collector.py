# SPDX-License-Identifier: Apache-2.0
"""Rollouts of the present policy, given to tasks by a strategy, with rewards.

A step has M tasks and B = M * group rollouts, for most strategies. Success
rates seen so far say how many of them each task gets; the policy's own
parameters sample them in one batch of B rows; the grader, on the host, says
which are right; and that is noted for the next time the task comes round. What
is noted is part of the training state, so a resumed run gives the same rollouts
to the same tasks.

Dynamic sampling keeps the rollouts of mixed groups until a batch is full, and
only then is there a step of the optimizer; all that it draws is counted.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.allocators import (
  ragged_groups,
  rollout_allocation,
  rollout_strategies,
)
from jaxttc.inference import controllers, generation, rollouts
from jaxttc.models import transformer
from jaxttc.predictors import success_rate
from jaxttc.tasks import prompt_sets
from jaxttc.training import group_advantages, loop, policy_gradient

_BINS = ("0", "to_0.2", "to_0.8", "below_1", "1")


@dataclasses.dataclass(kw_only=True)
class RolloutConfig:
  """How a step's rollouts are drawn.

  Attributes:
    strategy: one of `rollout_strategies.NAMES`.
    tasks: tasks a step, M.
    group: rollouts a task, on average.
    n_min: least rollouts of a task.
    n_max: most rollouts of a task.
    fallback: whether tasks that never succeeded get what others do not need.
    estimator: one of `success_rate.ESTIMATORS`.
    window: rewards that it remembers.
    advantage: one of `group_advantages.KINDS`.
    temperature: of the sampler.
    max_tokens: longest rollout; what is cut there fails.
  """

  strategy: str = "knapsack"
  tasks: int = 32
  group: int = 8
  n_min: int = 2
  n_max: int = 128
  fallback: bool = True
  estimator: str = "latest_visit"
  window: int = 16
  advantage: str = "grpo"
  temperature: float = 1.0
  max_tokens: int = 64

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("tasks", "max_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"rollouts.{name} must be at least 1, got {getattr(self, name)}"
        )
    if not 2 <= self.n_min <= self.group <= self.n_max:
      raise ValueError(
        f"rollouts.n_min={self.n_min}, group={self.group}, n_max={self.n_max}: "
        "expected 2 <= n_min <= group <= n_max, since a group of one teaches "
        "nothing"
      )
    if not self.temperature > 0:
      raise ValueError(
        f"rollouts.temperature must be positive, got {self.temperature}"
      )
    if self.advantage not in group_advantages.KINDS:
      raise ValueError(
        f"rollouts.advantage={self.advantage!r} is not one of "
        f"{', '.join(group_advantages.KINDS)}"
      )
    rollout_strategies.make(self.strategy, self.rules)
    success_rate.tracker(self.estimator, window=self.window)

  @property
  def rules(self) -> rollout_allocation.RolloutRules:
    """Floors and ceilings of the knapsack."""
    return rollout_allocation.RolloutRules(
      n_min=self.n_min,
      n_max=self.n_max,
      n_default=self.group,
      n_failed=self.n_min,
      n_solved=self.n_min,
      fallback=self.fallback,
    )

  @property
  def rows(self) -> int:
    """Rollouts a step, B."""
    scale = rollout_strategies.make(self.strategy, self.rules).scale
    return scale * self.tasks * self.group


@flax.struct.dataclass
class Collected:
  """What is remembered between steps; saved with the training state.

  Attributes:
    tracker: rewards seen of each task.
    rollouts: i32[], drawn so far, all that were thrown away among them.
    tokens: i32[], sampled so far.
    kept: of a strategy that redraws, the batch that is being filled.
    filled: i32[], its rows so far.
  """

  tracker: success_rate.TrackerState
  rollouts: Int[Array, ""]
  tokens: Int[Array, ""]
  kept: policy_gradient.RolloutBatch | None
  filled: Int[Array, ""]


class Plan(NamedTuple):
  """Who gets how many of a step's rollouts.

  Attributes:
    groups: the batch's layout.
    keys: key[B].
    figures: metrics of the allocation.
  """

  groups: ragged_groups.RaggedGroups
  keys: Array
  figures: dict[str, Array]


def batches(
  problems: int, config: RolloutConfig, seed: int
) -> Callable[[int], Int[np.ndarray, " m"]]:
  """Tasks of each step: every epoch has all of them once, in its own order.

  Raises:
    ValueError: if a step has more tasks than there are problems.
  """
  if config.tasks > problems:
    raise ValueError(
      f"rollouts.tasks={config.tasks} a step, of {problems} problems"
    )
  steps = problems // config.tasks

  def batch(step: int) -> Int[np.ndarray, " m"]:
    epoch, place = divmod(step, steps)
    order = np.random.default_rng((seed, epoch)).permutation(problems)
    found = order[place * config.tasks : (place + 1) * config.tasks]
    return found.astype(np.int32)

  return batch


def collector(
  prompts: prompt_sets.PromptSet,
  model: transformer.Transformer,
  rule: generation.StopRule,
  config: RolloutConfig,
  seed: int,
) -> loop.Collector:
  """What `loop.fit(collector=)` takes; its batches are those of `batches`.

  Args:
    prompts: all problems.
    model: the policy; its parameters come with each call.
    rule: where a solution ends.
    config: how rollouts are drawn.
    seed: of the sampling.

  Returns:
    The collector; the objective reads `policy_gradient.RolloutBatch`.

  Raises:
    ValueError: if the config cannot be.
  """
  config.validate()
  strategy = rollout_strategies.make(config.strategy, config.rules)
  tracker = success_rate.tracker(config.estimator, window=config.window)
  table = rollouts.Prompts(
    jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
  )
  sampler = controllers.Sampler(temperature=config.temperature)
  rows, tasks = config.rows, config.tasks
  key = jax.random.key(seed)

  def init() -> Collected:
    kept = None
    if strategy.redraw:
      kept = _empty(rows, prompts.tokens.shape[1] + config.max_tokens)
    return Collected(
      tracker.init(len(prompts.problems)),
      jnp.int32(0),
      jnp.int32(0),
      kept,
      jnp.int32(0),
    )

  @jax.jit
  def plan(seen, ids, step) -> Plan:
    share, draw = jax.random.split(jax.random.fold_in(key, step))
    known = tracker.estimate(seen, ids)
    given = (known.p, known.valid)
    if strategy.posterior:
      given = tracker.evidence(seen, ids)
    counts = strategy.counts(*given, rows, share)
    _, info = rollout_allocation.split(known.p, known.valid, rows, config.rules)
    groups = ragged_groups.layout(counts, rows)
    figures = {
      "allocation_max": counts.max(),
      "allocation_min": counts.min(),
      "estimates_valid": known.valid.mean(),
    }
    if config.strategy == "knapsack":
      price = jnp.where(jnp.isfinite(info.price), info.price, 0.0)
      figures |= {
        "dual_price": price,
        "next_gain": info.next_gain,
        "allocation_fallback": info.fallback,
      }
    keys = rollouts.row_keys(draw, groups.of_rows(ids), groups.rank)
    return Plan(groups, keys, figures)

  @jax.jit
  def draw(params, ids, task, keys) -> rollouts.Rollouts:
    own = rollouts.Prompts(table.tokens[ids], table.length[ids])
    return rollouts.sample(
      model,
      params,
      own,
      task,
      keys,
      rule,
      sampler,
      columns=config.max_tokens,
    )

  @jax.jit
  def learn(held: Collected, ids, groups, sampled, rewards):
    advantages = group_advantages.group_advantages(
      rewards, groups.task, tasks, config.advantage
    )
    own = rollouts.Prompts(table.tokens[ids], table.length[ids])
    found = policy_gradient.RolloutBatch(
      rollouts.sequences(own, sampled), advantages
    )
    held = held.replace(
      tracker=tracker.update(
        held.tracker, ids, groups.task, groups.rank, rewards
      ),
      rollouts=held.rollouts + groups.counts.sum(),
      tokens=held.tokens + sampled.length.sum(),
    )
    figures = _figures(rewards, groups, tasks, sampled)
    if strategy.redraw:
      held, found = _fill(held, found, groups, rewards, config)
    return (
      found,
      held,
      figures
      | {
        "rollouts": held.rollouts,
        "sampled_tokens": held.tokens,
      },
    )

  def collect(params: Any, held: Collected, ids, step: int):
    planned = plan(held.tracker, ids, step)
    groups = planned.groups
    sampled = draw(params, ids, groups.task, planned.keys)
    task = np.asarray(groups.task)
    which = np.append(ids, len(prompts.problems))[task]
    finished = np.asarray(sampled.finished)
    rewards = prompts.grade(which, np.asarray(sampled.tokens)) * finished
    batch, held, figures = learn(held, ids, groups, sampled, rewards)
    return batch, held, planned.figures | figures

  return loop.Collector(init, collect)


def _figures(rewards, groups, tasks, sampled) -> dict[str, Float[Array, ""]]:
  seen = group_advantages.group_metrics(rewards, groups.task, tasks)
  real = jnp.maximum(groups.real.sum(), 1)
  figures = {
    "reward": (rewards * groups.real).sum() / real,
    "effective_gradient_ratio": seen.effective_gradient_ratio,
    "effective_prompt_ratio": seen.effective_prompt_ratio,
    "positive_coverage": seen.positive_coverage,
    "negative_coverage": seen.negative_coverage,
    "finished": (sampled.finished & groups.real).sum() / real,
    "rollout_tokens": sampled.length.sum() / real,
  }
  return figures | {
    f"difficulty_{name}": seen.difficulty[i] for i, name in enumerate(_BINS)
  }


def _empty(rows: int, width: int) -> policy_gradient.RolloutBatch:
  """A batch of padding; every field its own buffer, since state is donated."""
  zeros = lambda: jnp.zeros((rows, width), jnp.int32)  # noqa: E731
  return policy_gradient.RolloutBatch(
    rollouts.Sequences(
      tokens=zeros(),
      segments=zeros(),
      positions=zeros(),
      targets=zeros(),
      mask=jnp.zeros((rows, width), bool),
      logprobs=jnp.zeros((rows, width)),
    ),
    jnp.zeros(rows),
  )


def _fill(held, found, groups, rewards, config):
  """Files mixed groups; hands the batch out when it is full, else padding."""
  rows, size = found.advantages.shape[0], config.group
  sums = ragged_groups.group_sums(rewards, groups)
  mixed = (sums > 0) & (sums < groups.counts)
  kept, _ = rollout_strategies.kept_groups(
    mixed, size, (rows - held.filled) // size
  )
  of_row = groups.of_rows(kept) & groups.real
  place = jnp.where(of_row, held.filled + jnp.cumsum(of_row) - 1, rows)
  merged = jax.tree.map(
    lambda old, new: old.at[place].set(new, mode="drop"), held.kept, found
  )
  filled = held.filled + of_row.sum()
  full = filled >= rows
  nothing = jax.tree.map(jnp.zeros_like, merged)
  choose = lambda yes, no: jax.tree.map(  # noqa: E731
    lambda a, b: jnp.where(full, a, b), yes, no
  )
  return (
    held.replace(
      kept=choose(nothing, merged),
      filled=jnp.where(full, 0, filled).astype(jnp.int32),
    ),
    choose(merged, nothing),
  )
