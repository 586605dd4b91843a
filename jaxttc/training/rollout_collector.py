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

A batch may serve several steps, whole or in parts. It is held in the training
state until it has, with the log-probabilities that it was sampled with.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.allocators import ragged_groups, rollout_strategies
from jaxttc.inference import controllers, generation, rollouts
from jaxttc.models import transformer
from jaxttc.predictors import success_rate
from jaxttc.tasks import prompt_sets
from jaxttc.training import (
  loop,
  policy_gradient,
  policy_losses,
  rollout_batches,
  rollout_config,
  rollout_figures,
  rollout_plans,
  rollout_reading,
  rollout_rewards,
)

_PLAIN = policy_losses.PolicyLossConfig()
_RIGHT = rollout_rewards.RewardConfig()


@flax.struct.dataclass
class Collected:
  """What is remembered between steps; saved with the training state.

  Attributes:
    tracker: rewards seen of each task.
    draws: i32[], how often rollouts were drawn.
    rollouts: i32[], drawn so far, all that were thrown away among them.
    tokens: i32[], sampled so far.
    filling: of a strategy that redraws, the batch that is being filled.
    batch: what is learnt from, where it serves several steps; else None.
    left: i32[], steps that it still serves.
    figures: what was logged of it; else empty.
  """

  tracker: success_rate.TrackerState
  draws: Int[Array, ""]
  rollouts: Int[Array, ""]
  tokens: Int[Array, ""]
  filling: rollout_batches.Filling | None
  batch: rollout_batches.RolloutBatch | None
  left: Int[Array, ""]
  figures: dict[str, Array]


