# SPDX-License-Identifier: Apache-2.0
"""Cascades on real answers, beside routers that see the question alone.

Two tables. Of one the models' answers are known, so a learned scorer reads
each answer, and whether earlier ones agree, and thresholds on its confidence
decide whether to ask the next model. Of the other only scores are known, so a
judge is simulated that errs with a certain rate. Scorers, their settings, which
models a cascade asks and all thresholds come from the training side of each
fold.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import jax
from jaxtyping import Float
import numpy as np

from jaxttc.allocators import routing as allocation
from jaxttc.allocators.routing import cascades
from jaxttc.evaluation import routing_curves, statistics
from jaxttc.predictors import routing as predictors
from jaxttc.predictors.routing import shown_answers
from jaxttc.tasks import routing as tasks

CASCADE, BLIND_CASCADE = "cascade", "cascade, answers alone"
ROUTER, ORACLE, ZERO = "router", "oracle", "zero"


@dataclasses.dataclass(kw_only=True)
class CascadeRecipe:
  """How cascades are judged.

  Attributes:
    heads: of scorers and routers, to choose from by inner folds.
    errors: of the simulated judge.
    folds: outer folds; each question is tested once.
    inner_folds: folds of a training side.
    prices: of a curve.
    longest: most models of a cascade; which ones, each price says anew.
    rank: singular vectors of the hashed n-grams.
    resamples: of the bootstrap.
    shingle: words in a shingle, for near-duplicates.
    threshold: Jaccard similarity of near-duplicates.
    seed: of folds, fits, judges and resamples.
  """

  heads: tuple[str, ...] = ("ridge", "forest(trees=150)")
  errors: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.4)
  folds: int = 5
  inner_folds: int = 3
  prices: int = 48
  longest: int = 3
  rank: int = 32
  resamples: int = 500
  shingle: int = 3
  threshold: float = 0.3
  seed: int = 0

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if not self.heads:
      raise ValueError("heads: expected at least one")
    for text in self.heads:
      predictors.head(text)
    if min(self.folds, self.inner_folds) < 2 or self.resamples < 1:
      raise ValueError("expected at least 2 folds, inner folds, and 1 resample")
    if self.longest < 1:
      raise ValueError(f"longest={self.longest} must be at least 1")
    for error in self.errors:
      if not 0 <= error <= 1:
        raise ValueError(f"errors={self.errors} must lie in [0, 1]")


class Swept(NamedTuple):
  """A way to answer, at each of P prices, on the T test questions of a fold.

  Attributes:
    score: f64[P, T].
    cost: f64[P, T].
  """

  score: Float[np.ndarray, "P T"]
  cost: Float[np.ndarray, "P T"]


class Judged(NamedTuple):
  """What a way to answer came to, with intervals over resampled groups.

  Attributes:
    cost_ratio: cost over the best single model's at its score; it may be mixed
      in.
    points: score above the best single model's at its cost, in points.
    over_zero: score above the zero router's, in points, at the cost halfway
      between the cheapest model's and the best single one's.
    curve: mean of the folds' hulls: f64[G], at `Found.grid`.
  """

  cost_ratio: statistics.Interval
  points: statistics.Interval
  over_zero: statistics.Interval
  curve: Float[np.ndarray, " G"]


class Found(NamedTuple):
  """All ways to answer the questions of one table.

  Attributes:
    table: the questions.
    grid: f64[G], costs of the curves.
    ways: by name.
    scorers: the head that inner folds chose for each model's answers, fold
      after fold.
  """

  table: tasks.RoutingTable
  grid: Float[np.ndarray, " G"]
  ways: dict[str, Judged]
  scorers: list[str]


def judge_name(error: float | int) -> str:
  """What the cascade of a judge is called."""
  return f"judge, {100 * error:g} % errors"


def run(recipe: CascadeRecipe, table: tasks.RoutingTable) -> Found:
  """Judges cascades and routers on a table, cross-fitted.

  Args:
    recipe: how.
    table: with `answers` for learned scorers; without, only judges.

  Raises:
    ValueError: if the recipe cannot be, or a score is not known.
  """
  recipe.check()
  if np.isnan(table.scores).any():
    raise ValueError("a study of cascades needs every model's score")
  groups = tasks.near_duplicate_groups(
    table.prompts, shingle=recipe.shingle, threshold=recipe.threshold
  )
  swept: list[dict[str, Swept]] = []
  sides, scorers = [], []
  for number, (train, test) in enumerate(
    tasks.folds(groups, recipe.folds, recipe.seed)
  ):
    side = _Side(recipe, table, groups, train, test, number)
    swept.append(side.ways())
    sides.append((groups[test], side.best, table.take(test)))
    scorers += side.scorers
  grid = np.geomspace(table.costs.mean(0).min(), table.costs.mean(0).max(), 120)
  ways = {
    name: _judged(recipe, [each[name] for each in swept], sides, grid)
    for name in swept[0]
  }
  return Found(table, grid, ways, scorers)


class _Side:
  """One outer fold: fits on its training side, sweeps on its test side."""

  def __init__(self, recipe, table, groups, train, test, number):
    self._recipe = recipe
    self._train, self._test = table.take(train), table.take(test)
    self._folds = list(
      tasks.folds(groups[train], recipe.inner_folds, recipe.seed)
    )
    self._key = jax.random.fold_in(jax.random.key(recipe.seed), number)
    self._prices = routing_curves.prices(self._train.costs, recipe.prices)
    embed = predictors.hashed_ngrams.fit(self._train.prompts, rank=recipe.rank)
    self._x = embed(self._train.prompts), embed(self._test.prompts)
    self.best = routing_curves.best_single(self._train.scores)
    self.scorers: list[str] = []

  def ways(self) -> dict[str, Swept]:
    test = self._test
    found = {
      ZERO: Swept(test.scores.T.copy(), test.costs.T.copy()),
      ROUTER: self._routed(self._router()),
      ORACLE: self._routed(test.scores),
    }
    order = np.argsort(self._train.costs.mean(0), kind="stable").tolist()
    if self._train.answers:
      found[CASCADE], self.scorers = self._cascade(order, self._x)
      blank = tuple(np.zeros((len(x), 0), np.float32) for x in self._x)
      found[BLIND_CASCADE], _ = self._cascade(order, blank)
    for place, error in enumerate(self._recipe.errors):
      key = jax.random.fold_in(self._key, 1000 + place)
      found[judge_name(error)] = self._judge(self._worthwhile(), error, key)
    return found

  def _worthwhile(self) -> list[int]:
    """Models that a router without the question would mix, cheapest first."""
    scores, costs = self._train.scores.mean(0), self._train.costs.mean(0)
    front = routing_curves.hull(costs, scores)
    corners = set(zip(front.cost, front.score, strict=True))
    kept = [
      model
      for model in np.argsort(costs, kind="stable").tolist()
      if (costs[model], scores[model]) in corners
    ]
    return kept

  def _fit(self, x, y) -> tuple[str, np.ndarray, np.ndarray]:
    """The head of least error out of fold; what it says on both sides."""
    best = None
    for text in self._recipe.heads:
      head = predictors.head(text)
      guess = predictors.blend.out_of_fold(
        head, x[0], y, self._folds, self._key
      )
      error = float(np.mean((guess - y) ** 2))
      if best is None or error < best[0]:
        best = error, text, guess
    assert best is not None  # check() saw that there are heads
    _, text, guess = best
    fitted = predictors.head(text)(x[0], y, self._key)
    return text, guess, predictors.predict(fitted, x[1])

  def _router(self) -> np.ndarray:
    """Scores that the question alone foretells, on the test side."""
    return self._fit(self._x, self._train.scores)[2]

  def _routed(self, quality) -> Swept:
    test = self._test
    forecast = predictors.Forecast(
      np.asarray(quality, np.float32), np.asarray(test.costs, np.float32)
    )
    chosen = np.asarray(allocation.sweep(forecast, self._prices))
    rows = np.arange(len(test))
    return Swept(test.scores[rows, chosen], test.costs[rows, chosen])

  def _cascade(self, order: list[int], x) -> tuple[Swept, list[str]]:
    """A learned scorer of each model's answers, beside vectors of questions."""
    sides = self._train, self._test
    shown = [shown_answers.features(s.answers, order) for s in sides]
    centre = shown[0].mean(0, keepdims=True)
    spread = np.maximum(shown[0].std(0, keepdims=True), 1e-6)
    trust: tuple[list, list] = ([], [])
    heads = []
    for place, model in enumerate(order):
      seen = [
        np.concatenate([v, ((s - centre) / spread)[:, place]], 1)
        for v, s in zip(x, shown, strict=True)
      ]
      text, *says = self._fit(seen, self._train.scores[:, [model]])
      heads.append(text)
      for column, said in zip(trust, says, strict=True):
        column.append(said[:, 0])
    confidence = [np.stack(each, 1) for each in trust]
    return self._swept(order, *confidence), heads

  def _judge(self, order: list[int], error: float, key) -> Swept:
    keys = jax.random.split(key)
    confidence = [
      cascades.noisy_judge(side.scores[:, order] > 0.5, error, each)
      for side, each in zip((self._train, self._test), keys, strict=True)
    ]
    return self._swept(order, *confidence)

  def _swept(self, order, train_trust, test_trust) -> Swept:
    """Thresholds from the training side at each price, run on the other."""
    places = range(len(order))
    train, test = (
      cascades.log(side.scores[:, order], side.costs[:, order], trust, places)
      for side, trust in (
        (self._train, train_trust),
        (self._test, test_trust),
      )
    )
    outcomes = []
    for price in self._prices[np.isfinite(self._prices)]:
      best = cascades.best_cascade(
        train, float(price), longest=self._recipe.longest, policy="best"
      )
      outcomes.append(best.run(test, policy="best"))
    return Swept(
      np.stack([np.asarray(o.score, np.float64) for o in outcomes]),
      np.stack([np.asarray(o.cost, np.float64) for o in outcomes]),
    )


