# SPDX-License-Identifier: Apache-2.0
"""Rewards of progress for a trainer's rollouts (MRT, online).

Every rollout is stopped before its first episode and after each, and made to
answer a few times by the policy that sampled it. The share of right answers
estimates J_j; what an episode adds to it is its bonus, and goes to its own
tokens. Answers that are forced are paid for: their tokens are counted with
those of the rollouts.

Where an answer has one spelling, its probability says what samples would on
average, without their noise, and is read for the tokens of one.

Reference:
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572, section 5.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key
import numpy as np

from jaxttc.inference import controllers, forced_answers, generation, rollouts
from jaxttc.models import transformer
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import prompt_sets
from jaxttc.training import episode_credit

FIGURES = (
  "value_without_episodes",
  "value_of_stops",
  "stops",
  "forced_tokens",
)
"""The names of `figures`."""


# Not frozen, since flags override the fields of a recipe.
@dataclasses.dataclass(kw_only=True)
class ProgressConfig:
  """How progress is estimated and rewarded.

  Attributes:
    alpha: weight of the bonus beside the outcome; 0 or more.
    credit: one of `episode_credit.CREDITS`.
    episodes: most episodes of a rollout; further steps are left in the last.
    branches: answers forced at each stop; 0 to read the probability of the
      problem's answer, as it is spelled there, in place of sampling any.
    opening: the text that opens an answer; it is appended where a rollout is
      stopped.
    answer_tokens: longest answer behind it.
  """

  alpha: float = 1.0
  credit: str = "episode"
  episodes: int = 6
  branches: int = 4
  opening: str = "####"
  answer_tokens: int = 4

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for name, least in (("episodes", 1), ("branches", 0), ("answer_tokens", 1)):
      if getattr(self, name) < least:
        raise ValueError(
          f"progress.{name} must be at least {least}, got {getattr(self, name)}"
        )
    if not self.alpha >= 0:
      raise ValueError(f"progress.alpha must not be negative, got {self.alpha}")
    if self.credit not in episode_credit.CREDITS:
      raise ValueError(
        f"progress.credit={self.credit!r} is not one of "
        f"{', '.join(episode_credit.CREDITS)}"
      )
    if not self.opening:
      raise ValueError("progress.opening is empty; expected text")


class Forced(NamedTuple):
  """What was found by stopping rollouts.

  Attributes:
    stops: where they were stopped.
    values: f32[B, K + 1], share of right answers at each stop, or the chance of
      one; 0 where there is no stop.
    spent: f32[B, K + 1], tokens of an answer, its opening among them, on
      average.
    tokens: i32[], of all answers and openings.
  """

  stops: forced_answers.Stops
  values: Float[Array, "b k"]
  spent: Float[Array, "b k"]
  tokens: Int[Array, ""]


Forcing = Callable[..., Forced]


def forcing(
  config: ProgressConfig,
  prompts: prompt_sets.PromptSet,
  model: transformer.Transformer,
  rule: generation.StopRule,
  sampler: controllers.Sampler,
) -> Forcing:
  """What stops rollouts and grades their forced answers.

  Args:
    config: how often, and how.
    prompts: the problems, with their grader.
    model: the policy.
    rule: where steps end.
    sampler: how tokens are drawn.

  Returns:
    (params, ids i32[M] of the prompts, `rollouts.Rollouts` of them, key[B]) ->
    `Forced`. Grading is host code.

  Raises:
    ValueError: if the config cannot be.
  """
  config.validate()
  opening = prompts.tokenizer.encode(config.opening)
  table = rollouts.Prompts(
    jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
  )

  if not config.branches:
    return _reading(config, prompts, table, model, rule, sampler, opening)

  @jax.jit
  def answer(params, ids, sampled: rollouts.Rollouts, keys: Key[Array, " b"]):
    stops = forced_answers.find_stops(sampled, rule, config.episodes)
    return stops, forced_answers.force(
      model,
      params,
      rollouts.Prompts(table.tokens[ids], table.length[ids]),
      sampled,
      stops,
      keys,
      rule,
      sampler,
      opening=opening,
      branches=config.branches,
      columns=config.answer_tokens,
    )

  def force(params: Any, ids, sampled: rollouts.Rollouts, keys) -> Forced:
    stops, found = answer(params, ids, sampled, keys)
    tokens, finished = np.asarray(found.tokens), np.asarray(found.finished)
    asked = np.append(ids, len(prompts.problems))[np.asarray(sampled.task)]
    which = np.broadcast_to(asked[:, None, None], finished.shape)
    right = np.zeros(finished.shape, np.float32)
    head = np.broadcast_to(opening, (*tokens.shape[:-1], len(opening)))
    written = np.concatenate([head, tokens], axis=-1)
    # An answer that was cut, or that nobody can read, counts as wrong.
    graded = prompts.grade(which[finished], written[finished])
    right[finished] = np.nan_to_num(graded)
    length = np.asarray(found.length)
    spent = np.where(length > 0, length + len(opening), 0)
    return Forced(
      stops, right.mean(-1), spent.mean(-1, dtype=np.float32), spent.sum()
    )

  return force


def _reading(config, prompts, table, model, rule, sampler, opening) -> Forcing:
  """As `forcing`, by the probability of the right answer."""
  spelled = [
    prompts.tokenizer.encode(
      f"{config.opening} {problems_lib.gold(problem)}\n"
    )[len(opening) :]
    for problem in prompts.problems
  ]
  answers = np.full((len(spelled), max(map(len, spelled))), -1, np.int32)
  for row, ids in enumerate(spelled):
    answers[row, : len(ids)] = ids

  @jax.jit
  def read(params, ids, sampled: rollouts.Rollouts, keys) -> Forced:
    del keys  # nothing is drawn
    stops = forced_answers.find_stops(sampled, rule, config.episodes)
    wanted = jnp.asarray(answers)[ids]
    values = forced_answers.chances(
      model,
      params,
      rollouts.Prompts(table.tokens[ids], table.length[ids]),
      sampled,
      stops,
      wanted,
      opening=opening,
      temperature=sampler.temperature,
    )
    own = jnp.minimum(sampled.task, wanted.shape[0] - 1)
    size = len(opening) + (wanted >= 0).sum(1)[own]
    real = stops.there & (sampled.task < wanted.shape[0])[:, None]
    spent = jnp.where(real, size[:, None], 0)
    return Forced(stops, values, spent.astype(jnp.float32), spent.sum())

  return read


def token_bonus(
  config: ProgressConfig, forced: Forced, task: Int[Array, " b"], tasks: int
) -> Float[Array, "b s"]:
  """The weighed bonus of every sampled token; 0 behind the last stop.

  Args:
    config: weight and credit.
    forced: what was found by stopping rollouts.
    task: of each rollout; `tasks` for padding.
    tasks: groups; static.
  """
  real = forced.stops.there[:, 1:] & (task < tasks)[:, None]
  # A missing stop repeats the last one: nothing is gained behind it.
  last = jnp.maximum(forced.stops.there.sum(1) - 1, 0)
  ending = jnp.take_along_axis(forced.values, last[:, None], axis=1)
  values = jnp.where(forced.stops.there, forced.values, ending)
  bonuses = episode_credit.bonus(values, config.credit)
  scaled = episode_credit.ragged_advantages(bonuses, real, task, tasks)
  return config.alpha * episode_credit.spread_over_tokens(
    scaled, forced.stops.episode
  )


def figures(forced: Forced) -> dict[str, Float[Array, ""]]:
  """What is logged of a step.

  Args:
    forced: what was found by stopping rollouts.

  Returns:
    f32[] each: `value_without_episodes`, `value_of_stops` (of all stops, on
    average), `stops` a rollout, and `forced_tokens` of the step.
  """
  there = forced.stops.there
  first = jnp.maximum(there[:, 0].sum(), 1)
  held = jnp.where(there, forced.values, 0.0)
  found = (
    held[:, 0].sum() / first,
    held.sum() / jnp.maximum(there.sum(), 1),
    there.sum() / first,
    jnp.asarray(forced.tokens, jnp.float32),
  )
  return dict(zip(FIGURES, found, strict=True))
