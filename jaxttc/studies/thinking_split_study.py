# SPDX-License-Identifier: Apache-2.0
"""Thinking budgets by difficulty, against equal ones of the same total.

On tuning questions, which are asked under every budget of a grid, a curve is
fitted for each way of thinking: chance of a right answer by difficulty and
budget. On other questions the same total is then split four ways:

    equal      the mean for each
    adaptive   by the difficulty that the length predictor sees in the prompt
    shuffled   by another question's difficulty: what splitting alone is worth
    oracle     by the number of digits, with a curve of its own

Nothing is chosen on the questions that are told.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
from rich import progress
from scipy import stats

from jaxttc import page, results, simulation
from jaxttc.allocators import thinking_budgets
from jaxttc.evaluation import statistics
from jaxttc.predictors import success_curves, thinking_difficulty
from jaxttc.solving import (
  problem_sets,
  solve_recipe,
  thinking_solving,
  thinking_split,
)

ARMS = ("equal", "adaptive", "shuffled", "oracle")


@dataclasses.dataclass(kw_only=True)
class SplitRecipe:
  """What the study asks.

  Attributes:
    policy: a model that thinks.
    predictor: its length predictor.
    ways: limited ways of thinking (`thinking_text`); the first one's claims
      have bars.
    questions: sums of 2, 3 and 4 digits, in turn.
    seed: of the questions that are told.
    tuning_questions: that curves are fitted on.
    tuning_seed: of these.
    tuning_budgets: that they are asked under.
    budgets: means that are told.
    seeds: of sampling, on both.
    limit: most tokens of thought and answer.
    min_p: as of `solve_recipe.SamplingOptions`.
    resamples: of the bootstrap over questions.
  """

  policy: str = "thinking_lm"
  predictor: str = "thinking_length"
  ways: tuple[str, ...] = ("guided", "hard_cap")
  questions: int = 120
  seed: int = 7
  tuning_questions: int = 120
  tuning_seed: int = 101
  tuning_budgets: tuple[int, ...] = (4, 6, 8, 10, 12, 14, 18, 24, 32)
  budgets: tuple[int, ...] = (8, 10, 12, 16)
  seeds: tuple[int, ...] = (0, 1, 2)
  limit: int = 64
  min_p: float = 0.01
  resamples: int = 2000

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    if not self.ways or not self.seeds or not self.budgets:
      raise ValueError("ways, seeds and budgets must not be empty")
    if min(self.questions, self.tuning_questions) < 3:
      raise ValueError(
        f"questions={self.questions} and tuning_questions="
        f"{self.tuning_questions} must be at least 3: a length each"
      )
    if self.seed == self.tuning_seed:
      raise ValueError(
        f"seed and tuning_seed are both {self.seed}; expected other questions"
      )
    if len(set(self.tuning_budgets)) < 2:
      raise ValueError(
        f"tuning_budgets={self.tuning_budgets}: expected at least two"
      )

  def job(self, way: str, *, tuning: bool) -> thinking_solving.Job:
    """Tuning questions, or those that are told, under a way."""
    count = self.tuning_questions if tuning else self.questions
    source = problem_sets.ProblemSource(
      family="digit_sums",
      count=count,
      seed=self.tuning_seed if tuning else self.seed,
    )
    return thinking_solving.prepare(
      solve_recipe.SolveRecipe(
        problems=source,
        policy=self.policy,
        verifier="",
        thinking=f"{way}(budget={self.limit // 2})",
        budget="",
        sampling=solve_recipe.SamplingOptions(
          min_p=self.min_p, max_tokens=self.limit
        ),
        batch=count,
      )
    )


class Asked(NamedTuple):
  """Answers of some questions under some budgets, [questions, seeds]."""

  right: np.ndarray
  tokens: np.ndarray


class Found(NamedTuple):
  """All that a study finds.

  Attributes:
    estimator: with a curve of each way.
    difficulty: by way, of the questions that are told.
    digits: of each question.
    budgets: by (way, mean, arm), of each question.
    asked: likewise.
    brier: by way, of the chances on the told questions: squared error of
      forecasts by difficulty, and of the tuning mean at each budget.
  """

  estimator: thinking_difficulty.DifficultyEstimator
  difficulty: dict[str, np.ndarray]
  digits: np.ndarray
  budgets: dict[tuple[str, int, str], np.ndarray]
  asked: dict[tuple[str, int, str], Asked]
  brier: dict[str, tuple[np.ndarray, np.ndarray]]


def run(recipe: SplitRecipe) -> Found:
  """Fits the curves, splits the budgets and asks.

  Raises:
    ValueError: if the recipe cannot be.
  """
  recipe.validate()
  estimator = thinking_difficulty.begin(recipe.predictor)
  found = Found(estimator, {}, np.zeros(0), {}, {}, {})
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task(
      "thinking",
      total=len(recipe.ways)
      * (len(recipe.tuning_budgets) + len(ARMS) * len(recipe.budgets)),
    )
    for way in recipe.ways:
      found = _way(recipe, way, found, lambda: bar.advance(shown))
  about = (
    f"{recipe.tuning_questions} sums of digits, seed {recipe.tuning_seed}, at "
    f"budgets of {', '.join(map(str, recipe.tuning_budgets))}"
  )
  return found._replace(
    estimator=dataclasses.replace(found.estimator, origin=about)
  )


def _way(recipe: SplitRecipe, way: str, found: Found, advance) -> Found:
  """Adds one way to what was found."""
  tuning, told = (recipe.job(way, tuning=tuning) for tuning in (True, False))
  told = dataclasses.replace(told, way=tuning.way)  # compiled once
  estimator = found.estimator
  hard = estimator.difficulty(tuning.policy, tuning.prompts)
  means, right, budget = [], [], []
  for each in recipe.tuning_budgets:
    got = _ask(recipe, tuning, np.full(len(hard), each), hard).right
    means.append(got.mean())
    right.append(got)
    budget.append(np.full(got.shape, each))
    advance()
  answers = np.concatenate(right).ravel() > 0
  tokens = np.concatenate(budget).ravel()
  times = len(recipe.tuning_budgets)
  spread = lambda x: np.tile(  # noqa: E731
    np.repeat(x, len(recipe.seeds)), times
  )
  estimator = estimator.fit(way, spread(hard), tokens, answers)
  digits = np.array([float(p.steps) for p in tuning.problems])
  oracle = success_curves.fit(spread(digits), tokens, answers)
  seen = estimator.difficulty(told.policy, told.prompts)
  length = np.array([float(p.steps) for p in told.problems])
  sizes = thinking_split.choices(recipe.limit)
  other = np.random.default_rng(recipe.seed).permutation(len(seen))
  curves = {
    "adaptive": estimator.predict_curve(way, seen, sizes),
    "shuffled": estimator.predict_curve(way, seen[other], sizes),
    "oracle": oracle(length[:, None], sizes[None]),
  }
  budgets, asked = dict(found.budgets), dict(found.asked)
  errors = []
  for mean in recipe.budgets:
    for arm in ARMS:
      split = np.full(len(seen), mean)
      if arm in curves:
        split = thinking_budgets.assign_budgets(
          curves[arm], sizes, mean * len(seen)
        )
      budgets[way, mean, arm] = split
      asked[way, mean, arm] = _ask(recipe, told, split, seen)
      advance()
    got = asked[way, mean, "equal"].right
    chance = estimator.predict_curve(way, seen, np.array([mean]))
    constant = np.interp(mean, recipe.tuning_budgets, means)
    errors.append(((got - chance) ** 2, (got - constant) ** 2))
  return found._replace(
    estimator=estimator,
    difficulty={**found.difficulty, way: seen},
    digits=length,
    budgets=budgets,
    asked=asked,
    brier={
      **found.brier,
      way: tuple(np.mean(side, axis=0) for side in zip(*errors, strict=True)),
    },
  )


def _ask(
  recipe: SplitRecipe,
  job: thinking_solving.Job,
  budgets: np.ndarray,
  difficulty: np.ndarray,
) -> Asked:
  """Answers of a job's questions, each under its own budget."""
  split = thinking_split.Split(budgets.astype(np.int32), difficulty, 0, "")
  rows = [
    list(thinking_solving.solve(dataclasses.replace(job, split=split), seed))
    for seed in recipe.seeds
  ]

  def table(key: str) -> np.ndarray:
    return np.array([[float(row[key]) for row in each] for each in rows]).T

  return Asked(table("correct"), table("thinking_tokens"))


