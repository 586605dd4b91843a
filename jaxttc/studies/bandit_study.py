# SPDX-License-Identifier: Apache-2.0
"""Routers that learn while they serve, on a stream of real questions.

Nothing is known beforehand, and of each question only the score of the model
that was asked is seen. Learners get the settings that the library has by
default. They are held against the best single model in hindsight, and against
a router that was fitted to all scores of other questions.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.allocators.routing import bandits
from jaxttc.evaluation import statistics
from jaxttc.predictors import routing as predictors
from jaxttc.tasks import routing as tasks

FIXED, TAUGHT, ORACLE = "best fixed model", "router taught all scores", "oracle"
_DRAWS = 2000  # of the bootstrap over orders


@dataclasses.dataclass(kw_only=True)
class BanditRecipe:
  """How learners are judged.

  Attributes:
    worth: score that the cost of the best single model is worth: the reward is
      score - worth * cost / (its cost).
    orders: random orders of the questions.
    parts: equal parts of a stream, for curves.
    rank: singular vectors of the hashed n-grams, which are fitted to the
      questions without scores.
    taught: head of the router that knows the scores of other questions.
    folds: of that router.
    seed: of orders, learners and folds.
  """

  worth: float = 0.2
  orders: int = 10
  parts: int = 8
  rank: int = 16
  taught: str = "ridge"
  folds: int = 5
  seed: int = 0

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if not self.worth >= 0 or self.orders < 2 or self.parts < 2:
      raise ValueError(
        "expected worth >= 0, orders >= 2 and parts >= 2, got "
        f"{self.worth}, {self.orders} and {self.parts}"
      )


class Learnt(NamedTuple):
  """What learners earned.

  Attributes:
    rewards: by learner or yardstick, f64[O, B], the mean reward in each of B
      parts of each of O orders.
    cost: likewise the mean cost of a question, f64[O].
  """

  rewards: dict[str, Float[np.ndarray, "O B"]]
  cost: dict[str, Float[np.ndarray, " O"]]

  def points_over_fixed(self, name: str, part: slice) -> statistics.Interval:
    """Points of reward over the best fixed model in some parts of the stream.

    The interval resamples orders.
    """
    gain = 100 * (self.rewards[name] - self.rewards[FIXED])[:, part].mean(1)
    rng = np.random.default_rng(0)
    drawn = rng.choice(gain, (_DRAWS, len(gain))).mean(1)
    return statistics.percentile_interval(float(gain.mean()), drawn)


def learners(models: int, features: int) -> dict[str, bandits.Bandit]:
  """The learners, by name, at their default settings."""
  return {
    "epsilon-greedy": bandits.epsilon_greedy(models),
    "UCB": bandits.ucb(models),
    "LinUCB": bandits.linucb(models, features),
    "Thompson": bandits.thompson(models, features),
  }


def run(recipe: BanditRecipe, table: tasks.RoutingTable) -> Learnt:
  """Serves the questions in random orders.

  Args:
    recipe: how.
    table: every score known.

  Raises:
    ValueError: if the recipe cannot be, or a score is not known.
  """
  recipe.check()
  if np.isnan(table.scores).any():
    raise ValueError("a study of learners needs every model's score")
  best = int(table.scores.mean(0).argmax())
  price = recipe.worth / table.costs[:, best].mean()
  rewards = table.scores - price * table.costs
  x = _vectors(recipe, table)
  taught = _taught(recipe, table, price)
  fixed = int(rewards.mean(0).argmax())
  rows = np.arange(len(table))
  found: dict[str, list[np.ndarray]] = {}
  costs: dict[str, list[float]] = {}
  for order in range(recipe.orders):
    rng = np.random.default_rng((recipe.seed, order))
    places = rng.permutation(len(table))
    chosen = {
      FIXED: np.full(len(table), fixed),
      TAUGHT: taught[places],
      ORACLE: rewards[places].argmax(1),
    }
    stream = jnp.asarray(rewards[places], jnp.float32)
    for name, learner in learners(len(table.models), x.shape[1]).items():
      key = jax.random.fold_in(jax.random.key(recipe.seed), order)
      played = bandits.play(
        learner, jnp.asarray(x[places]), stream, stream, key
      )
      chosen[name] = np.asarray(played.choices)
    for name, picks in chosen.items():
      earned = rewards[places][rows, picks]
      parts = np.array_split(earned, recipe.parts)
      found.setdefault(name, []).append(np.array([p.mean() for p in parts]))
      paid = table.costs[places][rows, picks]
      costs.setdefault(name, []).append(float(paid.mean()))
  return Learnt(
    {name: np.stack(each) for name, each in found.items()},
    {name: np.array(each) for name, each in costs.items()},
  )


def _vectors(recipe, table) -> np.ndarray:
  """Unit vectors of the questions, and a constant: f32[N, rank + 1]."""
  embed = predictors.hashed_ngrams.fit(table.prompts, rank=recipe.rank)
  x = embed(table.prompts)
  x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-6)
  x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
  return np.concatenate([x, np.ones((len(x), 1))], 1).astype(np.float32)


def _taught(recipe, table, price: float) -> np.ndarray:
  """i64[N], what a router chooses that was fitted to all other folds."""
  groups = tasks.near_duplicate_groups(table.prompts, shingle=3, threshold=0.3)
  chosen = np.zeros(len(table), np.int64)
  folds = tasks.folds(groups, recipe.folds, recipe.seed)
  for number, (train, test) in enumerate(folds):
    part = table.take(train)
    embed = predictors.hashed_ngrams.fit(part.prompts)
    key = jax.random.fold_in(jax.random.key(recipe.seed), number)
    head = predictors.head(recipe.taught)(embed(part.prompts), part.scores, key)
    quality = predictors.predict(
      head, embed([table.prompts[row] for row in test])
    )
    chosen[test] = (quality - price * table.costs[test]).argmax(1)
  return chosen
