# SPDX-License-Identifier: Apache-2.0
"""What the study of progress on a language model claims, and its picture."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page, results, simulation
from jaxttc.evaluation import regret
from jaxttc.studies import progress_language_study as study_lib
from jaxttc.tasks import hidden_numbers

_COLOURS = {
  study_lib.UNTRAINED: "#AAAAAA",
  study_lib.OUTCOME: "#0072B2",
  study_lib.PENALTY: "#009E73",
  study_lib.PROGRESS: "#D55E00",
}
_ATTEMPT, _ANSWER = 5, 3  # tokens of a line, and of an answer


def report(
  recipe: study_lib.StudyRecipe, found: Mapping[str, Any]
) -> simulation.Study:
  """Claims of a study.

  Args:
    recipe: that it was run by.
    found: as `progress_language_study.run` returns it.
  """
  by_method = {
    method: [row for row in found["runs"] if row["method"] == method]
    for method in recipe.methods
  }
  by_method[study_lib.UNTRAINED] = list(found["untrained"])
  data = dict(found) | {
    "budgets": list(recipe.budgets),
    "level": recipe.level,
    "best_order": best_order(recipe).tolist(),
  }
  mine = by_method[study_lib.PROGRESS]
  theirs = by_method[study_lib.OUTCOME]

  def of(rows, name):
    return np.array([row[name] for row in rows], float)

  def needed(rows, prompt=0.0, level=recipe.level):
    found = [_needed(np.array(row["accuracy"]), level) for row in rows]
    return np.array(found) + prompt

  ratio = of(mine, "regret") / of(theirs, "regret")
  best = _needed(best_order(recipe), recipe.level)
  prompt = _prompt_tokens(recipe)
  claims = [
    results.claim_over(
      "token_efficiency_over_outcome_reward",
      needed(theirs) / needed(mine),
      1.5,
    ),
    # The largest ratio over the budgets told: below 1 at every one.
    results.claim_over("regret_over_outcome_reward", ratio.max(1), 1.0, "<"),
    results.claim_over(
      "training_tokens_over_outcome_reward",
      of(mine, "training_tokens") / of(theirs, "training_tokens"),
      1.0,
      "<=",
    ),
    results.claim_over(
      "final_points_over_outcome_reward",
      100 * (of(mine, "success") - of(theirs, "success")),
    ),
    *(
      results.claim_over(
        f"token_efficiency_at_{level:g}",
        needed(theirs, level=level) / needed(mine, level=level),
      )
      for level in recipe.other_levels
    ),
    results.claim_over("regret_over_whole_budget", ratio[:, -1]),
    results.claim_over(
      "token_efficiency_prompt_included",
      needed(theirs, prompt) / needed(mine, prompt),
    ),
    results.claim_over("token_efficiency_of_best_order", needed(theirs) / best),
    results.claim_over("accuracy_without_attempts", of(mine, "at_once")),
  ]
  if study_lib.PENALTY in by_method:
    fined = by_method[study_lib.PENALTY]
    claims += [
      results.claim_over(
        "token_efficiency_over_length_penalty", needed(fined) / needed(mine)
      ),
      results.claim_over(
        "regret_over_length_penalty",
        (of(mine, "regret") / of(fined, "regret")).max(1),
      ),
      results.claim_over(
        "final_points_over_length_penalty",
        100 * (of(mine, "success") - of(fined, "success")),
      ),
    ]
  for method, rows in by_method.items():
    name = method.replace(" ", "_").lower()
    claims += [
      results.claim_over(f"{name}_success", of(rows, "success")),
      results.claim_over(f"{name}_attempts", of(rows, "attempts")),
      results.claim_over(f"{name}_repeats", of(rows, "repeats")),
    ]
  return simulation.Study(
    recipe.seeds, data, claims, lambda path: draw(recipe, data, path)
  )


def best_order(recipe: study_lib.StudyRecipe) -> np.ndarray:
  """Accuracy within 0, 1, .. tokens of who tries the likeliest number first.

  Made to answer, it names the likeliest number that it has not tried.

  Args:
    recipe: whose arm's task says how likely numbers are.
  """
  task = recipe.arm.task
  assert isinstance(task, hidden_numbers.HiddenTask)
  known = np.minimum(np.cumsum(task.prior), 1.0)
  tried = (np.arange(recipe.longest + 1) - _ANSWER) // _ATTEMPT
  reached = known[np.clip(tried, 0, len(known) - 1)]
  return np.where(tried >= 0, reached, 0.0)


def _prompt_tokens(recipe) -> float:
  return float(recipe.arm.train.length - recipe.arm.rollouts.max_tokens)


def _needed(accuracy: np.ndarray, level: float) -> float:
  """Tokens to the level; all that there are if it is never reached."""
  tokens = np.arange(1.0, len(accuracy))
  found = regret.tokens_to_reach(tokens, accuracy[1:], level)
  return min(found, float(tokens[-1]))


def draw(
  recipe: study_lib.StudyRecipe,
  data: Mapping[str, Any],
  path: str | os.PathLike[str],
) -> None:
  """Writes the picture of a study.

  Args:
    recipe: that it was run by.
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  names = [study_lib.UNTRAINED, *recipe.methods]
  rows = {
    name: [row for row in data["runs"] if row["method"] == name]
    for name in recipe.methods
  } | {study_lib.UNTRAINED: data["untrained"]}
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    tokens = np.arange(recipe.longest + 1)
    left.plot(
      tokens,
      data["best_order"],
      color="black",
      ls=(0, (5, 2)),
      lw=1.2,
      label="best order",
    )
    for name in names:
      curves = np.array([row["accuracy"] for row in rows[name]])
      colour = _COLOURS[name]
      left.plot(tokens, curves.mean(0), color=colour, lw=1.6, label=name)
      left.fill_between(
        tokens, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0
      )
    left.axhline(data["level"], color="#CCCCCC", lw=0.8, zorder=0)
    left.set(xlabel="tokens before the answer must be there")
    left.set(ylabel="accuracy")
    left.set_title("Stopped at any time")
    left.legend(fontsize=8, loc="lower right")
    width = 0.8 / len(names)
    for k, name in enumerate(names):
      found = np.array([row["regret"] for row in rows[name]])
      where = np.arange(len(data["budgets"])) + (k - len(names) / 2) * width
      right.bar(
        where,
        found.mean(0),
        width=width * 0.92,
        color=_COLOURS[name],
        yerr=[found.mean(0) - found.min(0), found.max(0) - found.mean(0)],
        error_kw={"lw": 0.8, "ecolor": "#444444"},
      )
    right.set_xticks(
      range(len(data["budgets"])), [str(budget) for budget in data["budgets"]]
    )
    right.set(xlabel="budget, tokens", ylabel="regret")
    right.set_title("What is missing up to a budget")
    page.save(figure, path)
