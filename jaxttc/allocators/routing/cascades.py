# SPDX-License-Identifier: Apache-2.0
"""Cascades: ask a cheap model, look at its answer, and go on only if need be.

Models are asked in order of cost until an answer is trusted (its confidence
reaches the model's threshold), or the money for one question is spent.
Confidence comes from wherever it may: a judge, agreement of samples,
log-probabilities, a learned scorer. A run on logged answers is pure JAX, so
thresholds are searched by `vmap`.

References:
  Chen et al. (2023), FrugalGPT, arXiv:2305.05176 (learned scorer, thresholds).
  Hu et al. (2024), RouterBench, arXiv:2403.12031 (the judge that errs).
"""

from collections.abc import Sequence
import functools
import itertools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

Policy = Literal["last", "best"]


class Logged(NamedTuple):
  """Answers of all models on all questions, models in the order of asking.

  Attributes:
    scores: f32[n, K], how good each answer is.
    costs: f32[n, K], what it costs, its judging included.
    confidence: f32[n, K], how far each answer is trusted.
  """

  scores: Float[Array, "n K"]
  costs: Float[Array, "n K"]
  confidence: Float[Array, "n K"]


class Outcome(NamedTuple):
  """What a cascade did on each question.

  Attributes:
    score: f32[n], of the answer that is returned.
    cost: f32[n], of all models that were asked.
    asked: i32[n], how many they were.
  """

  score: Float[Array, " n"]
  cost: Float[Array, " n"]
  asked: Int[Array, " n"]


def log(
  scores: np.ndarray,
  costs: np.ndarray,
  confidence: np.ndarray,
  order: Sequence[int] | None = None,
) -> Logged:
  """Puts models into the order of asking: by mean cost, or as told.

  Args:
    scores: [n, K], how good each answer is.
    costs: [n, K], what it costs, its judging included.
    confidence: [n, K], how far each answer is trusted.
    order: columns in the order of asking; None: by mean cost.

  Raises:
    ValueError: if shapes differ, something is not finite, or the order names a
      model twice.
  """
  arrays = [np.asarray(a, np.float32) for a in (scores, costs, confidence)]
  if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 2:
    raise ValueError(
      "cascade: expected scores, costs and confidence of one shape [n, K], got "
      f"{[list(a.shape) for a in arrays]}"
    )
  if not all(np.isfinite(a).all() for a in arrays):
    raise ValueError("cascade: expected finite scores, costs and confidence")
  if order is None:
    order = np.argsort(arrays[1].mean(0), kind="stable").tolist()
  if len(set(order)) != len(order):
    raise ValueError(f"cascade: a model comes twice in the order {list(order)}")
  return Logged(*(jnp.asarray(a[:, list(order)]) for a in arrays))


def run(
  logged: Logged,
  thresholds: Float[Array, " K"] | Float[np.ndarray, " K"],
  *,
  cap: Float[Array, ""] | float = np.inf,
  policy: Policy = "last",
) -> Outcome:
  """Asks in order until an answer is trusted; pure, for use under jit.

  A model is asked if no answer before it reached its threshold, and what was
  spent on the question together with its own cost stays within the cap. The
  first is always asked.

  Args:
    logged: answers, models in the order of asking.
    thresholds: f32[K]; the last one's does not matter. Infinity always goes
      on, minus infinity always stops.
    cap: most that a question may cost, beyond which no further model is asked.
    policy: return the "last" answer, or the one of "best" confidence.
  """
  unsure = logged.confidence < jnp.asarray(thresholds)[None]
  before = jnp.cumsum(logged.costs, 1)
  first = jnp.zeros((len(unsure), 1), bool)
  allowed = (before <= cap).at[:, 0].set(True)
  going = jnp.concatenate([~first, unsure[:, :-1]], 1) & allowed
  asked = jnp.cumprod(going, 1).astype(bool)
  count = asked.sum(1)
  if policy == "last":
    shown = count - 1
  else:
    shown = jnp.argmax(jnp.where(asked, logged.confidence, -jnp.inf), 1)
  rows = jnp.arange(len(unsure))
  return Outcome(
    logged.scores[rows, shown], jnp.where(asked, logged.costs, 0).sum(1), count
  )


@functools.partial(jax.jit, static_argnames="policy")
def _utilities(logged, thresholds, price, cap, policy):
  """Mean score - price * cost of each row of thresholds [T, K]."""

  def utility(row):
    outcome = run(logged, row, cap=cap, policy=policy)
    return (outcome.score - price * outcome.cost).mean()

  return jax.lax.map(utility, thresholds, batch_size=64)


