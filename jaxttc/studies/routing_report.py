# SPDX-License-Identifier: Apache-2.0
"""Figures, intervals and claims of a routing study.

Each figure is computed in every outer fold, on its test questions, and
averaged over folds. Intervals resample groups of near-duplicates within each
fold. The *chosen* router is, in each fold, the one that the inner folds of the
training side liked best; nothing is chosen on test questions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxttc import results
from jaxttc.allocators import routing as allocation
from jaxttc.evaluation import routing_curves, routing_pairs, statistics
from jaxttc.simulation import study as study_lib
from jaxttc.studies import routing_picture, routing_study

CHOSEN, ORACLE = "chosen", "oracle"
BAR = 0.65  # cost over the best single model at equal score
_GRID = 200  # costs of a drawn curve
_PAIR_RESAMPLES = 200
_REGRET_AT = (0.0, 0.05, 0.2)  # prices, of which the best single costs so much


class Side(NamedTuple):
  """The test side of one fold, and what it is measured against.

  Attributes:
    scores: f64[T, K].
    costs: f64[T, K].
    best: the model of best mean score on the training side.
    prices: f64[P].
    weights: f64[R, T], bootstrap weights; the first row is all ones.
  """

  scores: np.ndarray
  costs: np.ndarray
  best: int
  prices: np.ndarray
  weights: np.ndarray


class Figures(NamedTuple):
  """Of one router in one fold: row 0 measured, the others resampled, f64[R].

  Attributes:
    cost_ratio: cost over the best single model's at its score. The best single
      model itself may be mixed in, so it is 1 at most.
    points: score above the best single model's at its cost.
    aiq: mean height of the hull, from the cheapest model's cost to the
      dearest's.
  """

  cost_ratio: np.ndarray
  points: np.ndarray
  aiq: np.ndarray


def report(
  recipe: routing_study.StudyRecipe, found: routing_study.Found
) -> study_lib.Study:
  """All figures of a study.

  Raises:
    ValueError: if the recipe names a strong or weak model that is not there.
  """
  sides = [side_of(recipe, found, number) for number in range(len(found.folds))]
  names = [*found.folds[0].routers, CHOSEN, ORACLE]
  figures = {
    name: [
      figures_of(side, _quality(found, number, name))
      for number, side in enumerate(sides)
    ]
    for name in names
  }
  zero = [zero_aiq(side) for side in sides]
  pairs = _pairs(recipe, found)
  rows = [
    _row(found, sides, name, figures[name], figures[ORACLE], zero, pairs)
    for name in names
  ]
  safe = [_safe(recipe, found, number, s) for number, s in enumerate(sides)]
  data = {
    "routers": rows,
    "single_models": _singles(found),
    "pair": {"models": _pair_models(recipe, found), "apgr": pairs},
    "safe_price": [{"cost_ratio": c[0], "points": 100 * p[0]} for c, p in safe],
    "curves": _curves(found, sides, names),
    "questions": len(found.table),
    "groups": int(found.groups.max()) + 1,
    "unit": found.table.unit,
  }
  claims = _claims(rows, safe, pairs)
  return study_lib.Study(
    [recipe.seed], data, claims, lambda path: routing_picture.draw(data, path)
  )


def side_of(recipe, found, number: int) -> Side:
  """The test side of a fold."""
  fold, table = found.folds[number], found.table
  rng = np.random.default_rng((recipe.seed, number))
  weights = routing_curves.group_weights(
    found.groups[fold.test], recipe.resamples, rng
  )
  return Side(
    table.scores[fold.test],
    table.costs[fold.test],
    routing_curves.best_single(table.scores[fold.train]),
    routing_curves.prices(table.costs[fold.train], recipe.prices),
    np.concatenate([np.ones((1, len(fold.test))), weights]),
  )


def chosen(fold: routing_study.Fold) -> str:
  """The router that the training side of a fold likes best."""
  return max(fold.routers, key=lambda name: fold.routers[name].inner)


def _quality(found, number: int, name: str) -> np.ndarray:
  fold = found.folds[number]
  if name == ORACLE:
    return found.table.scores[fold.test]
  return fold.routers[chosen(fold) if name == CHOSEN else name].test


def figures_of(side: Side, quality: np.ndarray) -> Figures:
  """What forecasts f[T, K] of a side's questions are worth."""
  choices = routing_study.choices(quality, side.costs, side.prices)
  hulls = routing_curves.resampled(
    choices, side.scores, side.costs, side.weights
  )
  share = side.weights / side.weights.sum(1, keepdims=True)
  target = share @ side.scores[:, side.best]
  price = share @ side.costs[:, side.best]
  low, high = side.costs.mean(0).min(), side.costs.mean(0).max()
  ratio, points, aiq = [], [], []
  for front, goal, cost in zip(hulls, target, price, strict=True):
    joined = routing_curves.hull(
      np.append(front.cost, cost), np.append(front.score, goal)
    )
    ratio.append(joined.cost_of(goal) / cost)
    points.append(float(joined.at(cost)) - goal)
    aiq.append(routing_curves.aiq(front, low, high))
  return Figures(np.array(ratio), np.array(points), np.array(aiq))


