# SPDX-License-Identifier: Apache-2.0
"""Reinforcement learning whose rollouts go where they teach: the recipe.

First a small model is trained on worked problems until some of them are easy
for it, some hard and some out of reach; then it goes on by policy gradient on
its own solutions, graded right or wrong, with rollouts allocated by a strategy.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import transformer
from jaxttc.tasks import prompt_sets
from jaxttc.training import (
  loop,
  low_rank,
  modular_model,
  policy_gradient,
  policy_losses,
  prompt_files,
  recipe_parts,
  rollout_collector,
  rollout_config,
  rollout_evaluation,
  rollout_rewards,
)


@dataclasses.dataclass(kw_only=True)
class RolloutRecipe:
  """Trains a policy by reinforcement, from rewards of right and wrong.

  Attributes:
    start: the policy's file, or the name of one that ships; None to train
      `base` first, in the folder `base` of the workdir.
    base: see `start`.
    task: what is asked: generated problems, or those of files.
    problems: training problems; rates are tracked for each.
    held_out: problems of the test split, for the figures of each evaluation.
    samples: solutions a problem, of an evaluation.
    check_steps: whether a solution is right only if all of its lines are; else
      the answer decides, and guesses are rewarded. Of generated problems only.
    rollouts: how rollouts are drawn, and how many steps they serve.
    rewards: what a rollout earns.
    loss: the policy loss. With "token_mean" a task with many rollouts weighs
      more; there is no other aggregation by groups. The reference of its
      divergence is where training starts.
    adapters: low-rank ones to train in place of the model; None for all of it.
    train: steps, rate and bookkeeping. Of its sizes, `batch_size` is how many
      rollouts are read for gradients at once, and `length` how many tokens a
      prompt with its rollout may have.
  """

  start: str | None = None
  base: modular_model.ModularModelRecipe | None = None
  task: prompt_sets.ModularTask | prompt_files.PromptFile
  problems: int = 256
  held_out: int = 128
  samples: int = 4
  check_steps: bool = True
  rollouts: rollout_config.RolloutConfig
  rewards: rollout_rewards.RewardConfig = dataclasses.field(
    default_factory=rollout_rewards.RewardConfig
  )
  loss: policy_losses.PolicyLossConfig
  adapters: low_rank.LowRankConfig | None = None
  train: loop.TrainConfig

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for part in (self.task, self.rollouts, self.loss, self.train):
      part.validate()
    self.rewards.validate(self.rollouts.advantage, self.rollouts.max_tokens)
    if self.adapters is not None:
      self.adapters.validate()
    if self.start is None and self.base is None:
      raise ValueError("expected start, a policy, or base, how to train one")
    for name in ("problems", "held_out", "samples"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if self.train.length <= self.rollouts.max_tokens:
      raise ValueError(
        f"train.length={self.train.length} leaves no room for a prompt before "
        f"rollouts.max_tokens={self.rollouts.max_tokens}"
      )
    # Else found by what uses them, after `base` was trained.
    if self.rollouts.tasks > self.problems:
      raise ValueError(
        f"rollouts.tasks={self.rollouts.tasks} a step, of {self.problems} "
        "problems"
      )
    if self.train.accumulate != 1:
      raise ValueError(
        f"train.accumulate={self.train.accumulate}: expected 1; "
        "train.batch_size says how many rollouts are read at once"
      )

  def run(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> dict[str, Any]:
    """Trains, and returns the parameters.

    A ledger gets the steps of the optimizer; of the sampling it gets nothing.

    Raises:
      ValueError: if the recipe cannot be.
    """
    policy = self._checked_policy(workdir, mesh, ledger)
    trained = self._fit(policy, workdir, mesh, ledger).params
    return self._merger(policy)(trained)

  def fit(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> loop.TrainState:
    """As `run`, but returns the whole state.

    Its `collected` is a `rollout_collector.Collected`, whose tracker knows how
    many rollouts each problem was given and how they went. Its parameters are
    the adapters, if there are any.

    Raises:
      ValueError: if the recipe cannot be.
    """
    policy = self._checked_policy(workdir, mesh, ledger)
    return self._fit(policy, workdir, mesh, ledger)

  def _checked_policy(self, workdir, mesh, ledger):
    self.validate()
    return self.policy(workdir, mesh, ledger)

  def _fit(self, policy, workdir, mesh, ledger):
    sets = self._sets(policy)
    merged = self._merger(policy)
    drawn, tx = self.rollouts, loop.optimizer(self.train)
    trained = transformer.Transformer(policy.config, **self.train.compute())
    gradients = policy_gradient.gradients(
      trained,
      self.loss,
      columns=drawn.max_tokens,
      temperature=drawn.temperature,
      chunk=self.train.batch_size,
    )
    init_params = lambda _: jax.tree.map(jnp.array, policy.params)  # noqa: E731
    if self.adapters is not None:
      gradients = low_rank.gradients(gradients, policy.params, self.adapters)
      init_params = lambda key: low_rank.init(  # noqa: E731
        key, policy.params, self.adapters
      )
    refers = self.loss.kl is not None or self.rewards.kl_weight
    collector = rollout_collector.collector(
      sets["train"],
      # Else ratios would tell the precision of sampler and trainer apart.
      policy.model.clone(dtype=trained.dtype),
      policy.stop_rule,
      drawn,
      self.train.seed,
      reader=trained,
      loss=self.loss,
      rewards=self.rewards,
      reference=policy.params if refers else None,
      chunk=self.train.batch_size,
    )
    evaluate = self._evaluator(policy, sets)
    return loop.fit(
      self.train,
      None,
      init_params,
      None,
      workdir,
      tx=policy_gradient.unless_zero(tx),
      gradients=gradients,
      collector=collector._replace(
        collect=lambda params, *rest: collector.collect(merged(params), *rest)
      ),
      evaluate=lambda params, step: evaluate(merged(params), step),
      mesh=mesh,
      meta=self.describe(),
      ledger=ledger,
    )

  def _merger(self, policy):
    """What makes a model of what is trained."""
    if self.adapters is None:
      return lambda params: params
    return jax.jit(lambda x: low_rank.merge(policy.params, x, self.adapters))

  def measure(self, workdir: str) -> dict[str, float]:
    """What an evaluation finds before the first step."""
    self.validate()
    policy = self.policy(workdir)
    return self._evaluator(policy, self._sets(policy))(policy.params, 0)

  def policy(
    self,
    workdir: str,
    mesh: jax.sharding.Mesh | None = None,
    ledger: ledger_lib.Ledger | None = None,
  ) -> bundle.Bundle:
    """The policy to start from; trained, or taken up, if need be."""
    if self.start is not None:
      found = bundle.load(self.start)
      if found.kind != "language_model":
        raise ValueError(
          f"start={self.start!r} holds a {found.kind}, not a language_model"
        )
      return found
    params = self.base.run(str(pathlib.Path(workdir) / "base"), mesh, ledger)
    return recipe_parts.word_model(
      "language_model", self.base.model, params, self.base.describe()
    )

  def describe(self) -> dict[str, Any]:
    """The recipe as a JSON-ready dict; kept beside what it trained."""
    return recipe_parts.described("rollouts", self)

  def export(self, params: dict[str, Any], path: str) -> None:
    """Writes the trained model: a file, or a directory if it began as one."""
    if self.start is not None:  # its own tokenizer, in its own format
      recipe_parts.export_tuned(self, params, path)
      return
    made = recipe_parts.word_model(
      "language_model", self.base.model, params, self.describe()
    )
    bundle.save(path, made)

  def _sets(self, policy) -> dict[str, prompt_sets.PromptSet]:
    width = self.train.length - self.rollouts.max_tokens
    counts = (
      ("train", "train", self.problems),
      ("held_out", "test", self.held_out),
    )
    return {
      name: self.task.prompt_set(
        split,
        count,
        self.train.seed,
        policy,
        width=width,
        check_steps=self.check_steps,
      )
      for name, split, count in counts
    }

  def _evaluator(self, policy, sets):
    return rollout_evaluation.evaluator(
      policy,
      sets,
      samples=self.samples,
      columns=self.rollouts.max_tokens,
      temperature=self.rollouts.temperature,
    )