def cells(recipe: SplitRecipe, found: Found) -> list[dict[str, Any]]:
  """Of each way, mean and arm: accuracy, tokens, and budgets by digits."""
  made = []
  for (way, mean, arm), got in found.asked.items():
    budgets = found.budgets[way, mean, arm]
    made.append(
      {
        "way": way,
        "budget": mean,
        "arm": arm,
        "accuracy": float(got.right.mean()),
        "mean_budget": float(budgets.mean()),
        "thinking_tokens": float(got.tokens.mean()),
        "budget_by_digits": {
          str(int(d)): float(budgets[found.digits == d].mean())
          for d in np.unique(found.digits)
        },
      }
    )
  return made


def claims(recipe: SplitRecipe, found: Found) -> list[results.Claim]:
  """What splitting by difficulty brings, and what it does not."""
  rng = np.random.default_rng(recipe.seed)
  made = []
  for number, way in enumerate(recipe.ways):
    barred = number == 0
    suffix = "" if barred else f"_{way}"

    def right(arm, means, way=way):
      return np.mean([found.asked[way, m, arm].right for m in means], axis=0)

    def gap(name, arm, means, suffix=suffix, right=right, **bar):
      interval = statistics.paired_difference(
        100.0 * right(arm, means),
        100.0 * right("equal", means),
        resamples=recipe.resamples,
        rng=rng,
      )
      return results.Claim(name + suffix, *interval, **bar)

    bar = {"bar": 5.0} if barred else {}
    made.append(
      gap("points_over_equal_budgets", "adaptive", recipe.budgets, **bar)
    )
    made += [
      gap(f"points_over_equal_budgets_at_{mean}", "adaptive", (mean,))
      for mean in recipe.budgets
    ]
    none = {"bar": 0.0, "comparison": "<="} if barred else {}
    made += [
      gap(
        "points_of_shuffled_difficulty_over_equal",
        "shuffled",
        recipe.budgets,
        **none,
      ),
      gap("points_of_oracle_over_equal", "oracle", recipe.budgets),
      results.Claim(
        "spearman_of_difficulty_and_digits" + suffix,
        float(stats.spearmanr(found.difficulty[way], found.digits)[0]),
        **({"bar": 0.8} if barred else {}),
      ),
    ]
    ours, constant = found.brier[way]
    less = statistics.paired_difference(
      constant, ours, resamples=recipe.resamples, rng=rng
    )
    more = {"bar": 0.0, "comparison": ">"} if barred else {}
    made.append(results.Claim("brier_below_constant" + suffix, *less, **more))
    tokens = {
      arm: np.mean([found.asked[way, m, arm].tokens for m in recipe.budgets])
      for arm in ARMS
    }
    made.append(
      results.Claim(
        "tokens_over_equal_budgets" + suffix,
        float(tokens["adaptive"] / tokens["equal"]),
      )
    )
  most = max(
    found.budgets[way, mean, arm].sum() / (mean * recipe.questions)
    for way, mean, arm in found.budgets
  )
  made.append(
    results.Claim(
      "total_over_given_most", float(most), bar=1.0, comparison="<="
    )
  )
  return made