def collector(
  prompts: prompt_sets.PromptSet,
  model: transformer.Transformer,
  rule: generation.StopRule,
  config: rollout_config.RolloutConfig,
  seed: int,
  *,
  loss: policy_losses.PolicyLossConfig = _PLAIN,
  rewards: rollout_rewards.RewardConfig = _RIGHT,
  reference: Any = None,
  reader: transformer.Transformer | None = None,
  chunk: int = 64,
  tasks: Callable[[int], Int[np.ndarray, " m"]] | None = None,
) -> loop.Collector:
  """What `loop.fit(collector=)` takes; it needs no batches.

  Args:
    prompts: all problems.
    model: the policy; its parameters come with each call.
    rule: where a solution ends.
    config: how rollouts are drawn.
    seed: of the sampling.
    loss: what is learnt by: it says which log-probabilities a batch needs.
    rewards: what a rollout earns.
    reference: parameters of the reference, for a divergence in loss or rewards;
      None if there is none.
    reader: the policy as the trainer computes it; `model` if None.
    chunk: rows whose log-probabilities are computed at once.
    tasks: number of a draw -> its tasks; `rollout_plans.batches` if None.

  Returns:
    The collector; the objective reads `rollout_batches.RolloutBatch`.

  Raises:
    ValueError: if a config cannot be, or the reference is missing or would be
      ignored.
  """
  config.validate()
  loss.validate()
  rewards.validate(config.advantage, config.max_tokens)
  refers = loss.kl is not None or bool(rewards.kl_weight)
  if refers != (reference is not None):
    raise ValueError(
      f"the reference is {'missing' if refers else 'ignored'}: loss.kl="
      f"{loss.kl!r}, rewards.kl_weight={rewards.kl_weight}"
    )
  if tasks is None:
    tasks = rollout_plans.batches(len(prompts.problems), config, seed)
  strategy = rollout_strategies.make(config.strategy, config.rules)
  tracker = success_rate.tracker(config.estimator, window=config.window)
  table = rollouts.Prompts(
    jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
  )
  sampler = controllers.Sampler(temperature=config.temperature)
  rows, longest = config.rows, config.max_tokens
  plan = rollout_plans.planner(config, seed)
  several = config.updates > 1

  def init() -> Collected:
    def empty():
      return rollout_batches.empty(
        rows,
        prompts.tokens.shape[1] + longest,
        longest,
        old=loss.sampler_cap is not None,
        reference=loss.kl is not None,
      )

    zero = jnp.int32(0)
    held = Collected(
      tracker=tracker.init(len(prompts.problems)),
      draws=zero,
      rollouts=zero,
      tokens=zero,
      filling=(
        rollout_batches.Filling(empty(), zero) if strategy.redraw else None
      ),
      batch=empty() if several else None,
      left=zero,
      figures={},
    )
    if several:
      held = held.replace(figures=blank(held))
    return jax.tree.map(jnp.array, held)  # a buffer each

  def blank(held):
    ids, none = jnp.zeros(config.tasks, jnp.int32), jnp.zeros(rows)

    def seen():
      planned = plan(held.tracker, ids, held.draws)
      return planned.figures | figures(
        held, planned.groups, none, none, planned.groups.task, none > 0
      )

    shapes = jax.eval_shape(seen)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def figures(held, groups, right, earned, length, finished):
    return rollout_figures.figures(
      right, earned if rewards.shapes else None, groups, length, finished
    ) | {"rollouts": held.rollouts, "sampled_tokens": held.tokens}

  @jax.jit
  def sample(params, ids, task, keys) -> rollouts.Rollouts:
    own = rollouts.Prompts(table.tokens[ids], table.length[ids])
    return rollouts.sample(
      model, params, own, task, keys, rule, sampler, columns=longest
    )

  def read(params, found):
    return rollout_reading.read_all(
      model if reader is None else reader,
      params,
      found,
      columns=longest,
      temperature=config.temperature,
      chunk=chunk,
    )

  @jax.jit
  def learn(params, referred, held: Collected, ids, planned, sampled, parts):
    groups, right = planned.groups, parts["right"]
    own = rollouts.Prompts(table.tokens[ids], table.length[ids])
    found = rollouts.sequences(own, sampled)
    old = None if loss.sampler_cap is None else read(params, found)
    said = read(referred, found) if refers else None
    divergence = None
    if rewards.kl_weight:
      divergence = sampled.logprobs.sum(1) - said.sum(1)
    earned = rollout_rewards.earned(
      rewards, parts, sampled.length, divergence, longest
    )
    batch = rollout_batches.RolloutBatch(
      found,
      rollout_rewards.advantages(
        rewards, earned, groups.task, config.tasks, config.advantage
      ),
      old,
      said if loss.kl is not None else None,
    )
    told = ~jnp.isnan(right)
    held = held.replace(
      tracker=tracker.update(
        held.tracker,
        ids,
        jnp.where(told, groups.task, config.tasks),
        rollout_plans.told_ranks(told, groups),
        right,
      ),
      draws=held.draws + 1,
      rollouts=held.rollouts + groups.counts.sum(),
      tokens=held.tokens + sampled.length.sum(),
    )
    seen = planned.figures | figures(
      held, groups, right, earned.sum(1), sampled.length, sampled.finished
    )
    if strategy.redraw:
      sums, size = (
        ragged_groups.group_sums(jnp.where(told, x, 0.0), groups)
        for x in (right, 1.0)
      )
      filling, batch = rollout_batches.fill(
        held.filling, batch, groups, (sums > 0) & (sums < size), config.group
      )
      held = held.replace(filling=filling)
    if several:
      some = policy_gradient.live(loss, batch).any()
      left = jnp.where(some, config.updates, 1).astype(jnp.int32)
      held = held.replace(batch=batch, left=left, figures=seen)
    return batch, held, seen

  @jax.jit
  def serve(held: Collected):
    update = config.updates - held.left
    batch = rollout_batches.part(
      held.batch, update % config.minibatches, config.minibatches
    )
    return batch, held.left - 1

  def graded(groups, sampled, ids) -> dict[str, Float[np.ndarray, " b"]]:
    which = np.append(ids, len(prompts.problems))[np.asarray(groups.task)]
    tokens, finished = np.asarray(sampled.tokens), np.asarray(sampled.finished)
    # A row that was cut fails, whatever the grader made of it.
    found = {"right": np.where(finished, prompts.grade(which, tokens), 0.0)}
    if "answered" in rewards.parts:
      found["answered"] = prompts.answered(which, tokens) * finished
    if "finished" in rewards.parts:
      found["finished"] = finished
    return {name: x.astype(np.float32) for name, x in found.items()}

  def collect(params: Any, held: Collected, given: Any, step: int):
    del given, step  # tasks go by draws, of which there may be fewer
    if int(held.left):
      seen = held.figures
    else:
      draw = int(held.draws)
      ids = tasks(draw)
      planned = plan(held.tracker, ids, np.int32(draw))
      sampled = sample(params, ids, planned.groups.task, planned.keys)
      parts = graded(planned.groups, sampled, ids)
      batch, held, seen = learn(
        params, reference, held, ids, planned, sampled, parts
      )
      if not several:
        return batch, held, seen
    batch, left = serve(held)
    # The figures stay in the state, whose memory the next step takes over.
    return batch, held.replace(left=left), jax.tree.map(np.array, seen)

  return loop.Collector(init, collect)
