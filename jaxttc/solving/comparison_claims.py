# SPDX-License-Identifier: Apache-2.0
"""What a comparison of decoders claims, with the bars it is held to.

Ratios of costs are at equal accuracy (see `frontier`), differences of
accuracy at the largest budget; all intervals resample problems and seeds.
A claim whose methods were not run is left out; one that fails stays.
"""

from collections.abc import Sequence
import math

import numpy as np

from jaxttc import results
from jaxttc.evaluation import frontier, statistics, tables
from jaxttc.solving import samples as samples_lib

_TOKENS = "generated_tokens"
_PASSES = "verifier_calls"


def claims(
  runs: Sequence[tables.Run],
  controls: Sequence[tables.Run] = (),
  samples: dict[str, samples_lib.Samples] | None = None,
) -> list[results.Claim]:
  """All claims that a comparison can make.

  Args:
    runs: the table.
    controls: the negative controls' runs, labelled "method/control".
    samples: the policy's samples, by control; "" for the reward model.

  Returns:
    The claims; those about methods that are missing are left out.

  Raises:
    ValueError: if the table is empty or its runs do not match.
  """
  draws = tables.resample(runs, 2000, 0)
  methods = {run.method for run in runs}
  return [
    *_savings(runs, methods),
    *_auc(samples or {}),
    *_front(runs, methods),
    *_orders(draws, methods),
    *_accuracies(draws, methods),
    *_rises(draws, methods),
    *_against_controls([*runs, *controls], controls),
  ]


def claim(
  name: str,
  interval: statistics.Interval,
  bar: float | None = None,
  comparison: str = ">=",
) -> results.Claim:
  """A claim; an interval with an infinite end is left out."""
  value, low, high = interval
  if not (math.isfinite(low) and math.isfinite(high)):
    return results.Claim(name, value, bar=bar, comparison=comparison)
  # The percentile interval of a lopsided statistic may miss its value.
  low, high = min(low, value), max(high, value)
  return results.Claim(name, value, low, high, bar, comparison)


def _savings(runs, methods):
  for baseline, bar in (("best_of_n", 3.0), ("particle_filter", 1.7)):
    if {"astar", baseline} <= methods:
      saving = frontier.savings_at_best(runs, "astar", baseline, _TOKENS)
      # Where A* never is as accurate, no tokens are enough.
      ratio = saving.ratio if saving else statistics.Interval(0.0, 0.0, 0.0)
      yield claim(f"tokens_{baseline}_over_astar", ratio, bar)
  if {"astar", "particle_filter"} <= methods:
    # At the best accuracy that both reach.
    saving = frontier.savings(runs, "astar", "particle_filter", _PASSES)[-1]
    value, low, high = saving.ratio
    inverse = statistics.Interval(*(_inverse(x) for x in (value, high, low)))
    name = "reward_passes_astar_over_particle_filter"
    if math.isfinite(inverse.value):
      yield claim(name, inverse, 0.7, "<=")


def _inverse(ratio: float) -> float:
  if ratio == 0:
    return math.inf
  return 1 / ratio


def _auc(samples):
  for kind, found in samples.items():
    interval = samples_lib.auc_interval(found)
    if interval is not None:
      name = f"auc_{kind}_control" if kind else "reward_model_auc"
      yield claim(name, interval, None if kind else 0.9)


def _front(runs, methods):
  if "astar" not in methods:
    return
  checks = frontier.on_front_at_every_budget(runs, "astar", _TOKENS)
  share = float(np.mean([check.within for check in checks]))
  yield results.Claim("astar_on_front_at_every_budget", share, bar=1.0)
  gap = max((check.gap for check in checks), key=lambda gap: gap.value)
  yield claim("astar_largest_gap_to_front", gap)


def _orders(draws, methods):
  """Does weighing beat voting, and voting one greedy solution?"""
  order = ("weighted_best_of_n", "self_consistency", "greedy")
  names = ("weighted", "majority", "greedy")
  for i in range(2):
    if {order[i], order[i + 1]} <= methods:
      gap = _largest(draws, order[i]) - _largest(draws, order[i + 1])
      name = f"{names[i]}_minus_{names[i + 1]}"
      yield claim(name, tables.interval(gap, 0.95), 0.0)


def _largest(draws: tables.Draws, method: str) -> np.ndarray:
  """Accuracy at the largest budget, of the setting that spends most."""
  own = _at(draws, method, max(_budgets(draws, method)))
  return draws.accuracy[:, max(own, key=lambda i: draws.cost[_TOKENS][0, i])]


def _best(draws: tables.Draws, method: str, budget: float) -> np.ndarray:
  """Accuracy at a budget, of the most accurate setting."""
  own = _at(draws, method, budget)
  return draws.accuracy[:, max(own, key=lambda i: draws.accuracy[0, i])]


def _at(draws, method, budget) -> list[int]:
  return [int(i) for i in draws.of(method) if draws.keys[i][2] == budget]


def _budgets(draws, method) -> set[float]:
  return {draws.keys[i][2] for i in draws.of(method)}


def _accuracies(draws, methods):
  for method in sorted(methods):
    best = _best(draws, method, max(_budgets(draws, method)))
    yield claim(f"accuracy_{method}", tables.interval(best, 0.95))


def _rises(draws, methods):
  """What the largest budget adds to the smallest, method by method."""
  for method in sorted(methods):
    budgets = _budgets(draws, method)
    if len(budgets) > 1:
      last = _best(draws, method, max(budgets))
      rise = last - _best(draws, method, min(budgets))
      interval = tables.interval(rise, 0.95)
      yield claim(f"accuracy_rises_{method}", interval, 0.0, ">")


def _against_controls(runs, controls):
  """By how much the reward model beats each control, in the same search."""
  if not controls:
    return
  draws = tables.resample(runs, 2000, 0)
  keys = {run.method: (run.setting, run.budget) for run in controls}
  for name, place in sorted(keys.items()):
    method, kind = name.split("/")
    pair = [draws.keys.index((m, *place)) for m in (method, name)]
    gap = draws.accuracy[:, pair[0]] - draws.accuracy[:, pair[1]]
    interval = tables.interval(gap, 0.95)
    yield claim(f"{method}_minus_{kind}_control", interval, 0.0, ">")
