# SPDX-License-Identifier: Apache-2.0
"""Ways to think beside each other: accuracy, tokens and control by budget.

All ways of `thinking_text`, each as its defaults have it, answer the same
questions under the same budgets; nothing is chosen on the answers. s1's three
metrics sum up each way (`evaluation.length_control`).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
from typing import Any

import numpy as np
from scipy import stats

from jaxttc import page, results, simulation
from jaxttc.evaluation import length_control, statistics
from jaxttc.solving import problem_sets, solve_recipe, thinking_solving
from jaxttc.tasks import problems as problems_lib

WAYS = (
  *("hard_cap", "budget_forcing", "prompt_hint", "no_wait", "soft_close"),
  *("rejection", "early_exit", "guided"),
)
UNLIMITED = ("full", "no_thinking")


@dataclasses.dataclass(kw_only=True)
class WaysRecipe:
  """What the study asks.

  Attributes:
    policy: a model that thinks, whose length predictor ships.
    ways: some of `WAYS`; what compares others is left out.
    questions: sums of 2, 3 and 4 digits, in turn.
    budgets: tokens of a span, at least two, rising.
    at: the budget at which ways are compared.
    seeds: of all sampling.
    limit: most tokens of thought and answer.
    min_p: as of `solve_recipe.SamplingOptions`, for all ways alike.
    resamples: of the bootstrap over questions.
  """

  policy: str = "thinking_lm"
  ways: tuple[str, ...] = WAYS
  questions: int = 60
  budgets: tuple[int, ...] = (8, 12, 16, 24, 32)
  at: int = 12
  seeds: tuple[int, ...] = (0, 1, 2)
  limit: int = 64
  min_p: float = 0.01
  resamples: int = 2000

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    if len(self.budgets) < 2 or list(self.budgets) != sorted(set(self.budgets)):
      raise ValueError(
        f"budgets are {self.budgets}; expected two or more, rising"
      )
    for way in self.ways:
      problems_lib.require_name(way, WAYS, "way")
    if self.at not in self.budgets:
      raise ValueError(f"at is {self.at}; expected one of {self.budgets}")
    if self.questions < 3 or not self.seeds:
      raise ValueError(
        f"{self.questions} questions and {len(self.seeds)} seeds; expected 3 "
        "and 1 at least"
      )

  def solve_recipe(self, thinking: str) -> solve_recipe.SolveRecipe:
    """One way and budget."""
    return solve_recipe.SolveRecipe(
      problems=problem_sets.ProblemSource(
        family="digit_sums", count=self.questions
      ),
      policy=self.policy,
      verifier="",
      thinking=thinking,
      budget="",
      sampling=solve_recipe.SamplingOptions(
        min_p=self.min_p, max_tokens=self.limit
      ),
      batch=self.questions,
    )


# What is kept of a row.
_KEPT = (
  *("correct", "thinking_tokens", "answer_tokens", "overhead_tokens"),
  *("thinking_finish", "answer"),
)


def run(recipe: WaysRecipe) -> dict[str, list[dict[str, Any]]]:
  """Rows by way: of each budget, seed and question what came of it.

  Raises:
    ValueError: if the recipe cannot be.
  """
  recipe.validate()
  found = {}
  for name in (*UNLIMITED, *recipe.ways):
    text = f"{name}(budget={recipe.at})" if name in WAYS else name
    job = thinking_solving.prepare(recipe.solve_recipe(text))
    budgets = recipe.budgets if name in WAYS else (recipe.limit,)
    found[name] = [
      {"budget": budget, "seed": seed, "digits": problem.steps}
      | {key: row[key] for key in _KEPT}
      | {"flops": row["cost"]["flops"]}
      for budget in budgets
      for seed in recipe.seeds
      for problem, row in zip(
        job.problems,
        thinking_solving.solve(dataclasses.replace(job, budget=budget), seed),
        strict=True,
      )
    ]
  return found


def _table(rows, budget, key, questions) -> np.ndarray:
  """f64[questions, seeds] of a field at a budget."""
  values = [float(row[key]) for row in rows if row["budget"] == budget]
  return np.array(values).reshape(-1, questions).T


def cells(
  recipe: WaysRecipe, found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
  """Of each way and budget: accuracy, tokens, and how the budget was kept."""
  made = []
  for name, rows in found.items():
    for budget in sorted({row["budget"] for row in rows}):
      here = [row for row in rows if row["budget"] == budget]
      spent = np.array([row["thinking_tokens"] for row in here])
      forced = np.array([row["thinking_finish"] == "forced" for row in here])
      kept = length_control.adherence(spent, np.full(len(here), budget), forced)
      mean = lambda key: float(np.mean([row[key] for row in here]))  # noqa: B023, E731
      made.append(
        {
          "way": name,
          "budget": budget if name in WAYS else None,
          "accuracy": mean("correct"),
          "thinking_tokens": float(spent.mean()),
          "answer_tokens": mean("answer_tokens"),
          "overhead_tokens": mean("overhead_tokens"),
          "flops": mean("flops"),
          "no_answer": float(np.mean([row["answer"] is None for row in here])),
          "control": length_control.control(spent, 0, budget),
        }
        | kept._asdict()
      )
  return made


def claims(
  recipe: WaysRecipe, found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[results.Claim]:
  """The ways' metrics, and the orderings that papers report."""
  rng, tables = np.random.default_rng(0), cells(recipe, found)

  def of(way, key, budget):
    return _table(found[way], budget, key, recipe.questions)

  def gap(name, ours, theirs, **bar):
    interval = statistics.paired_difference(
      100.0 * ours, 100.0 * theirs, resamples=recipe.resamples, rng=rng
    )
    return results.Claim(name, *interval, **bar)

  most = max(recipe.budgets)
  full = of("full", "correct", recipe.limit)
  capped = [row for row in tables if row["way"] in WAYS]
  made = [
    results.Claim("control_least", min(r["control"] for r in capped), bar=1.0),
    results.Claim(
      "no_answer_most",
      max(r["no_answer"] for r in capped),
      bar=0.0,
      comparison="<=",
    ),
  ]
  if {"guided", "hard_cap"} <= set(recipe.ways):
    made.append(
      gap(
        f"guided_points_over_hard_cap_at_{recipe.at}",
        of("guided", "correct", recipe.at),
        of("hard_cap", "correct", recipe.at),
        bar=20.0,
      )
    )
  for way in [w for w in ("no_wait", "early_exit") if w in recipe.ways]:
    taken = of(way, "thinking_tokens", most)
    made += [
      gap(
        f"{way}_points_below_full",
        full,
        of(way, "correct", most),
        bar=1.0,
        comparison="<=",
      ),
      results.Claim(
        f"{way}_tokens_over_full",
        float(
          taken.mean() / of("full", "thinking_tokens", recipe.limit).mean()
        ),
        bar=1.0,
        comparison="<=",
      ),
      # Harder questions should be thought about longer.
      results.Claim(
        f"{way}_spearman_of_tokens_and_digits",
        float(stats.spearmanr(of(way, "digits", most), taken, axis=None)[0]),
        bar=0.6,
      ),
    ]
  for way in recipe.ways:
    rows = [row for row in tables if row["way"] == way]
    accuracy = np.array([row["accuracy"] for row in rows])
    budgets = np.array([row["budget"] for row in rows])
    made += [
      results.Claim(
        f"scaling_{way}", length_control.scaling(budgets, accuracy)
      ),
      results.Claim(f"performance_{way}", length_control.performance(accuracy)),
      results.Claim(
        f"accuracy_{way}_at_{recipe.at}",
        *statistics.bootstrap(
          of(way, "correct", recipe.at), resamples=recipe.resamples, rng=rng
        ),
      ),
      results.Claim(
        f"tokens_{way}_at_{recipe.at}",
        next(
          row["thinking_tokens"] + row["overhead_tokens"]
          for row in rows
          if row["budget"] == recipe.at
        ),
      ),
    ]
  return made


