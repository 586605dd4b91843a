# SPDX-License-Identifier: Apache-2.0
"""What the planted study found: figures, claims and a picture.

Intervals are bootstraps over seeds. Gaps and suboptimality are in tokens of
bi-level reward: divided by the horizon, a gap that widens would look flat.
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc import results, simulation
from jaxttc.evaluation import heterogeneity, power_laws, statistics
from jaxttc.studies import planted_picture, planted_study
from jaxttc.tasks import planted, planted_oracles, planted_traces

Points = Mapping[tuple[int, int], planted_study.Point]

FREE, CHARGED = "clone_solved", "clone_solved_charged"
EXPERT, GRADIENT, REWEIGHT = "clone_expert", "policy_gradient", "reweight"
_SAMPLES = 64  # base traces a problem, where heterogeneity is estimated
_SETTLED = 32  # from this horizon on, exponents of suboptimality are fitted


class Table:
  """Rewards of a study, by method, family, horizon, traces and seed."""

  def __init__(self, recipe: planted_study.StudyRecipe, points: Points):
    """Takes a study and all its points."""
    self.recipe = recipe
    self.families = list(recipe.families)
    self.horizons = np.array(recipe.horizons)
    self.ratios = np.array(recipe.ratios)
    first = next(iter(points.values()))
    self.reward = {
      method: np.array(
        [
          [points[h, r].reward[method] for r in recipe.ratios]
          for h in recipe.horizons
        ]
      )  # [H, ratios, families, seeds]
      for method in first.reward
    }

  def over_horizons(self, method: str, family: str) -> np.ndarray:
    """Rewards f64[S, H] at the study's ratio of traces to horizon."""
    ratio = list(self.ratios).index(self.recipe.ratio)
    row = self.families.index(family)
    return self.reward[method][:, ratio, row].T

  def over_traces(self, method: str, family: str) -> np.ndarray:
    """Rewards f64[S, ratios] at the study's horizon."""
    at = list(self.horizons).index(self.recipe.horizon)
    return self.reward[method][at, :, self.families.index(family)].T

  def gap(self, verified: str, free: str, family: str) -> np.ndarray:
    """How much more a verifier earns, f64[S, H]."""
    one, other = (self.over_horizons(m, family) for m in (verified, free))
    return one - other

  def suboptimality(self, method: str, family: str) -> np.ndarray:
    """What the optimum earns more, f64[S, H]."""
    best = self.horizons - self.recipe.length + 1
    return best - self.over_horizons(method, family)


def study(
  recipe: planted_study.StudyRecipe, points: Points
) -> simulation.Study:
  """Figures, claims and picture of all points.

  Raises:
    ValueError: if a family that claims are made of is missing.
  """
  missing = {"heterogeneous", "homogeneous", "rare"} - set(recipe.families)
  if missing:
    raise ValueError(f"families lack {', '.join(sorted(missing))}")
  table = Table(recipe, points)
  base = _base(recipe)
  measured = _measured(recipe)
  data = {
    "horizons": table.horizons,
    "ratios": table.ratios,
    "families": recipe.families,
    "base": base,
    "measured_at_horizon": {"horizon": recipe.horizon} | measured,
    "points": [
      {
        "horizon": h,
        "traces": h * r,
        "reward": {m: x.round(4) for m, x in point.reward.items()},
        "accuracy": {m: x.mean(1).round(4) for m, x in point.accuracy.items()},
        "setting": point.setting,
        "tuning": {m: x.round(4) for m, x in point.tuning.items()},
      }
      for (h, r), point in points.items()
    ],
  }
  found = _claims(table) + _base_claims(recipe, base, measured)
  return simulation.Study(
    range(recipe.seeds),
    data,
    found,
    lambda path: planted_picture.draw(table, base, path),
  )


