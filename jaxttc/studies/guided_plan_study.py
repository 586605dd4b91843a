# SPDX-License-Identifier: Apache-2.0
"""Shares of a plan kept by guidance, and by caps, at equal budgets.

A problem is a few sums of digits, thought about one after the other by the
model that thinks; it is solved if all are right. Sums differ in length, and
their kinds are drawn for each problem, while all problems have one budget.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import os
import random
from typing import Any

import numpy as np
from rich import progress

from jaxttc import page, results, simulation
from jaxttc.allocators import (
  executors,
  local_budgets,
  plans,
  thought_steps,
)
from jaxttc.evaluation import statistics
from jaxttc.inference import bundle, controllers
from jaxttc.solving import thinking_text
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib

CREDITS = ("equal", "by length")
_FREE = "full"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is solved, and how shares are kept.

  Attributes:
    model: a model that thinks, or the name of one that ships.
    ways: how shares are kept, as `thinking_text` has it, without budgets; the
      first is judged against the others.
    problems: of each seed.
    sums: of a problem.
    digits: of a sum, drawn for each.
    shares: budgets, as shares of the mean need of a problem.
    judged: the shares that claims are about.
    answer_tokens: that an answer takes.
    limit: most tokens of a thought and its answer.
    min_p: of the sampler; see configs/thinking.py.
    seeds: of problems and samples.
    resamples: of the bootstrap.
  """

  model: str = "thinking_lm"
  ways: tuple[str, ...] = ("guided", "hard_cap", "budget_forcing")
  problems: int = 60
  sums: int = 4
  digits: tuple[int, ...] = (2, 3, 4)
  shares: tuple[float, ...] = (0.6, 0.8, 1.0)
  judged: tuple[float, ...] = (0.6, 0.8, 1.0)
  answer_tokens: int = 4
  limit: int = 64
  min_p: float = 0.01
  seeds: tuple[int, ...] = (0, 1, 2)
  resamples: int = 1000

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("problems", "sums", "resamples"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    if len(self.ways) < 2:
      raise ValueError(f"ways={self.ways}: expected at least two")
    if not self.seeds or not self.shares or min(self.shares) <= 0:
      raise ValueError("expected seeds, and shares above 0")
    if not self.judged or not set(self.judged) <= set(self.shares):
      raise ValueError(f"judged={self.judged}: expected some of {self.shares}")


Problem = list[problems_lib.Problem]


def plan_of(problem: Problem, credits: str) -> plans.Plan:
  """Sub-questions, with equal credits or credits by their digits."""
  sizes = [float(part.steps) if credits != "equal" else 1.0 for part in problem]
  return plans.Plan(
    steps=tuple(part.text for part in problem),
    credits=tuple(100 * size / sum(sizes) for size in sizes),
  )


class _Bench:
  """The model, and its ways to think, each compiled once."""

  def __init__(self, recipe: StudyRecipe):
    self._recipe = recipe
    self._policy = bundle.load(recipe.model)
    self._ways = {
      name: thinking_text.build(
        name,
        self._policy,
        limit=recipe.limit,
        sampler=controllers.Sampler(min_p=recipe.min_p),
      )
      for name in (_FREE, *recipe.ways)
    }

  def problems(self, seed: int) -> list[Problem]:
    rng, recipe = random.Random(f"guided-plans-{seed}"), self._recipe
    return [
      [
        digit_sums.generate(rng, rng.choice(recipe.digits))
        for _ in range(recipe.sums)
      ]
      for _ in range(recipe.problems)
    ]

  def solve(
    self,
    way: str,
    problems: Sequence[Problem],
    made: Sequence[plans.Plan],
    shares: Sequence[Sequence[int] | np.ndarray],
    rule: str,
    seed: int,
  ) -> dict[str, np.ndarray]:
    """Right bool[N], tokens f64[N], of all problems by one way and rule."""
    decode = thought_steps.ThoughtSteps(
      self._ways[way].think,
      self._policy,
      [f"{seed}-{place}" for place in range(len(problems))],
      answer_tokens=self._recipe.answer_tokens,
      seed=seed,
    )
    done = executors.carry_out_together(
      [
        executors.sequential(
          "sums",
          plan,
          given,
          rule,
          prompt=lambda at, before, plan=plan: plan.steps[at] + "\n",
        )
        for plan, given in zip(made, shares, strict=True)
      ],
      decode,
    )
    right = [
      all(
        finished and problems_lib.find_answer(text) == part.answer
        for part, text, finished in zip(
          problem, one.texts, one.finished, strict=True
        )
      )
      for problem, one in zip(problems, done, strict=True)
    ]
    return {
      "right": np.array(right),
      "tokens": np.array([sum(one.tokens) for one in done], float),
    }


def run(recipe: StudyRecipe) -> dict[str, Any]:
  """Solves all problems by every way, rule, credit and budget.

  Returns:
    Tidy data: `rows` of dicts, `right` of each problem in them; `need`, mean
    tokens of a problem without a budget, by seed.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  bench, rows, need = _Bench(recipe), [], []
  cells = list(
    itertools.product(
      recipe.ways, local_budgets.ROLL_OVERS, CREDITS, recipe.shares
    )
  )
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("plans", total=len(cells) * len(recipe.seeds))
    for seed in recipe.seeds:
      problems = bench.problems(seed)
      made = {
        credits: [plan_of(problem, credits) for problem in problems]
        for credits in CREDITS
      }
      enough = [[recipe.limit] * recipe.sums] * len(problems)
      free = bench.solve(_FREE, problems, made["equal"], enough, "none", seed)
      need.append(float(free["tokens"].mean()))
      rows.append(_row(_FREE, "none", "equal", 0.0, seed, free))
      for way, rule, credits, share in cells:
        total = int(share * need[-1])
        given = [plan.split(total, "constant") for plan in made[credits]]
        found = bench.solve(way, problems, made[credits], given, rule, seed)
        rows.append(_row(way, rule, credits, share, seed, found))
        bar.advance(shown)
  return {"rows": rows, "need": need}


def _row(way, rule, credits, share, seed, found) -> dict[str, Any]:
  return {
    "way": way,
    "rule": rule,
    "credits": credits,
    "share": share,
    "seed": seed,
    "right": found["right"].astype(int).tolist(),
    "accuracy": float(found["right"].mean()),
    "tokens": float(found["tokens"].mean()),
  }


def report(recipe: StudyRecipe, data: dict[str, Any]) -> simulation.Study:
  """Claims of a study: points of guidance over every other way.

  Args:
    recipe: that it was run by.
    data: as `run` returns it.
  """
  kept = data | {
    "rows": [
      {name: value for name, value in row.items() if name != "right"}
      for row in data["rows"]
    ],
    "ways": list(recipe.ways),
  }
  rng = np.random.default_rng(0)

  def right(way, rule, credits, shares):
    """bool[shares, S N]; the problems of all seeds one after the other."""
    found = {
      (row["share"], row["seed"]): row["right"]
      for row in data["rows"]
      if (row["way"], row["rule"], row["credits"]) == (way, rule, credits)
    }
    return np.array(
      [
        [right for seed in recipe.seeds for right in found[share, seed]]
        for share in shares
      ],
      float,
    )

  def points(name, gain, bar=None):
    interval = statistics.bootstrap(
      100 * gain.mean(0), resamples=recipe.resamples, rng=rng
    )
    return results.Claim(name, *interval, bar=bar, comparison=">")

  first, claims = recipe.ways[0], []
  for other in recipe.ways[1:]:
    for rule in local_budgets.ROLL_OVERS:
      ours = right(first, rule, "by length", recipe.judged)
      theirs = right(other, rule, "by length", recipe.judged)
      claims.append(
        points(
          f"points_{first}_over_{other}_{rule}",
          ours - theirs,
          0.0 if other == "hard_cap" else None,
        )
      )
  best = np.max(
    [
      right(way, rule, credits, recipe.judged).mean(1)
      for way in recipe.ways[1:]
      for rule in local_budgets.ROLL_OVERS
      for credits in CREDITS
    ],
    axis=0,
  )
  ours = right(first, "next", "by length", recipe.judged)
  claims.append(
    points(f"points_{first}_over_best_other_in_hindsight", ours - best[:, None])
  )
  claims.append(
    points(
      "points_credits_by_length_over_equal",
      ours - right(first, "next", "equal", recipe.judged),
    )
  )
  return simulation.Study(
    recipe.seeds, kept, claims, lambda path: draw(kept, path)
  )


def draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture: problems solved against the budget, a panel a rule.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  colours = ("#0072B2", "#D55E00", "#999999", "#E69F00", "#009E73")
  with page.style():
    figure = page.figure(3.6)
    panels = figure.subplots(1, len(local_budgets.ROLL_OVERS), sharey=True)
    for axes, rule in zip(panels, local_budgets.ROLL_OVERS, strict=True):
      for way, colour in zip(data["ways"], colours, strict=False):
        for credits in CREDITS:
          rows = [
            row
            for row in data["rows"]
            if (row["way"], row["rule"], row["credits"]) == (way, rule, credits)
          ]
          shares = sorted({row["share"] for row in rows})
          axes.plot(
            shares,
            [
              100 * np.mean([r["accuracy"] for r in rows if r["share"] == s])
              for s in shares
            ],
            color=colour,
            ls="-" if credits == "by length" else ":",
            marker="o" if credits == "by length" else None,
            ms=3,
            label=way.replace("_", " ") if credits == "by length" else None,
          )
      axes.set_title(f"roll-over: {rule}")
      axes.set_xlabel("budget / mean need")
    panels[0].set_ylabel("problems solved, %")
    panels[-1].legend(fontsize=7)
    page.save(figure, path)
