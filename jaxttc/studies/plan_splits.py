# SPDX-License-Identifier: Apache-2.0
"""Splits of a budget of samples over a problem's sums, compared on pools.

By what is known of a sum: nothing, a probe's credits, the budget allocation
model fitted to a pilot, everything; and decay schedules over credits. A
problem's sums come in any order, so that positions say nothing, but for the
decays, which are also tried with the hard sums first and last.
"""

from collections.abc import Callable
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import (
  budget_model,
  choice_knapsack,
  decay_schedules,
  pilot_fit,
)
from jaxttc.evaluation import statistics, thrift
from jaxttc.studies import plan_bench, plan_recipe

SPLITS = ("in_order", "uniform", "weighted", "model", "oracle", "vanilla")
PLACES = ("anywhere", "hard first", "hard last")


def by_kind(
  recipe: plan_recipe.StudyRecipe, sums: plan_bench.Sums
) -> np.ndarray:
  """Mean accuracy of a vote, f64[kinds, K + 1]."""
  return np.stack(
    [
      sums.curve[sums.kind == kind].mean(0)
      for kind in range(len(recipe.additions))
    ]
  )


def _rule_of(
  recipe: plan_recipe.StudyRecipe,
  pilot: plan_bench.Sums,
  tested: plan_bench.Sums,
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
  """Splits by name: kinds i64[M] and probe f64[M] of a problem -> samples."""
  steps, budget = len(recipe.additions), recipe.budget
  fits = [
    pilot_fit.fit(
      np.array(recipe.pilot, float),
      1.0 - pilot.curve[pilot.kind == kind][:, list(recipe.pilot)].T,
      resamples=1,
    )
    for kind in range(steps)
  ]
  c, beta = (
    np.array([getattr(fit, name).value for fit in fits])
    for name in ("c", "beta")
  )
  of_kind = {
    "model": np.asarray(
      budget_model.solve_integer(jnp.asarray(c), jnp.asarray(beta), budget)
    ),
    "oracle": _best(by_kind(recipe, tested), budget),
  }

  def pool_in_order(kinds, failure):
    del kinds, failure
    given: list[int] = []
    for left in range(steps - 1, -1, -1):
      given.append(min(recipe.vanilla, budget - sum(given) - left))
    return np.array(given)

  def weighted(kinds, failure):
    del kinds
    credits = _hundred(1.0 + 99.0 * failure)
    return decay_schedules.allocate_tokens(credits, budget, "constant", floor=1)

  return {
    "in_order": pool_in_order,
    "uniform": lambda *_: decay_schedules.uniform_tokens(steps, budget),
    "weighted": weighted,
    "model": lambda kinds, _: of_kind["model"][kinds],
    "oracle": lambda kinds, _: of_kind["oracle"][kinds],
    "vanilla": lambda *_: np.full(steps, recipe.vanilla),
  }


def _best(curves: np.ndarray, budget: int) -> np.ndarray:
  """The split that a knapsack over mean curves finds best."""
  steps = len(curves)
  most = budget - steps + 1
  values = np.log(np.maximum(curves[:, : most + 1], 1e-9))
  values[:, 0] = -np.inf
  costs = np.broadcast_to(np.arange(most + 1), values.shape)
  found, _ = choice_knapsack.solve(
    jnp.asarray(values, jnp.float32),
    jnp.asarray(costs),
    jnp.int32(budget),
    budget,
  )
  return np.asarray(found)


def _shuffled(recipe, seed, tested, place="anywhere"):
  """Indices i64[N, M] of each problem's sums, in the order they come."""
  steps = len(recipe.additions)
  own = np.arange(recipe.problems * steps).reshape(-1, steps)
  if place == "anywhere":
    return np.random.default_rng([seed, 4]).permuted(own, axis=1)
  hardest_last = np.argsort(recipe.additions)
  return own[:, hardest_last[::-1] if place == "hard first" else hardest_last]


def _solved(tested: plan_bench.Sums, rows: np.ndarray, samples: np.ndarray):
  """Chance that all votes are right, and tokens: f64[N] each."""
  right = tested.curve[rows, samples].prod(1)
  return right, (tested.tokens[rows] * samples).sum(1)


def splits(
  recipe: plan_recipe.StudyRecipe,
  seed: int,
  pilot: plan_bench.Sums,
  tested: plan_bench.Sums,
) -> list[dict[str, Any]]:
  """A row of each of `SPLITS`: accuracy, its interval, samples, tokens, E^3."""
  rows = _shuffled(recipe, seed, tested)
  found = []
  for name, split in _rule_of(recipe, pilot, tested).items():
    samples = np.stack(
      [split(tested.kind[row], tested.failure[row]) for row in rows]
    )
    right, tokens = _solved(tested, rows, samples)
    accuracy = statistics.bootstrap(
      right, resamples=recipe.resamples, rng=np.random.default_rng(seed)
    )
    found.append(
      {
        "split": name,
        "seed": seed,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "samples": int(samples.sum(1).mean()),
        "tokens": float(tokens.mean()),
        "e3": thrift.e3(100 * float(right.mean()), float(tokens.mean())),
      }
    )
  return found


def decays(
  recipe: plan_recipe.StudyRecipe, seed: int, tested: plan_bench.Sums
) -> list[dict[str, Any]]:
  """Schedules over the probe's credits, by where the hard sums are."""
  found = []
  for place, name in itertools.product(PLACES, decay_schedules.SCHEDULES):
    rows = _shuffled(recipe, seed, tested, place)
    for told, credits in (
      ("probe", _hundred(1.0 + 99.0 * tested.failure[rows])),
      (
        "late",
        _hundred(np.tile(np.arange(1.0, rows.shape[1] + 1), (len(rows), 1))),
      ),
    ):
      samples = np.stack(
        [
          decay_schedules.allocate_tokens(row, recipe.budget, name, floor=1)
          for row in credits
        ]
      )
      right, _ = _solved(tested, rows, samples)
      found.append(
        {
          "place": place,
          "credits": told,
          "schedule": name,
          "seed": seed,
          "accuracy": float(right.mean()),
        }
      )
  return found


def _hundred(credits: np.ndarray) -> np.ndarray:
  """Credits that total 100 a problem."""
  return 100.0 * credits / credits.sum(-1, keepdims=True)
