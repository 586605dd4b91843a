# SPDX-License-Identifier: Apache-2.0
"""How a step's rollouts are drawn, and how often they are learnt from."""

import dataclasses

from jaxttc.allocators import rollout_allocation, rollout_strategies
from jaxttc.inference import controllers
from jaxttc.predictors import success_rate
from jaxttc.training import group_advantages

CRITIC = "critic"


@dataclasses.dataclass(kw_only=True)
class RolloutConfig:
  """How a step's rollouts are drawn.

  Attributes:
    strategy: one of `rollout_strategies.NAMES`.
    tasks: tasks a step, M.
    group: rollouts a task, on average.
    n_min: least rollouts of a task.
    n_max: most rollouts of a task.
    tokens: of strategy "knapsack_tokens", what a step's rollouts are expected
      to cost at most; if None, what uniform groups of `group` would.
    fallback: whether tasks that never succeeded get what others do not need.
    estimator: one of `success_rate.ESTIMATORS`.
    window: rewards that it remembers.
    advantage: one of `group_advantages.KINDS`, inside groups; or "critic".
    temperature: of the sampler.
    top_k: most tokens that the sampler chooses from; None for all.
    top_p: it chooses from the likeliest that have this much mass together.
    min_p: and from those at least so many times as likely as the likeliest.
      What is cut so is cut from the trainer's ratios, too
      (`log_probs.of_sampler`); the reference of a divergence is never cut.
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
  tokens: int | None = None
  fallback: bool = True
  estimator: str = "latest_visit"
  window: int = 16
  advantage: str = "grpo"
  temperature: float = 1.0
  top_k: int | None = None
  top_p: float = 1.0
  min_p: float = 0.0
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
    least = 1 if self.advantage == CRITIC else 2
    if not least <= self.n_min <= self.group <= self.n_max:
      why = ", since a group of one teaches nothing" * (least > 1)
      raise ValueError(
        f"rollouts.n_min={self.n_min}, group={self.group}, n_max={self.n_max}: "
        f"expected {least} <= n_min <= group <= n_max{why}"
      )
    if not self.temperature > 0:
      raise ValueError(
        f"rollouts.temperature must be positive, got {self.temperature}"
      )
    try:
      self.sampler.validate()
    except ValueError as error:
      raise ValueError(f"rollouts.{error}") from None
    known = (*group_advantages.KINDS, CRITIC)
    if self.advantage not in known:
      raise ValueError(
        f"rollouts.advantage={self.advantage!r} is not one of "
        f"{', '.join(known)}"
      )
    strategy = rollout_strategies.make(self.strategy, self.rules)
    if strategy.priced:
      self._validate_tokens()
    elif self.tokens is not None:
      raise ValueError(
        f"rollouts.tokens={self.tokens} would be ignored by strategy "
        f"{self.strategy!r}"
      )
    success_rate.tracker(self.estimator, window=self.window)
    if self.updates % self.minibatches or self.rows % self.minibatches:
      raise ValueError(
        f"rollouts.minibatches={self.minibatches} must divide rollouts.updates="
        f"{self.updates} and the {self.rows} rollouts of a step"
      )

  def _validate_tokens(self):
    least, most = (
      self.tasks * units * self.max_tokens for units in (self.n_min, self.group)
    )
    if self.tokens is not None and not least <= self.tokens <= most:
      raise ValueError(
        f"rollouts.tokens={self.tokens}: expected {least} (tasks x n_min x "
        f"max_tokens, which floors may cost) to {most} (tasks x group x "
        "max_tokens)"
      )
    if self.tasks * self.n_max * self.max_tokens >= 1 << 31:
      raise ValueError(
        f"rollouts.tasks={self.tasks} x n_max={self.n_max} x max_tokens="
        f"{self.max_tokens}: expected less than 2^31 tokens"
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
  def sampler(self) -> controllers.Sampler:
    """How tokens are drawn."""
    return controllers.Sampler(
      temperature=self.temperature,
      top_k=self.top_k,
      top_p=self.top_p,
      min_p=self.min_p,
    )

  @property
  def rows(self) -> int:
    """Rollouts a step, B."""
    scale = rollout_strategies.make(self.strategy, self.rules).scale
    return scale * self.tasks * self.group