def _judged(recipe, swept: Sequence[Swept], sides, grid) -> Judged:
  ratios, points, over, curves = [], [], [], []
  for number, (way, (groups, best, test)) in enumerate(
    zip(swept, sides, strict=True)
  ):
    rng = np.random.default_rng((recipe.seed, number))
    weights = np.concatenate(
      [
        np.ones((1, len(test))),
        routing_curves.group_weights(groups, recipe.resamples, rng),
      ]
    )
    share = weights / weights.sum(1, keepdims=True)
    goal, price = share @ test.scores[:, best], share @ test.costs[:, best]
    hulls = [
      routing_curves.hull(np.append(c, p), np.append(s, g))
      for c, s, p, g in zip(
        share @ way.cost.T, share @ way.score.T, price, goal, strict=True
      )
    ]
    ratios.append(
      [h.cost_of(g) / p for h, g, p in zip(hulls, goal, price, strict=True)]
    )
    points.append(
      [
        100 * (float(h.at(p)) - g)
        for h, g, p in zip(hulls, goal, price, strict=True)
      ]
    )
    zero = [
      routing_curves.hull(c, s)
      for c, s in zip(share @ test.costs, share @ test.scores, strict=True)
    ]
    over.append(
      [
        _points_between(h, z, (p + z.cost[0]) / 2)
        for h, z, p in zip(hulls, zero, price, strict=True)
      ]
    )
    curves.append(hulls[0])
  return Judged(
    _interval(ratios),
    _interval(points),
    _interval(over),
    routing_curves.mean_curve(curves, grid),
  )


def _points_between(ours, theirs, cost: float) -> float:
  """Points of one hull over another at a cost, or where both begin."""
  cost = max(cost, ours.cost[0], theirs.cost[0])
  return 100 * float(ours.at(cost) - theirs.at(cost))


def _interval(values) -> statistics.Interval:
  """Mean over folds; its interval over resamples, of which row 0 is none."""
  draws = np.mean(values, 0)
  found = statistics.percentile_interval(draws[0], draws[1:])
  # Resampling is biased where a figure is a maximum: keep the value inside.
  value = found.value
  return statistics.Interval(
    value, min(found.low, value), max(found.high, value)
  )
