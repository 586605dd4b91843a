# SPDX-License-Identifier: Apache-2.0
"""Solutions that were sampled: their rewards, and what is made of them.

The reward of a solution is the bi-level one: what is left of the horizon when
it ends, in tokens, if it is right; else 0.
"""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.evaluation import estimators
from jaxttc.inference import rollouts
from jaxttc.tasks import prompt_sets
from jaxttc.training import chi2_ball

SELECTIONS = ("vote", "best_of_n", "weighted_vote", "any")


class Traces(NamedTuple):
  """Solutions of P problems, S of each; rank by rank, not problem by problem.

  Row r * P + p is the r-th solution of problem p.

  Attributes:
    prompts: the problems.
    rows: `rollouts.Sequences` of P * S rows.
    length: i32[S, P], sampled tokens.
    right: f32[S, P], 1 for a right answer, in time; else 0.
    answers: S lists of the P answers as they were written; None for none,
      or for one that was cut.
  """

  prompts: prompt_sets.PromptSet
  rows: rollouts.Sequences
  length: Int[np.ndarray, "s p"]
  right: Float[np.ndarray, "s p"]
  answers: list[list[str | None]]

  def rewards(self, horizon: int) -> Float[np.ndarray, "s p"]:
    """Bi-level rewards, in tokens."""
    return self.right * (horizon + 1 - self.length)

  def take(self, rank: Any, problem: Any) -> rollouts.Sequences:
    """Rows of some solutions."""
    at = np.asarray(rank) * self.right.shape[1] + np.asarray(problem)
    return jax.tree.map(lambda x: x[at], self.rows)


def first_right(
  traces: Traces, problems: int, wanted: int
) -> tuple[Int[np.ndarray, "2 n"], int]:
  """The first right solutions of some problems, and what finding them took.

  Args:
    traces: of the base.
    problems: how many are looked at, from the first.
    wanted: solutions, n.

  Returns:
    (rank, problem) of each, and how many solutions were checked.

  Raises:
    ValueError: if there are fewer right ones.
  """
  found = np.argwhere(traces.right[:, :problems] > 0)[:wanted]
  if len(found) < wanted:
    raise ValueError(
      f"only {len(found)} of {traces.right.shape[0] * problems} solutions are "
      f"right, {wanted} are to be cloned; raise drawn, or train the base longer"
    )
  rank, problem = found[-1]
  return found.T, int(rank * problems + problem + 1)


def tilted(
  rewards: Float[np.ndarray, "s p"], kappa: float, seed: int
) -> Int[np.ndarray, " p"]:
  """One solution a problem, drawn from the best policy of its ball.

  Args:
    rewards: of the base's solutions, true or expected ones.
    kappa: radius of the chi-square ball around the base.
    seed: of the draws.
  """
  chances = np.asarray(_weights(jnp.asarray(rewards.T, jnp.float32), kappa))
  below = np.cumsum(chances / chances.sum(1, keepdims=True), axis=1)
  drawn = np.random.default_rng(seed).random((len(chances), 1))
  return (below < drawn).sum(1).clip(max=len(rewards) - 1)


@functools.partial(jax.jit, static_argnums=1)
def _weights(rewards, kappa):
  return jax.vmap(lambda row: chi2_ball.chi2_tilt(row, kappa).weights)(rewards)


def scored(traces: Traces, horizon: int) -> dict[str, float]:
  """Means of one solution a problem."""
  return {
    "reward": float(traces.rewards(horizon).mean()),
    "accuracy": float(traces.right.mean()),
    "tokens": float(traces.length.mean()),
  }


def accuracy(
  traces: Traces, chance: np.ndarray | None = None
) -> dict[str, float]:
  """Share of problems right, one answer being taken of all samples."""
  samples, count = traces.right.shape
  found: dict[str, list[float]] = {name: [] for name in SELECTIONS}
  for p in range(count):
    right = traces.right[:, p] > 0
    written = [answers[p] for answers in traces.answers]
    names = sorted({answer for answer in written if answer is not None})
    ids = np.array([-1 if a is None else names.index(a) for a in written])
    votes = estimators.class_counts(ids, right)
    found["vote"].append(
      estimators.maj_at_k(votes.counts, votes.correct, samples, votes.abstained)
    )
    found["any"].append(float(right.any()))
    if chance is not None:
      best = estimators.best_of_n_at_k(chance[:, p], right, samples)
      found["best_of_n"].append(best)
      found["weighted_vote"].append(_weighted(written, right, chance[:, p]))
  return {name: float(np.mean(x)) for name, x in found.items() if x}


def _weighted(written: Sequence[str | None], right, chance) -> float:
  """Whether the answer of the greatest summed chance is right."""
  total: dict[str, float] = {}
  for answer, own in zip(written, chance, strict=True):
    if answer is not None:
      total[answer] = total.get(answer, 0.0) + float(own)
  if not total:
    return 0.0
  taken = max(total, key=lambda answer: total[answer])
  return float(right[[answer == taken for answer in written]].any())
