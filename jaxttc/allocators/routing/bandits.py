# SPDX-License-Identifier: Apache-2.0
"""Routers that learn while they serve: only the chosen model's reward is seen.

The reward is score - price * cost. A bandit is a triple of pure functions, as
an optimiser is a pair; `play` runs one over a stream in a compiled scan.

References:
  Auer et al. (2002), Finite-time analysis of the multiarmed bandit (UCB1).
  Li et al. (2010), A contextual-bandit approach to personalized news article
    recommendation (LinUCB, disjoint), arXiv:1003.0146.
  Agrawal and Goyal (2013), Thompson sampling for contextual bandits with linear
    payoffs, arXiv:1209.3352.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Bandit(NamedTuple):
  """A learner as pure functions.

  Attributes:
    init: () -> state.
    choose: (state, x f32[D], key) -> model i32[].
    update: (state, x f32[D], model i32[], reward f32[]) -> state.
  """

  init: Callable[[], Any]
  choose: Callable[[Any, Any, Any], Any]
  update: Callable[[Any, Any, Any, Any], Any]


class Played(NamedTuple):
  """A stream that was served.

  Attributes:
    choices: i32[n].
    regret: f32[n], expected reward of the best model less that of the choice.
    state: what was learnt.
  """

  choices: Int[Array, " n"]
  regret: Float[Array, " n"]
  state: Any


class Tally(NamedTuple):
  """Mean reward of each model, f32[K], and how often it was chosen, f32[K]."""

  mean: Float[Array, " K"]
  count: Float[Array, " K"]


class Regressions(NamedTuple):
  """A ridge regression a model.

  Attributes:
    inverse: f32[K, D, D], of the ridge and the outer products of vectors.
    total: f32[K, D], vectors times rewards.
  """

  inverse: Float[Array, "K D D"]
  total: Float[Array, "K D"]


@functools.cache
def epsilon_greedy(models: int, epsilon: float = 0.1) -> Bandit:
  """The best mean so far, or with probability epsilon any model.

  Raises:
    ValueError: for fewer than two models, or an epsilon outside [0, 1].
  """
  _check(models, 0 <= epsilon <= 1, f"epsilon in [0, 1], got {epsilon}")

  def choose(state, x, key):
    del x
    explore, which = jax.random.split(key)
    untried = jnp.where(state.count == 0, jnp.inf, state.mean)
    other = jax.random.randint(which, (), 0, models)
    explores = jax.random.bernoulli(explore, epsilon)
    return jnp.where(explores, other, jnp.argmax(untried))

  return Bandit(functools.partial(_tally, models), choose, _count)


@functools.cache
def ucb(models: int, width: float = 1.0) -> Bandit:
  """The greatest mean + width * sqrt(2 ln t / count).

  Raises:
    ValueError: for fewer than two models, or a negative width.
  """
  _check(models, width >= 0, f"width >= 0, got {width}")

  def choose(state, x, key):
    del x, key
    time = jnp.maximum(state.count.sum(), 1)
    bonus = width * jnp.sqrt(2 * jnp.log(time) / jnp.maximum(state.count, 1))
    bound = jnp.where(state.count == 0, jnp.inf, state.mean + bonus)
    return jnp.argmax(bound)

  return Bandit(functools.partial(_tally, models), choose, _count)


@functools.cache
def linucb(
  models: int, features: int, beta: float = 1.0, ridge: float = 1.0
) -> Bandit:
  """The greatest theta . x + beta sqrt(x' A^-1 x), a regression a model.

  Args:
    models: K.
    features: D, of the vectors; a constant should be one of them.
    beta: how far uncertainty counts; below 1 it may settle on a wrong model.
    ridge: what A starts with on its diagonal.

  Raises:
    ValueError: if a setting is out of range.
  """
  _check(
    models,
    features >= 1 and beta >= 0 and ridge > 0,
    f"features >= 1, beta >= 0, ridge > 0, got {features}, {beta}, {ridge}",
  )

  def choose(state, x, key):
    del key
    mean, spread = _regress(state, x)
    return jnp.argmax(mean + beta * spread)

  start = functools.partial(_regressions, models, features, ridge)
  return Bandit(start, choose, _learn)


@functools.cache
def thompson(
  models: int, features: int, scale: float = 0.3, ridge: float = 1.0
) -> Bandit:
  """The greatest draw from each regression's posterior at x.

  Args:
    models: K.
    features: D, of the vectors; a constant should be one of them.
    scale: standard deviation of a reward's noise.
    ridge: precision of the prior, over that of the noise.

  Raises:
    ValueError: if a setting is out of range.
  """
  _check(
    models,
    features >= 1 and scale > 0 and ridge > 0,
    f"features >= 1, scale > 0, ridge > 0, got {features}, {scale}, {ridge}",
  )

  def choose(state, x, key):
    mean, spread = _regress(state, x)
    return jnp.argmax(mean + scale * spread * jax.random.normal(key, (models,)))

  start = functools.partial(_regressions, models, features, ridge)
  return Bandit(start, choose, _learn)


@functools.partial(jax.jit, static_argnums=0)
def play(
  bandit: Bandit,
  x: Float[Array, "n D"],
  rewards: Float[Array, "n K"],
  expected: Float[Array, "n K"],
  key: jax.Array,
) -> Played:
  """Serves a stream, learning from the reward of each chosen model only.

  Args:
    bandit: the learner.
    x: f32[n, D], vectors in order of arrival.
    rewards: f32[n, K], what each model would have earned.
    expected: f32[n, K], its expectation, which regret is counted in; `rewards`
      themselves if no more is known.
    key: of whatever the learner draws.
  """

  def step(state, question):
    number, x, rewards = question
    chosen = bandit.choose(state, x, jax.random.fold_in(key, number))
    state = bandit.update(state, x, chosen, rewards[chosen])
    return state, chosen.astype(jnp.int32)

  stream = jnp.arange(len(x)), x, rewards
  state, choices = jax.lax.scan(step, bandit.init(), stream)
  reached = expected[jnp.arange(len(x)), choices]
  return Played(choices, expected.max(1) - reached, state)


@functools.partial(jax.jit, static_argnums=0)
def learn(
  bandit: Bandit,
  x: Float[Array, "n D"],
  choices: Int[Array, " n"],
  rewards: Float[Array, " n"],
  state: Any = None,
) -> Any:
  """Teaches a learner what others chose, and what came of it.

  Args:
    bandit: the learner.
    x: f32[n, D], vectors, e.g. of a log of decisions (`decision_log`).
    choices: i32[n], the models that were asked.
    rewards: f32[n], what they earned.
    state: to go on from; None: the learner's first.

  Returns:
    The learner's state.
  """

  def step(state, question):
    return bandit.update(state, *question), None

  start = bandit.init() if state is None else state
  return jax.lax.scan(step, start, (x, choices, rewards))[0]


def _check(models: int, fine: bool, what: str) -> None:
  if models < 2 or not fine:
    raise ValueError(
      f"bandit: expected models >= 2 ({models} given) and {what}"
    )


def _tally(models: int) -> Tally:
  return Tally(jnp.zeros(models), jnp.zeros(models))


def _count(state, x, model, reward):
  del x
  count = state.count.at[model].add(1.0)
  move = (reward - state.mean[model]) / count[model]
  return Tally(state.mean.at[model].add(move), count)


def _regressions(models: int, features: int, ridge: float) -> Regressions:
  inverse = jnp.tile(jnp.eye(features) / ridge, (models, 1, 1))
  return Regressions(inverse, jnp.zeros((models, features)))


def _regress(state, x):
  """Mean and sqrt(x' A^-1 x) of each model, both f32[K]."""
  along = state.inverse @ x
  mean = jnp.einsum("kd,kd->k", along, state.total)
  return mean, jnp.sqrt(jnp.maximum(along @ x, 0.0))


def _learn(state, x, model, reward):
  """Adds a row by Sherman and Morrison's formula."""
  inverse = state.inverse[model]
  along = inverse @ x
  inverse = inverse - jnp.outer(along, along) / (1 + x @ along)
  return Regressions(
    state.inverse.at[model].set(inverse),
    state.total.at[model].add(reward * x),
  )
