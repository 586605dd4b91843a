# SPDX-License-Identifier: Apache-2.0
"""Ways to spend n traces of a language model, with and without a verifier.

Verifier-free training clones traces by supervised finetuning; which ones, is
all that differs between its methods. Verifier-based training fits a verifier to
n traces of the base labelled right or wrong (`training.outcome_verifier`), and
never asks the checker again: it clones what the verifier weighs up within a
chi-square ball, or goes on by policy gradient on the verifier's rewards.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import rollouts
from jaxttc.models import transformer
from jaxttc.studies import verifier_language_traces as traces_lib
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import prompt_sets
from jaxttc.training import (
  group_advantages,
  language_model,
  loop,
  outcome_verifier,
  packing,
  policy_gradient,
  policy_losses,
  rollout_batches,
  short_runs,
)


class RolloutPlan(NamedTuple):
  """Sizes of a policy-gradient run.

  Attributes:
    tasks: problems a step.
    group: rollouts a problem.
    passes: over the problems.
  """

  tasks: int
  group: int
  passes: int


class Bench:
  """One base policy, and programs of one horizon that all runs share."""

  def __init__(
    self,
    policy: bundle_lib.Bundle,
    horizon: int,
    width: int,
  ):
    """Sets up the programs; they are compiled when first called.

    Args:
      policy: the base.
      horizon: most tokens of a solution, H.
      width: tokens of the longest prompt.
    """
    self.policy, self.horizon, self.width = policy, horizon, width
    self.model = transformer.Transformer(
      policy.config, **loop.TrainConfig().compute()
    )
    self.clone_loss = language_model.objective(self.model)
    self._draw = jax.jit(self._sample)
    self._read = jax.jit(self._features)
    self._step = jax.jit(
      self._gradient_step, static_argnames=("group", "pessimism")
    )

  def prompts(self, problems, style: str) -> prompt_sets.PromptSet:
    """Problems that are asked for in a style."""
    return prompt_sets.prompt_set(
      problems, self.policy.tokenizer, style=style, width=self.width
    )

  def sample(
    self, params: Any, prompts: prompt_sets.PromptSet, samples: int, seed: int
  ) -> traces_lib.Traces:
    """Solutions of a policy; the same seed draws with the same keys."""
    count = len(prompts.problems)
    table = rollouts.Prompts(
      jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
    )
    key = jax.random.key(seed)
    found, right, answers, lengths = [], [], [], []
    for rank in range(samples):  # one shape, however many there are
      drawn = self._draw(params, table, jnp.arange(count), key, rank)
      tokens = np.asarray(drawn.tokens)
      graded = prompts.grade(np.arange(count), tokens)
      right.append(graded * np.asarray(drawn.finished))
      answers.append(
        [
          self._answer(row) if ended else None
          for row, ended in zip(tokens, np.asarray(drawn.finished), strict=True)
        ]
      )
      lengths.append(np.asarray(drawn.length))
      found.append(rollouts.sequences(table, drawn))
    rows = jax.tree.map(lambda *x: np.concatenate(x), *found)
    return traces_lib.Traces(
      prompts, rows, np.stack(lengths), np.stack(right), answers
    )

  def clone(self, rows, most: int, batch: int, epochs: int, rate, seed) -> Any:
    """Supervised finetuning of the base on rows, at most `most` of them."""
    return self._fit(
      self.clone_loss,
      self.policy.params,
      _packed(rows),
      most,
      batch,
      epochs,
      rate,
      seed,
    )

  def features(
    self,
    traces: traces_lib.Traces,
    problems: int | None = None,
    ranks: int | None = None,
  ) -> Float[np.ndarray, "s p f"]:
    """What a verifier reads of the first solutions of the first problems."""
    most, count = traces.right.shape
    at = np.arange(count if problems is None else problems)
    return np.stack(
      [
        self._read(traces.take(rank, at))
        for rank in range(most if ranks is None else ranks)
      ]
    )

  def chances(
    self,
    verifier: outcome_verifier.Verifier,
    traces: traces_lib.Traces,
    pessimism: float,
    problems: int | None = None,
  ) -> Float[np.ndarray, "s p"]:
    """The verifier's probability of each solution; 0 for one that was cut."""
    found = self.features(traces, problems)
    said = outcome_verifier.chances(
      verifier, jnp.asarray(found.reshape(-1, found.shape[-1])), pessimism
    )
    ended = traces.length[:, : found.shape[1]] < self.horizon
    return np.asarray(said).reshape(ended.shape) * ended

  def policy_gradient(
    self,
    verifier: outcome_verifier.Verifier,
    prompts: prompt_sets.PromptSet,
    plan: RolloutPlan,
    pessimism: float,
    rate: float,
    seed: int,
  ) -> tuple[Any, int]:
    """GRPO from the base on the verifier's rewards.

    Returns:
      The parameters, and the tokens that were sampled.
    """
    params = self.policy.params
    state = short_runs.optimizer().init(params)
    count, sampled = len(prompts.problems), 0
    a_pass = -(-count // plan.tasks)
    rng = np.random.default_rng((seed, count))
    for step in range(plan.passes * a_pass):
      place = step % a_pass
      if not place:
        order = np.resize(rng.permutation(count), a_pass * plan.tasks)
      ids = order[place * plan.tasks : (place + 1) * plan.tasks]
      params, state, tokens = self._step(
        params,
        state,
        verifier,
        rollouts.Prompts(prompts.tokens[ids], prompts.length[ids]),
        jax.random.fold_in(jax.random.key(seed), step),
        rate * short_runs.pace(step, plan.passes * a_pass),
        group=plan.group,
        pessimism=pessimism,
      )
      sampled += tokens
    return params, int(sampled)

  def _sample(self, params, table, task, key, rank):
    keys = rollouts.row_keys(key, task, jnp.broadcast_to(rank, task.shape))
    return rollouts.sample(
      self.policy.model,
      params,
      table,
      task,
      keys,
      self.policy.stop_rule,
      columns=self.horizon,
    )

  def _answer(self, tokens: Int[np.ndarray, " s"]) -> str | None:
    text = self.policy.tokenizer.decode(tokens[tokens >= 0])
    return problems_lib.find_answer(text)

  def _features(self, rows):
    return outcome_verifier.features(self.model, self.policy.params, rows)

  def _fit(self, loss, params, rows, most, batch, epochs, rate, seed):
    """A run whose program serves all runs of this horizon."""
    count = len(jax.tree.leaves(rows)[0])
    order, steps = short_runs.orders(count, batch, epochs, most, seed)
    padded = jax.tree.map(
      lambda x: np.pad(x, ((0, most - count),) + ((0, 0),) * (x.ndim - 1)),
      rows,
    )
    return short_runs.fit(
      loss, params, padded, order, steps, rate, jax.random.key(seed)
    )

  def _gradient_step(
    self, params, state, verifier, table, key, rate, group, pessimism
  ):
    """One batch of rollouts, their rewards, and a step of the optimizer."""
    tasks = table.length.shape[0]
    task = jnp.repeat(jnp.arange(tasks), group)
    keys = jax.random.split(key, task.size)
    drawn = rollouts.sample(
      self.policy.model,
      params,
      table,
      task,
      keys,
      self.policy.stop_rule,
      columns=self.horizon,
    )
    rows = rollouts.sequences(table, drawn)
    left = (self.horizon + 1 - drawn.length) * drawn.finished
    rewards = (
      outcome_verifier.chances(verifier, self._features(rows), pessimism) * left
    )
    advantages = group_advantages.group_advantages(rewards, task, tasks)
    grads, _ = policy_gradient.gradients(
      self.model,
      policy_losses.PolicyLossConfig(),
      columns=self.horizon,
      chunk=task.size,
    )(params, rollout_batches.RolloutBatch(rows, advantages), key)
    params, state = short_runs.descend(params, state, grads, rate)
    return params, state, drawn.length.sum()


def _packed(rows: rollouts.Sequences) -> packing.Packed:
  """Rows of one example each, whose sampled tokens are targets."""
  return packing.Packed(
    rows.tokens,
    rows.segments,
    rows.positions,
    rows.targets,
    np.asarray(rows.mask, np.float32),
    np.full(rows.tokens.shape, -1, np.float32),
  )