def report(
  recipe: WaysRecipe, found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> simulation.Study:
  """Figures, claims and the picture of a run."""
  data = {"cells": cells(recipe, found)}
  return simulation.Study(
    recipe.seeds,
    data,
    claims(recipe, found),
    lambda path: draw(data["cells"], path),
  )


def draw(
  rows: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
  """Accuracy by budget, and by all tokens that thinking took."""
  with page.style():
    figure = page.figure(4.2)
    left, right = figure.subplots(1, 2, sharey=True)
    for index, way in enumerate(WAYS):
      mine = [row for row in rows if row["way"] == way]
      if not mine:
        continue
      look = {"marker": "osv^DPXh"[index], "label": way.replace("_", " ")}
      accuracy = [row["accuracy"] for row in mine]
      took = [row["thinking_tokens"] + row["overhead_tokens"] for row in mine]
      left.plot([row["budget"] for row in mine], accuracy, **look)
      right.plot(took, accuracy, **look)
    for row in rows:
      if row["way"] in UNLIMITED:
        at = row["thinking_tokens"], row["accuracy"]
        right.plot(*at, "k*")
        right.annotate(row["way"].replace("_", " "), at)
    left.set(xlabel="budget, tokens", ylabel="share of right answers")
    right.set(xlabel="thinking and overhead, tokens a question")
    left.legend(fontsize=8)
    page.save(figure, path)
