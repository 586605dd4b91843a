# SPDX-License-Identifier: Apache-2.0
"""Single answers and searches of language models of several widths."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from benchmarks import slimmable_lm_models
from configs import nested_lm
from jaxttc.cost import budget as budget_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.solving import decoder_text, problem_sets, solve_recipe
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib

SINGLE = ("greedy", "sample")
SEARCH = (
  "astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4, "
  "max_steps=12)"
)
# One object a text, so that its search is compiled once.
_decoder = functools.lru_cache(decoder_text.build)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Which problems, how many, and under which budgets.

  Attributes:
    problems: evaluation problems of each seed.
    calibration: calibration problems of each seed; others than those.
    seeds: of problems and sampling.
    budgets: FLOPs a problem, rising.
    steps: difficulties of the problems, taken in turn.
    batch: problems searched at once.
  """

  problems: int = 100
  calibration: int = 100
  seeds: tuple[int, ...] = (0, 1, 2)
  budgets: tuple[float, ...] = (2.5e8, 3.5e8, 5e8, 8e8)
  steps: tuple[int, ...] = (4, 6, 8)
  batch: int = 100


class Solved(NamedTuple):
  """What came of some problems: right bool[N], FLOPs spent f64[N]."""

  right: np.ndarray
  flops: np.ndarray


def problems(
  plan: Plan, seed: int, *, calibration: bool
) -> list[problems_lib.Problem]:
  """Problems that the policy was trained for, of the test split."""
  families = nested_lm.get_config().mix.families
  first = 0 if calibration else plan.calibration
  count = plan.calibration if calibration else plan.problems
  return [
    arithmetic.problem(
      i,
      family=families[i % len(families)],
      steps=plan.steps[i % len(plan.steps)],
      split="test",
      seed=seed,
    )
    for i in range(first, first + count)
  ]


def solve(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle,
  decoder: str,
  asked: list[problems_lib.Problem],
  plan: Plan,
  *,
  seed: int,
  flops: float | None = None,
) -> Solved:
  """Solves problems, each under a budget of FLOPs or none."""
  said = decoder_text.parse(decoder)
  sampling = solve_recipe.SamplingOptions(
    temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=80, slots=320
  )
  settings = dataclasses.replace(
    sampling.build(said.temperature), prompt_tokens=128
  )
  found = search_lib.solve(
    [problems_lib.prompt(p, "terse") for p in asked],
    [p.id for p in asked],
    policy,
    verifier,
    _decoder(decoder),
    budget=budget_lib.Budget(flops=flops),
    settings=settings,
    seed=seed,
    batch=plan.batch,
  )
  right, spent = [], []
  for problem, result in zip(asked, found, strict=True):
    right.append(bool(problem_sets.is_right(problem, result.completion)))
    spent.append(float(result.cost.flops))
  return Solved(np.array(right), np.array(spent))


def single_answers(
  models: slimmable_lm_models.Models, plan: Plan
) -> dict[tuple[str, float, str], np.ndarray]:
  """Right or not, by (kind of model, width, decoder): bool[seeds, N]."""
  found = {}
  for kind in ("nested", "separate"):
    for width, policy in getattr(models, kind).items():
      for decoder in SINGLE:
        found[kind, width, decoder] = np.stack(
          [
            solve(
              policy,
              models.verifier,
              decoder,
              problems(plan, seed, calibration=False),
              plan,
              seed=seed,
            ).right
            for seed in plan.seeds
          ]
        )
        accuracy = found[kind, width, decoder].mean()
        print(f"{kind} {width:g} {decoder}: {accuracy:.3f}", flush=True)
  return found


def searched(
  models: slimmable_lm_models.Models, plan: Plan, *, calibration: bool
) -> dict[tuple[float, float], Solved]:
  """What A* solves, by (width, budget): arrays [seeds, N].

  Nothing is chosen here; both splits are searched at all widths, so that the
  figure can show what was not chosen, too.
  """
  found = {}
  for width, policy in models.nested.items():
    for flops in plan.budgets:
      each = [
        solve(
          policy,
          models.verifier,
          SEARCH,
          problems(plan, seed, calibration=calibration),
          plan,
          seed=seed,
          flops=flops,
        )
        for seed in plan.seeds
      ]
      found[width, flops] = Solved(*map(np.stack, zip(*each, strict=True)))
      split = "calibration" if calibration else "evaluation"
      accuracy = found[width, flops].right.mean()
      print(f"A* {width:g} {flops:.3g} {split}: {accuracy:.3f}", flush=True)
  return found
