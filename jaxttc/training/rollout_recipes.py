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
import optax

from jaxttc.cost import ledger as ledger_lib
from jaxttc.inference import bundle
from jaxttc.models import transformer
from jaxttc.tasks import hidden_numbers, length_prompts, prompt_sets
from jaxttc.training import (
  critic_network,
  loop,
  low_rank,
  modular_model,
  policy_gradient,
  policy_losses,
  prompt_files,
  recipe_parts,
  recipes,
  rollout_collector,
  rollout_config,
  rollout_evaluation,
  rollout_progress,
  rollout_rewards,
  thinking,
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
    progress: what its episodes earn beside that (MRT); None for nothing.
    loss: the policy loss. With "token_mean" a task with many rollouts weighs
      more; there is no other aggregation by groups. The reference of its
      divergence is where training starts.
    critic: how a critic learns beside the policy, whose values make advantages;
      None for those inside groups. It has parameters of its own, and starts as
      the policy does.
    adapters: low-rank ones to train in place of the model; None for all of it.
    carry_rates: whether a run may be taken up with other problems, or another
      number of them, than it began with: what it knows of those that are left
      is kept. Without it such a run is refused. A file in another order is the
      same file.
    train: steps, rate and bookkeeping. Of its sizes, `batch_size` is how many
      rollouts are read for gradients at once, and `length` how many tokens a
      prompt with its rollout may have.
  """

  start: str | None = None
  base: (
    modular_model.ModularModelRecipe
    | recipes.LanguageModelRecipe
    | thinking.ThinkingModelRecipe
    | None
  ) = None
  task: (
    prompt_sets.ModularTask
    | hidden_numbers.HiddenTask
    | length_prompts.TargetedSums
    | prompt_files.PromptFile
  )
  problems: int = 256
  held_out: int = 128
  samples: int = 4
  check_steps: bool = True
  rollouts: rollout_config.RolloutConfig
  rewards: rollout_rewards.RewardConfig = dataclasses.field(
    default_factory=rollout_rewards.RewardConfig
  )
  progress: rollout_progress.ProgressConfig | None = None
  loss: policy_losses.PolicyLossConfig
  critic: critic_network.CriticConfig | None = None
  adapters: low_rank.LowRankConfig | None = None
  carry_rates: bool = False
  train: loop.TrainConfig

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for part in (self.task, self.rollouts, self.loss, self.train):
      part.validate()
    self.rewards.validate(self.rollouts.advantage, self.rollouts.max_tokens)
    for part in (self.progress, self.adapters):
      if part is not None:
        part.validate()
    targeted = isinstance(self.task, length_prompts.TargetedSums)
    if self.rewards.of_length and not targeted:
      raise ValueError(
        f"rewards.parts={self.rewards.parts}: the prompts of task name no "
        "length; expected length_prompts.TargetedSums"
      )
    self._validate_critic()
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

  def _validate_critic(self) -> None:
    if (self.critic is None) == (
      self.rollouts.advantage == rollout_config.CRITIC
    ):
      raise ValueError(
        f"rollouts.advantage={self.rollouts.advantage!r} goes with "
        f"{'a critic' if self.critic is None else 'critic=None'}"
      )
    if self.critic is not None:
      self.critic.validate()
      if self.adapters is not None:
        raise ValueError("adapters are of a policy without a critic; drop one")

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

    Its `collected` is a `rollout_memory.Collected`, whose tracker knows how
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
    drawn = self.rollouts
    trained = transformer.Transformer(policy.config, **self.train.compute())
    gradients = policy_gradient.gradients(
      trained,
      self.loss,
      columns=drawn.max_tokens,
      sampler=drawn.sampler,
      critic=self.critic,
      chunk=self.train.batch_size,
    )
    init_params = lambda _: jax.tree.map(jnp.array, policy.params)  # noqa: E731
    if self.adapters is not None:
      gradients = low_rank.gradients(gradients, policy.params, self.adapters)
      init_params = lambda key: low_rank.init(  # noqa: E731
        key, policy.params, self.adapters
      )
    if self.critic is not None:
      init_params = lambda _: {  # noqa: E731
        "policy": jax.tree.map(jnp.array, policy.params),
        "critic": critic_network.init(policy.params, policy.config.width),
      }
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
      progress=self.progress,
      reference=policy.params if refers else None,
      chunk=self.train.batch_size,
      critic=self.critic,
      carry=self.carry_rates,
    )
    # A critic is asked when rollouts are credited; else it is the policy alone.
    read = merged if self.critic is None else lambda params: params
    evaluate = self._evaluator(policy, sets)
    return loop.fit(
      self.train,
      None,
      init_params,
      None,
      workdir,
      tx=self._optimizer(),
      gradients=gradients,
      collector=collector._replace(
        collect=lambda params, *rest: collector.collect(read(params), *rest)
      ),
      evaluate=lambda params, step: evaluate(merged(params), step),
      mesh=mesh,
      meta=self.describe(),
      free=("carry_rates",) + ("problems", "task") * self.carry_rates,
      ledger=ledger,
    )

  def _optimizer(self):
    policy = policy_gradient.unless_zero(loop.optimizer(self.train))
    if self.critic is None:
      return policy
    rate = self.critic.learning_rate or self.train.learning_rate
    own = dataclasses.replace(self.train, learning_rate=rate)
    critic = policy_gradient.unless_zero(loop.optimizer(own))
    parts = {"policy": policy, "critic": critic}
    return optax.multi_transform(parts, {name: name for name in parts})

  def _merger(self, policy):
    """What makes a model of what is trained."""
    if self.critic is not None:
      return lambda params: params["policy"]
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
      sampler=self.rollouts.sampler,
    )
