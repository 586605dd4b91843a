# SPDX-License-Identifier: Apache-2.0
"""How a step's rollouts are drawn, and how often they are learnt from."""

import dataclasses

from jaxttc.allocators import rollout_allocation, rollout_strategies
from jaxttc.predictors import success_rate
from jaxttc.training import group_advantages


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
    updates: steps of the optimizer that a step's rollouts serve.
    minibatches: parts that they are cut into, one an update, in turn; so there
      are `updates` / `minibatches` passes over them.
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
  updates: int = 1
  minibatches: int = 1

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("tasks", "max_tokens", "updates", "minibatches"):
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
    if self.updates % self.minibatches or self.rows % self.minibatches:
      raise ValueError(
        f"rollouts.minibatches={self.minibatches} must divide rollouts.updates="
        f"{self.updates} and the {self.rows} rollouts of a step"
      )

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