def report(recipe: SplitRecipe, found: Found) -> simulation.Study:
  """Figures, claims and the picture of a run."""
  data = {
    "cells": cells(recipe, found),
    "curves": {
      way: dataclasses.asdict(curve)
      for way, curve in found.estimator.curves.items()
    },
    "difficulty": {
      way: {
        str(int(d)): float(hard[found.digits == d].mean())
        for d in np.unique(found.digits)
      }
      for way, hard in found.difficulty.items()
    },
  }
  return simulation.Study(
    recipe.seeds,
    data,
    claims(recipe, found),
    lambda path: draw(data["cells"], path),
  )


def draw(
  rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Accuracy by the mean budget, a panel a way."""
  ways = list(dict.fromkeys(row["way"] for row in rows))
  with page.style():
    figure = page.figure(3.6)
    panels = figure.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for axis, way in zip(panels, ways, strict=True):
      for arm, points in _lines(rows, way):
        axis.plot(*points, marker="osx^"[ARMS.index(arm)], label=arm)
      axis.set(xlabel="mean budget, tokens", title=way.replace("_", " "))
    panels[0].set(ylabel="share of right answers")
    panels[0].legend()
    page.save(figure, path)


def _lines(rows, way) -> Iterator[tuple[str, tuple[list[Any], list[Any]]]]:
  for arm in ARMS:
    mine = [row for row in rows if (row["way"], row["arm"]) == (way, arm)]
    yield (
      arm,
      ([row["budget"] for row in mine], [row["accuracy"] for row in mine]),
    )