def best_thresholds(
  logged: Logged,
  price: float,
  *,
  grid: int = 11,
  rounds: int = 3,
  cap: float = np.inf,
  policy: Policy = "last",
) -> Float[np.ndarray, " K"]:
  """Thresholds of greatest mean score - price * cost on a calibration sample.

  Each threshold is one of the sample's quantiles of its model's confidence, or
  always stops, or never. Up to three models all combinations are tried; of
  more, one model after the other is improved, for some rounds.

  Args:
    logged: answers on questions for calibration.
    price: score that a unit of cost is worth.
    grid: quantiles a model.
    rounds: passes over more than three models.
    cap: as `run`.
    policy: as `run`.

  Returns:
    f64[K]; the last is minus infinity.

  Raises:
    ValueError: if the price is negative, or fewer than two quantiles are asked
      for.
  """
  if not price >= 0 or grid < 2:
    raise ValueError(f"expected price >= 0 and grid >= 2, got {price}, {grid}")
  models = logged.scores.shape[1]
  levels = np.linspace(0, 1, grid)
  menus = [
    np.concatenate(
      [[-np.inf], np.unique(np.quantile(column, levels)), [np.inf]]
    )
    for column in np.asarray(logged.confidence).T[:-1]
  ]

  def best(rows) -> np.ndarray:
    rows = np.array([[*row, -np.inf] for row in rows], np.float32)
    worth = _utilities(logged, rows, price, cap, policy)
    return rows[int(np.argmax(worth))]

  if models <= 3:
    return best(itertools.product(*menus))
  found = np.full(models, -np.inf, np.float32)
  for _ in range(rounds):
    for place, menu in enumerate(menus):
      rows = np.tile(found[:-1], (len(menu), 1))
      rows[:, place] = menu
      found = best(rows)
  return found


class Chosen(NamedTuple):
  """A cascade for a price.

  Attributes:
    models: columns of the models that are asked, in their order.
    thresholds: f64[K], of these.
    worth: mean score - price * cost on the calibration sample.
  """

  models: tuple[int, ...]
  thresholds: Float[np.ndarray, " K"]
  worth: float

  def run(self, logged: Logged, *, policy: Policy = "last") -> Outcome:
    """The cascade on answers of all models; see `run`."""
    part = Logged(*(each[:, list(self.models)] for each in logged))
    return run(part, self.thresholds, policy=policy)


def best_cascade(
  logged: Logged,
  price: float,
  *,
  longest: int = 3,
  grid: int = 11,
  policy: Policy = "last",
) -> Chosen:
  """Which models to ask at all, and their thresholds, for a price.

  All lists of up to so many models are tried, as in FrugalGPT: a model that
  must be asked before a better one may cost more than it saves.

  Args:
    logged: answers on questions for calibration, models in order of cost.
    price: score that a unit of cost is worth.
    longest: most models of a cascade, at least 1.
    grid: quantiles a model, as `best_thresholds`.
    policy: as `run`.

  Raises:
    ValueError: as `best_thresholds`, or if no model may be asked.
  """
  if longest < 1:
    raise ValueError(f"best_cascade: expected longest >= 1, got {longest}")
  best: Chosen | None = None
  models = range(logged.scores.shape[1])
  for count in range(1, min(longest, len(models)) + 1):
    for chosen in itertools.combinations(models, count):
      part = Logged(*(each[:, list(chosen)] for each in logged))
      found = best_thresholds(part, price, grid=grid, policy=policy)
      worth = float(
        _utilities(part, jnp.asarray(found)[None], price, np.inf, policy)[0]
      )
      if best is None or worth > best.worth:
        best = Chosen(chosen, found, worth)
  assert best is not None  # there is a model
  return best


def noisy_judge(
  correct: Bool[np.ndarray, "n K"], error: float, key: jax.Array
) -> Float[np.ndarray, "n K"]:
  """Confidence of a judge that tells right from wrong, except now and then.

  Args:
    correct: which answers are right.
    error: how often the judge says the opposite, in [0, 1].
    key: of the errors.

  Returns:
    f32[n, K], 1 where the judge says right, else 0.

  Raises:
    ValueError: if the error is out of range.
  """
  if not 0 <= error <= 1:
    raise ValueError(f"expected a judge's error in [0, 1], got {error}")
  wrong = np.asarray(jax.random.bernoulli(key, error, correct.shape))
  return (np.asarray(correct, bool) ^ wrong).astype(np.float32)


def agreement(answers: Int[Array, "n K S"]) -> Float[Array, "n K"]:
  """Self-consistency: the share of S samples that give the commonest answer.

  Args:
    answers: class ids of answers; negative ones agree with nothing.
  """
  same = answers[..., :, None] == answers[..., None, :]
  counts = (same & (answers >= 0)[..., None, :]).sum(-1)
  return jnp.where(answers >= 0, counts, 0).max(-1) / answers.shape[-1]


def mean_logprob(
  logprobs: Float[Array, "n K T"], present: Bool[Array, "n K T"]
) -> Float[Array, "n K"]:
  """Mean log-probability of an answer's tokens; minus infinity if it has none.

  Args:
    logprobs: of each token.
    present: which tokens there are.
  """
  count = present.sum(-1)
  total = jnp.where(present, logprobs, 0).sum(-1)
  return jnp.where(count > 0, total / jnp.maximum(count, 1), -jnp.inf)
