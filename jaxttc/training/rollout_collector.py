# SPDX-License-Identifier: Apache-2.0
"""Rollouts of the present policy, given to tasks by a strategy, with rewards.

A step has M tasks and B = M * group rollouts, for most strategies. Success
rates seen so far say how many of them each task gets; the policy's own
parameters sample them in one batch of B rows; the grader, on the host, says
which are right; and that is noted for the next time the task comes round. What
is noted is part of the training state (`rollout_memory`), so a resumed run
gives the same rollouts to the same tasks, wherever in the file they are then.

Dynamic sampling keeps the rollouts of mixed groups until a batch is full, and
only then is there a step of the optimizer; all that it draws is counted.

A batch may serve several steps, whole or in parts. It is held in the training
state until it has, with the log-probabilities that it was sampled with.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators import ragged_groups, rollout_strategies
from jaxttc.inference import generation, rollouts
from jaxttc.models import transformer
from jaxttc.predictors import rollout_length, success_rate
from jaxttc.tasks import problem_digest, prompt_sets
from jaxttc.training import (
  critic_network,
  loop,
  policy_gradient,
  policy_losses,
  rollout_batches,
  rollout_config,
  rollout_credit,
  rollout_figures,
  rollout_memory,
  rollout_plans,
  rollout_progress,
  rollout_rewards,
)

Collected = rollout_memory.Collected

_PLAIN = policy_losses.PolicyLossConfig()
_RIGHT = rollout_rewards.RewardConfig()


def collector(
  prompts: prompt_sets.PromptSet,
  model: transformer.Transformer,
  rule: generation.StopRule,
  config: rollout_config.RolloutConfig,
  seed: int,
  *,
  loss: policy_losses.PolicyLossConfig = _PLAIN,
  rewards: rollout_rewards.RewardConfig = _RIGHT,
  progress: rollout_progress.ProgressConfig | None = None,
  reference: Any = None,
  reader: transformer.Transformer | None = None,
  chunk: int = 64,
  tasks: Callable[[int], Int[np.ndarray, " m"]] | None = None,
  critic: critic_network.CriticConfig | None = None,
  carry: bool = False,
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
    progress: what its episodes earn beside that; None for nothing.
    reference: parameters of the reference, for a divergence in loss or rewards;
      None if there is none.
    reader: the policy as the trainer computes it; `model` if None.
    chunk: rows whose log-probabilities are computed at once.
    tasks: number of a draw -> its tasks; `rollout_plans.batches` if None.
    critic: what its values do, if advantages are a critic's; the parameters
      of each call are then {"policy": .., "critic": ..}.
    carry: whether a run may go on with other problems than it began with; see
      `rollout_memory.taken_up`.

  Returns:
    The collector; the objective reads `rollout_batches.RolloutBatch`, and
    `rollout_memory.Collected` is what it remembers.

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
  if (critic is None) == (config.advantage == rollout_config.CRITIC):
    raise ValueError(
      f"rollouts.advantage={config.advantage!r} goes with "
      f"{'a critic' if critic is None else 'no critic'}"
    )
  if rewards.of_length and prompts.target is None:
    raise ValueError(
      f"rewards.parts={rewards.parts}: the prompts name no length; expected a "
      "task whose prompts do"
    )
  if tasks is None:
    tasks = rollout_plans.batches(len(prompts.problems), config, seed)
  strategy = rollout_strategies.make(config.strategy, config.rules)
  tracker = success_rate.tracker(config.estimator, window=config.window)
  table = rollouts.Prompts(
    jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
  )
  rows, longest = config.rows, config.max_tokens
  plan = rollout_plans.planner(config, seed)
  credit = rollout_credit.crediting(
    model if reader is None else reader, config, loss, rewards, critic, chunk
  )
  force = None
  if progress is not None:
    force = rollout_progress.forcing(
      progress, prompts, model, rule, config.sampler
    )
  several = config.updates > 1
  present = problem_digest.digests(prompts.problems)

  def init() -> Collected:
    def empty():
      return rollout_batches.empty(
        rows,
        prompts.tokens.shape[1] + longest,
        longest,
        old=loss.sampler_cap is not None,
        reference=loss.kl is not None,
        critic=critic is not None,
        by_token=progress is not None,
      )

    zero = jnp.int32(0)
    held = Collected(
      digests=jnp.asarray(present),
      tracker=tracker.init(len(prompts.problems)),
      lengths=(
        rollout_length.init(len(prompts.problems)) if strategy.priced else None
      ),
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
      planned = plan(held.tracker, held.lengths, ids, held.draws)
      found = figures(
        held, planned.groups, none, none, planned.groups.task, none > 0
      )
      more = {} if critic is None else {"value_explained": none.sum()}
      if progress is not None:
        more |= dict.fromkeys(rollout_progress.FIGURES, none.sum())
      return planned.figures | found | more

    shapes = jax.eval_shape(seen)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

  def figures(held, groups, right, earned, length, finished):
    return rollout_figures.figures(
      right, earned if rewards.shapes else None, groups, length, finished
    ) | {"rollouts": held.rollouts, "sampled_tokens": held.tokens}

  @jax.jit
  def sample(params, place, task, keys) -> rollouts.Rollouts:
    own = rollouts.Prompts(table.tokens[place], table.length[place])
    return rollouts.sample(
      model, params, own, task, keys, rule, config.sampler, columns=longest
    )

  @jax.jit
  def branch_keys(keys):  # tokens of a rollout are drawn with 0 to longest - 1
    return jax.vmap(jax.random.fold_in, (0, None))(keys, longest)

  @jax.jit
  def learn(
    params, referred, held, ids, place, planned, sampled, parts, forced
  ):
    groups, right = planned.groups, parts["right"]
    own = rollouts.Prompts(table.tokens[place], table.length[place])
    batch, earned, more = credit(params, referred, own, sampled, groups, parts)
    tokens = sampled.length.sum()
    if forced is not None:
      advantages = batch.advantages.reshape(rows, -1)
      bonus = rollout_progress.token_bonus(
        progress, forced, groups.task, config.tasks
      )
      batch = batch._replace(advantages=advantages + bonus)
      more |= rollout_progress.figures(forced)
      tokens = tokens + forced.tokens
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
      tokens=held.tokens + tokens,
    )
    if strategy.priced:
      held = held.replace(
        lengths=rollout_length.update(
          held.lengths, ids, groups.task, sampled.length
        )
      )
    found = figures(
      held, groups, right, earned, sampled.length, sampled.finished
    )
    seen = planned.figures | found | more
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
  def serve(held):
    update = config.updates - held.left
    batch = rollout_batches.part(
      held.batch, update % config.minibatches, config.minibatches
    )
    return batch, held.left - 1

  def graded(groups, sampled, place) -> dict[str, Float[np.ndarray, " b"]]:
    which = np.append(place, len(prompts.problems))[np.asarray(groups.task)]
    tokens, finished = np.asarray(sampled.tokens), np.asarray(sampled.finished)
    # A row that was cut fails, whatever the grader made of it.
    found = {"right": np.where(finished, prompts.grade(which, tokens), 0.0)}
    if "answered" in rewards.parts:
      found["answered"] = prompts.answered(which, tokens) * finished
    if "finished" in rewards.parts:
      found["finished"] = finished
    if rewards.of_length:
      # Rows of padding earn what their place in `learn` makes of them: nothing.
      aims = np.append(prompts.target, 1).astype(np.int32)[which]
      found |= rollout_rewards.length_parts(
        rewards, found["right"], np.asarray(sampled.length), aims
      )
    return {name: x.astype(np.float32) for name, x in found.items()}

  def collect(params: Any, held: Collected, given: Any, step: int):
    del given, step  # tasks go by draws, of which there may be fewer
    if int(held.left):
      seen = held.figures
    else:
      draw = int(held.draws)
      ids = tasks(draw)
      place = rollout_memory.places(held, ids, present)
      planned = plan(held.tracker, held.lengths, ids, np.int32(draw))
      acting = params if critic is None else params["policy"]
      sampled = sample(acting, place, planned.groups.task, planned.keys)
      parts = graded(planned.groups, sampled, place)
      forced = None
      if force is not None:
        keys = branch_keys(planned.keys)
        forced = force(acting, place, sampled, keys)
      batch, held, seen = learn(
        params, reference, held, ids, place, planned, sampled, parts, forced
      )
      if not several:
        return batch, held, seen
    batch, left = serve(held)
    # The figures stay in the state, whose memory the next step takes over.
    return batch, held.replace(left=left), jax.tree.map(np.array, seen)

  def resume(saved: Collected) -> Collected:
    return rollout_memory.taken_up(saved, init(), carry=carry)

  return loop.Collector(init, collect, resume)