def zero_aiq(side: Side) -> np.ndarray:
  """Mean height f64[R] of mixing models blindly: of the zero router."""
  share = side.weights / side.weights.sum(1, keepdims=True)
  scores, costs = share @ side.scores, share @ side.costs
  low, high = side.costs.mean(0).min(), side.costs.mean(0).max()
  return np.array(
    [
      routing_curves.aiq(routing_curves.hull(c, s), low, high)
      for c, s in zip(costs, scores, strict=True)
    ]
  )


def interval(values: Sequence[np.ndarray]) -> statistics.Interval:
  """Mean over folds, and its interval over resamples of all folds."""
  draws = np.mean(values, 0)
  found = statistics.percentile_interval(draws[0], draws[1:])
  # Resampling is biased where a figure is a maximum: keep the value inside.
  value = found.value
  return statistics.Interval(
    value, min(found.low, value), max(found.high, value)
  )


def _row(found, sides, name, figures, oracle, zero, pairs) -> dict[str, Any]:
  """One line of the table of routers."""
  share = [
    (f.aiq - z) / (o.aiq - z)
    for f, o, z in zip(figures, oracle, zero, strict=True)
  ]
  row: dict[str, Any] = {
    "router": name,
    "cost_ratio": interval([f.cost_ratio for f in figures])._asdict(),
    "cost_ratio_by_fold": [float(f.cost_ratio[0]) for f in figures],
    "points_at_equal_cost": interval(
      [100 * f.points for f in figures]
    )._asdict(),
    "aiq": interval([f.aiq for f in figures])._asdict(),
    "share_of_oracle_gain": interval(share)._asdict(),
    "regret": _regret(found, sides, name),
  }
  if name in pairs:
    row["apgr"] = pairs[name]
  if name == ORACLE:
    return row
  folds = found.folds
  parts = [f.routers[chosen(f) if name == CHOSEN else name] for f in folds]
  row["heads"] = [part.text for part in parts]
  row["fit_seconds"] = float(np.mean([part.fit_seconds for part in parts]))
  row["microseconds_a_question"] = float(
    np.median([part.microseconds for part in parts])
  )
  row["calibration_error"] = float(
    np.mean(
      [
        routing_curves.calibration_error(part.test, side.scores)
        for part, side in zip(parts, sides, strict=True)
      ]
    )
  )
  return row


def _regret(found, sides, name) -> list[float]:
  """Mean regret at prices that make the best single model cost so much."""
  values = []
  for number, side in enumerate(sides):
    at = np.array(_REGRET_AT) / side.costs[:, side.best].mean()
    forecast = routing_study.forecast(_quality(found, number, name), side.costs)
    values.append(routing_curves.regret(forecast, side.scores, side.costs, at))
  return np.mean(values, 0).tolist()


def _safe(recipe, found, number: int, side: Side):
  """Cost ratio and points, f64[R], at a price set on the training side."""
  fold, table = found.folds[number], found.table
  part = fold.routers[chosen(fold)]
  scores, costs = table.scores[fold.train], table.costs[fold.train]
  price = allocation.safe_price(
    routing_study.forecast(part.out_of_fold, costs),
    scores,
    side.prices[np.isfinite(side.prices)],
    scores[:, side.best].mean(),
    confidence=recipe.confidence,
  )
  picked = routing_study.choices(part.test, side.costs, np.array([price]))[0]
  rows = np.arange(len(picked))
  share = side.weights / side.weights.sum(1, keepdims=True)
  cost = share @ side.costs[rows, picked]
  score = share @ side.scores[rows, picked]
  return (
    cost / (share @ side.costs[:, side.best]),
    score - share @ side.scores[:, side.best],
  )


