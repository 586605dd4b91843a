# SPDX-License-Identifier: Apache-2.0
"""What training on SCALE's traces brought: figures and claims."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxttc import results, simulation
from jaxttc.studies import trace_picture, trace_study, two_speed_bench

LONG = (4, 5)
"""Numbers of additions that the gain is told at."""

_STUDENT, _CONTROL, _THINKER = (f"student-{k}" for k in trace_study.KINDS)


def report(
  recipe: trace_study.TraceRecipe, found: trace_study.Found
) -> simulation.Study:
  """Figures and claims of a study.

  Args:
    recipe: that it was run by.
    found: by `trace_study.run`.

  Raises:
    ValueError: if no step tested is as long as `LONG`.
  """
  data: dict[str, Any] = {
    "model": recipe.scale.model,
    "tau": recipe.tau,
    "rows": recipe.rows,
    "updates": recipe.train.steps,
    "tested": {"steps": recipe.tested, "chains": recipe.scale.chains},
    "probe_auc": found.calibration.auc,
    "tokens_a_row": {
      kind: list(by_seed.values()) for kind, by_seed in found.written.items()
    },
    "steps": [
      {"name": name, "seed": seed, "additions": int(kind)}
      | {
        field: float(getattr(tested, field)[tested.kinds == kind].mean())
        for field in ("right", "tokens")
      }
      for name, by_seed in found.tested.items()
      for seed, tested in by_seed.items()
      for kind in np.unique(tested.kinds)
    ],
    "chains": [
      {"name": name, "seed": seed}
      | {
        field: float(np.mean(getattr(tested.chains, field)))
        for field in two_speed_bench.Outcome._fields
      }
      for name, by_seed in found.tested.items()
      for seed, tested in by_seed.items()
      if tested.chains is not None
    ],
  }
  return simulation.Study(
    recipe.seeds,
    data,
    _claims(found),
    lambda path: trace_picture.draw(data, path),
  )


def _claims(found: trace_study.Found) -> list[results.Claim]:
  """Each the mean over seeds, between the least and the most of them."""

  def over(name: str, figure: Callable[[trace_study.Tested], float]):
    return np.array([figure(one) for one in found.tested[name].values()])

  def long_right(name):
    return 100 * over(name, _long_right)

  def of_chains(name, field):
    return over(name, lambda one: float(np.mean(getattr(one.chains, field))))

  def right(name):
    return 100 * of_chains(name, "right")

  def share(name, of, field):
    return of_chains(name, field) / of_chains(of, field)

  claim = results.claim_over
  return [
    claim(
      "points_gained_at_4_5_digits",
      long_right(_STUDENT) - long_right("fast"),
      20.0,
    ),
    claim(
      "points_over_own_answers_at_4_5_digits",
      long_right(_STUDENT) - long_right(_CONTROL),
      0.0,
      ">",
    ),
    claim(
      "points_gained_by_own_answers_at_4_5_digits",
      long_right(_CONTROL) - long_right("fast"),
    ),
    claim(
      "points_gained_by_thinking_everywhere_at_4_5_digits",
      long_right(_THINKER) - long_right("fast"),
    ),
    claim(
      "points_of_chains_over_the_model_at_once",
      right(_STUDENT) - right("fast"),
    ),
    claim("points_of_chains_over_scale", right(_STUDENT) - right("scale")),
    claim("tokens_over_scale", share(_STUDENT, "scale", "tokens")),
    claim("flops_over_scale", share(_STUDENT, "scale", "flops")),
    claim(
      "tokens_over_thinking_everywhere", share(_STUDENT, _THINKER, "tokens")
    ),
    claim(
      "points_lost_of_working_out",
      100 * (over("slow", _right) - over("kept-scale", _right)),
    ),
  ]


def _right(tested: trace_study.Tested) -> float:
  return float(tested.right.mean())


def _long_right(tested: trace_study.Tested) -> float:
  rows = np.isin(tested.kinds, LONG)
  if not rows.any():
    raise ValueError(f"no step of {LONG} additions was tested")
  return float(tested.right[rows].mean())
