# SPDX-License-Identifier: Apache-2.0
"""The arms of the study of SCALE: programs that carry a chain out."""

from collections.abc import Generator, Mapping
from typing import NamedTuple

import numpy as np

from jaxttc.agents import difficulty, outlines, two_speed
from jaxttc.allocators import step_modes
from jaxttc.predictors import step_failure
from jaxttc.runtime import programs
from jaxttc.studies import two_speed_recipe
from jaxttc.tasks import digit_chains

_PARTS = 100  # a step of the knapsack's budget is this part of the dearest step


class Calibration(NamedTuple):
  """What is known of the model before it is tested.

  Attributes:
    probe: fitted to its answers at once.
    auc: of the probe, on steps that it was not fitted on.
    tau: the largest of the recipe's that, on those steps, promises a chain's
      success to within 0.02 of that of working every step out.
    rates: f64[A, 2], success of fast and slow by number of additions, in the
      order of the recipe's.
    tokens: f64[A, 2], mean tokens sampled for them.
    flops: f64[A, 2], mean FLOPs of them, reading the query included.
  """

  probe: step_failure.Probe
  auc: float
  tau: float
  rates: np.ndarray
  tokens: np.ndarray
  flops: np.ndarray


def system(
  recipe: two_speed_recipe.StudyRecipe,
  mode: str,
  *,
  limit: int | None = None,
  votes: int = 1,
  model: str | None = None,
) -> two_speed.System:
  """A mode as the study asks for it.

  Args:
    recipe: whose limits and models it has.
    mode: one of `digit_chains.MODES`.
    limit: most tokens, in place of the recipe's.
    votes: samples of a step.
    model: who is asked, in place of the mode's own model.
  """
  limits = {"fast": recipe.fast_limit, "slow": recipe.slow_limit}
  return two_speed.System(
    digit_chains.INSTRUCTIONS[mode],
    limits[mode] if limit is None else limit,
    digit_chains.content,
    model=_served_by(recipe, mode) if model is None else model,
    stage=mode,
    samples=votes,
  )


def _served_by(recipe, mode):
  """The engine of a mode; one model serves both unless there are two."""
  return mode if recipe.two_models else "slow"


def program(
  name: str,
  recipe: two_speed_recipe.StudyRecipe,
  calibration: Calibration | None,
  chain: digit_chains.Chain,
  *,
  seed: int,
  at: int,
  hard: Mapping[str, np.ndarray],
) -> Generator[
  programs.Ask | programs.Measure, programs.Replies, two_speed.Run
]:
  """The program of one chain under one arm.

  Args:
    name: of the arm; what stands behind "-" is its threshold, share or cap.
    recipe: of the study.
    calibration: what is known of the models; None for arms that need nothing.
    chain: to carry out.
    seed: of random modes.
    at: the chain's place among its seed's.
    hard: f64[N] by arm, shares of slow steps that random arms match.
  """
  arm, _, number = name.partition("-")
  fast = system(
    recipe,
    "fast",
    votes=recipe.votes if arm == "vote" else 1,
    model="slow" if arm == "large_at_once" else None,
  )
  cap = int(number) if arm.startswith("cap_") else None
  slow = system(recipe, "slow", limit=cap)
  tau = float(number) if number and cap is None else 0.0
  scorer: difficulty.Scorer | None = None
  regime = "with_solutions"
  if arm in ("fast", "vote", "large_at_once"):
    policy = step_modes.always(False)
  elif arm.startswith(("slow", "cap_")):
    policy = step_modes.always(True)
  elif arm == "random":
    share = hard[f"probe-{number}"][at]
    rng = np.random.default_rng([seed, at, int(1000 * tau)])
    policy = step_modes.at_random(round(float(share) * recipe.steps), rng)
  elif arm == "budgeted":
    policy = _budgeted(recipe, calibration, chain, tau)
    regime, scorer = "text_only", difficulty.known([0.0])
  else:
    floor = 0.9 if arm == "probe_floor" else 0.0
    policy = step_modes.threshold(tau, floor)
    regime = "text_only" if arm == "text_only" else regime
    scorer = _scorer(arm, recipe, calibration, chain)
  return two_speed.carry_out(
    chain.text,
    outlines.Outline(chain.outline),
    fast,
    slow,
    policy,
    scorer,
    regime=regime,
    query=digit_chains.query,
    carry="without_answers" not in arm,
  )


def _scorer(arm, recipe, calibration, chain) -> difficulty.Scorer:
  if arm == "disagreement":
    return difficulty.disagreement(
      digit_chains.content,
      samples=recipe.disagreeing,
      limit=recipe.fast_limit,
      model=_served_by(recipe, "fast"),
    )
  if arm == "oracle":
    kinds = sorted(set(recipe.additions))
    return difficulty.known(
      [
        float(1 - calibration.rates[kinds.index(step.additions), 0])
        for step in chain.steps
      ]
    )
  return difficulty.probe()


def _budgeted(recipe, calibration, chain, share) -> step_modes.ModePolicy:
  """Best modes by known rates, at a share of the compute of all slow."""
  kinds = sorted(set(recipe.additions))
  rows = [kinds.index(step.additions) for step in chain.steps]
  rates = np.clip(calibration.rates[rows], 1e-3, 1.0)
  prices = calibration.tokens[rows]
  if recipe.two_models:
    prices = calibration.flops[rows] * _PARTS / calibration.flops.max()
  prices = np.ceil(prices).astype(int)
  budget = max(int(share * prices[:, 1].sum()), 1)
  return step_modes.budgeted(lambda _: rates, lambda _: prices, budget)