def _pair_models(recipe, found) -> tuple[str, str]:
  """The strong model and the weak one of the pair metrics."""
  table = found.table
  scores, costs = table.scores.mean(0), table.costs.mean(0)
  strong = table.index(recipe.strong or table.models[int(scores.argmax())])
  cheap = np.where(costs < costs[strong] / 4, scores, -np.inf)
  weak = table.index(recipe.weak or table.models[int(cheap.argmax())])
  return table.models[strong], table.models[weak]


def _pairs(recipe, found) -> dict[str, dict[str, float]]:
  """APGR of each router's gains, over all test questions together."""
  strong, weak = map(found.table.index, _pair_models(recipe, found))
  rows = np.concatenate([fold.test for fold in found.folds])
  scores = found.table.scores[rows]
  gains = {
    name: np.concatenate(
      [
        f.routers[name].test[:, strong] - f.routers[name].test[:, weak]
        for f in found.folds
      ]
    )
    for name in found.folds[0].routers
  }
  gains["random"] = np.zeros(len(rows))  # ties: random order, in expectation
  gains[ORACLE] = scores[:, strong] - scores[:, weak]
  if "ridge" in gains:
    gains["ridge, weak failure only"] = np.concatenate(
      [-f.routers["ridge"].test[:, weak] for f in found.folds]
    )
  rng = np.random.default_rng(recipe.seed)
  weights = routing_curves.group_weights(
    found.groups[rows], _PAIR_RESAMPLES, rng
  ).astype(int)
  drawn = [np.repeat(np.arange(len(rows)), counts) for counts in weights]

  def apgr(gain: np.ndarray, picked: Any) -> float:
    pair = scores[picked][:, [weak, strong]].T
    return routing_pairs.recovered(gain[picked], *pair).apgr

  return {
    name: interval(
      [np.array([apgr(gain, p) for p in [np.arange(len(rows)), *drawn]])]
    )._asdict()
    for name, gain in gains.items()
  }


def _singles(found) -> list[dict[str, Any]]:
  table = found.table
  return [
    {"model": model, "cost": float(cost), "score": float(score)}
    for model, cost, score in zip(
      table.models, table.costs.mean(0), table.scores.mean(0), strict=True
    )
  ]


def _curves(found, sides, names) -> dict[str, Any]:
  """Mean hulls over folds on one grid of costs; the zero router's, too."""
  costs = found.table.costs.mean(0)
  grid = np.linspace(costs.min(), costs.max(), _GRID)
  hulls: dict[str, list[routing_curves.Hull]] = {
    "zero": [routing_curves.zero_router(s.scores, s.costs) for s in sides]
  }
  for name in names:
    hulls[name] = []
    for number, side in enumerate(sides):
      picked = routing_study.choices(
        _quality(found, number, name), side.costs, side.prices
      )
      curve = routing_curves.curve(picked, side.scores, side.costs, side.prices)
      hulls[name].append(routing_curves.hull(curve.cost, curve.score))
  return {
    "cost": grid,
    "score": {
      name: [None if np.isnan(v) else float(v) for v in _mean(fronts, grid)]
      for name, fronts in hulls.items()
    },
  }


def _mean(fronts, grid) -> np.ndarray:
  return routing_curves.mean_curve(fronts, grid)


def _claims(rows, safe, pairs) -> list[results.Claim]:
  by_name = {row["router"]: row for row in rows}

  def claim(name: str, figure: dict[str, float], **bar: Any) -> results.Claim:
    return results.Claim(name, **figure, **bar)

  def ratio(name: str) -> dict[str, float]:
    return by_name[name]["cost_ratio"]

  best = by_name[CHOSEN]
  equal = "cost_over_best_single_at_equal_score"
  made = [
    claim(equal, ratio(CHOSEN), bar=BAR, comparison="<="),
    claim(f"oracle_{equal}", ratio(ORACLE)),
    claim(
      "points_over_best_single_at_equal_cost", best["points_at_equal_cost"]
    ),
    claim("share_of_oracle_gain", best["share_of_oracle_gain"]),
    claim(
      "cost_at_safe_price_over_best_single",
      interval([cost for cost, _ in safe])._asdict(),
    ),
    claim(
      "points_at_safe_price_over_best_single",
      interval([100 * points for _, points in safe])._asdict(),
    ),
  ]
  made += [
    claim(f"{name}_{equal}", ratio(name))
    for name in ("forest", "boosting", "knn", "ridge")
    if name in by_name
  ]
  for name, figure in pairs.items():
    words = name.replace(",", "").replace(" ", "_")
    made.append(claim(f"apgr_{words}", figure))
  return made