def _claims(table: Table) -> list[results.Claim]:
  """Claims on gaps and suboptimality."""
  rng = np.random.default_rng(0)
  horizons, at = table.horizons, list(table.horizons)
  gap = table.gap(GRADIENT, FREE, "heterogeneous")
  plain = table.gap(GRADIENT, FREE, "homogeneous")
  rare = table.gap(GRADIENT, FREE, "rare")
  here = at.index(table.recipe.horizon)
  name = f"at_{table.recipe.horizon}"

  def slope(values):
    return power_laws.trend(horizons, values, rng=rng)

  def mean(values):
    return statistics.bootstrap(values, rng=rng)

  def exponent(values, keep, **options):
    return power_laws.exponent(
      horizons[keep], values[:, keep], rng=rng, **options
    )

  late = horizons >= min(_SETTLED, horizons[-2])
  widens = _widening(gap)
  power = []
  if widens.sum() >= 2:  # else there is no power of a gap to fit
    steps = np.diff(gap[:, widens], axis=1)
    power = [
      _claim("gap_exponent_in_horizon", exponent(gap, widens), 0.5, ">="),
      _claim(
        "least_gain_of_a_doubling",
        statistics.bootstrap(steps, lambda rows: rows.mean(0).min(), rng=rng),
        0,
        ">",
      ),
    ]
  lost = table.suboptimality(FREE, "heterogeneous")
  left = table.suboptimality(GRADIENT, "heterogeneous")
  everywhere = np.ones(len(horizons), bool)
  found = [
    _claim("gap_slope_in_horizon", slope(gap), 0, ">"),
    *power,
    _claim(f"gap_{name}", mean(gap[:, here]), 5, ">"),
    _claim(f"gap_at_{at[0]}", mean(gap[:, 0])),
    _claim(
      "gap_slope_of_reweighting",
      slope(table.gap(REWEIGHT, FREE, "heterogeneous")),
      0,
      ">",
    ),
    _claim(
      "gap_slope_where_failures_are_charged",
      slope(table.gap(GRADIENT, CHARGED, "heterogeneous")),
      0,
      ">",
    ),
    _claim("cloning_suboptimality_exponent", exponent(lost, late), 0, ">"),
    _claim(
      "policy_gradient_suboptimality_exponent", exponent(left, late), 0, "<"
    ),
    _claim(
      "cloning_sampling_error_exponent",
      exponent(lost, everywhere, summary=lambda rows: rows.std(0)),
    ),
    _claim(f"homogeneous_gap_{name}", mean(plain[:, here]), 2.5, "<"),
    _claim(
      "homogeneous_gain_of_last_doubling",
      mean(plain[:, -1] - plain[:, -2]),
      0.5,
      "<",
    ),
    _claim(f"rare_gap_{name}", mean(rare[:, here]), 0, "<"),
    _claim(
      f"gap_to_clone_of_best_expert_{name}",
      mean(table.gap(GRADIENT, EXPERT, "heterogeneous")[:, here]),
    ),
  ]
  if table.recipe.contextual:
    other = table.gap(GRADIENT, FREE, table.recipe.contextual)
    found.append(_claim("contextual_gap_slope", slope(other), 0, ">"))
  least = table.reward[GRADIENT] - table.reward[FREE]
  row = table.families.index("heterogeneous")
  found.append(
    _claim(
      f"gap_with_{table.ratios[0]}_trace_a_token_at_{at[0]}",
      mean(least[0, 0, row]),
    )
  )
  return found


def _widening(gap: np.ndarray) -> np.ndarray:
  """The horizons from the first on, after which all mean gaps are positive."""
  positive = gap.mean(0) > 0
  return np.logical_and.accumulate(positive[::-1])[::-1]


def _claim(
  name: str,
  interval: statistics.Interval,
  bar: int | float | None = None,
  comparison: str = ">=",
) -> results.Claim:
  value, low, high = interval
  return results.Claim(
    name, value, min(low, value), max(high, value), bar, comparison
  )


def _base(recipe: planted_study.StudyRecipe) -> dict[str, dict[str, Any]]:
  """Exact mean, heterogeneity and anti-concentration of each base."""
  horizons = tuple(recipe.horizons)
  names = ("reward", "sigma", "concentration")
  return {
    family: {
      name: np.asarray(values, np.float64)
      for name, values in zip(
        names, _moments(task, horizons, recipe.kappa), strict=True
      )
    }
    for family, task in recipe.tasks().items()
  }


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _moments(task, horizons, kappa):
  """Mean, sigma and concentration f32[H] each, over the tested prompts."""
  instance = task.draw(jax.random.key(0))

  def one(horizon):
    chances = planted_oracles.rewards(instance, instance.base, horizon)
    earned = chances @ jnp.arange(chances.shape[-1], dtype=chances.dtype)
    sigma = planted_oracles.spread(chances)
    tail = planted_oracles.tail(chances, kappa)
    return earned.mean(), jnp.sqrt((sigma**2).mean()), tail.mean()

  return jax.vmap(one)(jnp.array(horizons))


def _measured(recipe: planted_study.StudyRecipe) -> dict[str, Any]:
  """What a user would read off sampled rewards, at the study's horizon.

  Problems are the seeds' tasks, one prompt each.
  """
  rng = np.random.default_rng(1)
  found = {}
  for name, task in recipe.tasks().items():
    rewards = np.asarray(
      _sampled(task, recipe.horizon, jnp.arange(recipe.seeds)), np.float64
    )
    said = heterogeneity.diagnose(rewards, recipe.kappa, rng=rng)
    found[name] = {
      "mean": said.mean,
      "sigma": said.sigma,
      "concentration": said.concentration,
      "headroom": said.headroom,
      "recommendation": said.recommendation,
    }
  return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sampled(task, horizon, seeds):
  """Rewards f32[seeds, samples] of the base, on one problem a seed."""

  def one(seed):
    task_key, key = jax.random.split(jax.random.key(seed))
    instance = task.draw(task_key)
    drawn = planted_traces.sample(
      instance, instance.base, key, _SAMPLES, horizon, horizon
    )
    return planted.bilevel_reward(drawn.solved, horizon)

  return jax.vmap(one)(seeds)


def _base_claims(recipe, base, measured) -> list[results.Claim]:
  """Heterogeneity and anti-concentration, measured from samples."""
  at = list(recipe.horizons).index(recipe.horizon)
  claims = []
  for name in ("heterogeneous", "homogeneous", "rare"):
    found = measured[name]
    share = [x / recipe.horizon for x in found["sigma"]]
    claims += [
      _claim(f"sigma_over_horizon_{name}", statistics.Interval(*share)),
      _claim(f"anti_concentration_{name}", found["concentration"]),
    ]
  exact = base["heterogeneous"]["sigma"][at]
  error = [x / exact for x in measured["heterogeneous"]["sigma"]]
  claims.append(
    _claim("sigma_measured_over_exact", statistics.Interval(*error))
  )
  return claims
