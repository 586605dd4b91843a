# SPDX-License-Identifier: Apache-2.0
"""One policy over searches, thoughts and programs of several models.

Every arm is tried on calibration problems of several families; a budget policy
is fitted to what came of it, and judged on other problems, replayed on every
arm's answers and once for real.
"""

import dataclasses
import itertools
import os
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np
from rich import progress as rich_progress

from jaxttc import page, results, simulation
from jaxttc.cost import budget as budget_lib
from jaxttc.evaluation import statistics
from jaxttc.solving import (
  arm_tables,
  arm_trials,
  budget_policies,
  composed_policies,
  policy_fitting,
  policy_replay,
  policy_solving,
  problem_sets,
  routed_models,
  solve_recipe,
)

_TOKENS = "generated_tokens"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is tried, fitted and judged.

  Attributes:
    models: as `routed_models.load` takes them.
    verifier: the reward model of their searches.
    decode: the arms, as a composed policy has them.
    known: problems that the policy is fitted to.
    fresh: those that it is judged on; other ones.
    seeds: of all sampling.
    fit: how the policy is fitted; `fit.budgets` are those it is judged at.
    real: the budget of the run that is not replayed.
    style: in which searches ask.
    sampling: how tokens are drawn.
    batch: problems answered at once.
    resamples: of the bootstrap.
  """

  models: tuple[str, ...]
  verifier: str
  decode: str
  known: problem_sets.ProblemSource
  fresh: problem_sets.ProblemSource
  fit: policy_fitting.FitOptions
  real: int
  seeds: tuple[int, ...] = (0, 1, 2)
  style: str = "terse"
  sampling: solve_recipe.SamplingOptions = dataclasses.field(
    default_factory=solve_recipe.SamplingOptions
  )
  batch: int = 60
  resamples: int = 2000

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.fit.check()
    if not self.seeds or min(self.batch, self.resamples, self.real) < 1:
      raise ValueError(
        "expected seeds, and batch, resamples and real >= 1, got "
        f"{self.seeds}, {self.batch}, {self.resamples} and {self.real}"
      )
    if self.known == self.fresh:
      raise ValueError("known and fresh are the same problems")


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    policy: the fitted one.
    table: what all arms did on the fresh problems.
    families: of these.
    replay: of the policy on them.
    rows: of the run that is not replayed.
  """

  policy: budget_policies.BudgetPolicy
  table: arm_tables.ArmTable
  families: tuple[str, ...]
  replay: policy_replay.Replay
  rows: list[dict[str, Any]]


def run(recipe: StudyRecipe) -> Found:
  """Tries the arms, fits the policy, replays it, and runs it once.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  engines = routed_models.load(recipe.models, recipe.verifier)
  arms = composed_policies.parse(
    f"decode={recipe.decode}",
    list(engines),
    budget_lib.Budget(generated_tokens=recipe.real),
    style=recipe.style,
    sampling=recipe.sampling,
  )
  known, problems = recipe.known.load(), recipe.fresh.load()
  with rich_progress.Progress(transient=True) as bar:
    shown = bar.add_task("arms", total=len(arms.arms) * len(recipe.seeds))
    both = arm_trials.tried(
      arms,
      [*known, *problems],
      engines,
      seeds=recipe.seeds,
      batch=recipe.batch,
      told=lambda label, seed: bar.update(shown, advance=1, description=label),
    )
  rows = np.arange(len(both.questions))
  known, table = both.take(rows[: len(known)]), both.take(rows[len(known) :])
  groups = arm_tables.question_groups(known.questions)
  fitted = policy_fitting.fit(known, groups, recipe.fit)
  policy = arm_trials.policy_of(arms, known, fitted, engines)
  ours = table.only(fitted.arms)
  replay = policy_replay.replay(
    policy.predict(table.questions),
    ours,
    recipe.fit.budgets,
    2 * recipe.batch,
    cascades=[policy.cascade] * len(table.questions),
    laws=policy.laws,
  )
  rows = policy_solving.solve(
    problems,
    engines,
    budget_lib.Budget(generated_tokens=recipe.real),
    policy=policy,
    seed=recipe.seeds[0],
    batch=recipe.batch,
  )
  families = tuple(problem.family for problem in problems)
  return Found(policy, table, families, replay, rows)


def report(recipe: StudyRecipe, found: Found) -> simulation.Study:
  """All figures and claims of a study."""
  budgets = recipe.fit.budgets
  ours = found.replay.right.mean(1)  # [B, N]
  single = np.stack([arm_tables.best_single(found.table, b) for b in budgets])
  by_family = np.stack(
    [best_by_family(found.table, found.families, b) for b in budgets]
  )
  rng = np.random.default_rng(0)

  def points(name, gain, **bar):
    each = statistics.bootstrap(
      100 * gain.mean(0), resamples=recipe.resamples, rng=rng
    )
    return results.Claim(name, *each, **bar)

  claims = [
    points(
      "points_over_best_single_arm", ours - single, bar=0.0, comparison=">"
    ),
    points("points_over_best_arm_of_each_family", ours - by_family),
  ]
  claims += [
    points(f"points_over_best_arm_of_each_family_at_{budget:g}", gain[None])
    for budget, gain in zip(budgets, ours - by_family, strict=True)
  ]
  spent = np.mean([row["cost"][_TOKENS] for row in found.rows])
  right = np.array([bool(row["correct"]) for row in found.rows])
  claims += [
    results.Claim(
      "real_accuracy", *statistics.wilson_interval(int(right.sum()), right.size)
    ),
    results.Claim(
      "never_overspent",
      float(max(found.replay.overspent, spent / recipe.real)),
      bar=1.0,
      comparison="<=",
    ),
  ]
  asked = {_name(arm): 0 for arm in found.policy.arms}
  for row in found.rows:
    if row["arm"] is not None:
      asked[_name(budget_policies.Arm(**row["arm"]))] += 1
  data = {
    "budgets": list(budgets),
    "problems": len(found.families),
    "solved": {
      "policy": ours.mean(1).tolist(),
      "best single arm": single.mean(1).tolist(),
      "best arm of each family": by_family.mean(1).tolist(),
    },
    "tried": [
      {
        "arm": _name(arm),
        "tokens": float(found.table.tokens[..., place].mean()),
        "right": {
          family: float(
            found.table.right[
              :, np.array(found.families) == family, place
            ].mean()
          )
          for family in sorted(set(found.families))
        },
      }
      for place, arm in enumerate(found.table.arms)
    ],
    "asked": asked,
    "stages": {
      stage: float(np.mean([row["stages"][stage] for row in found.rows]))
      for stage in found.rows[0]["stages"]
    },
  }
  return simulation.Study(
    recipe.seeds, data, claims, lambda path: draw(data, path)
  )


def _name(arm: budget_policies.Arm) -> str:
  return f"{arm.model}: {arm.decoder}@{arm.cap}"


def best_by_family(
  table: arm_tables.ArmTable, families: tuple[str, ...], budget: float | int
) -> Float[np.ndarray, " N"]:
  """Scores by the best arm for each family, in hindsight, within a budget.

  It knows every problem's family, and leaves none out but whole families.
  """
  names = sorted(set(families))
  member = np.array([[one == name for one in families] for name in names])
  right = np.concatenate([table.right.mean(0), np.zeros((len(families), 1))], 1)
  spent = np.concatenate(
    [table.tokens.mean(0), np.zeros((len(families), 1))], 1
  )
  score, cost = member @ right, member @ spent  # [families, K + 1]
  best, chosen = -1.0, None
  for arms in itertools.product(range(right.shape[1]), repeat=len(names)):
    place = np.arange(len(names)), np.array(arms)
    if cost[place].sum() <= budget * len(families) + 1e-9:
      if score[place].sum() > best:
        best, chosen = score[place].sum(), arms
  assert chosen is not None  # no arm at all costs nothing
  return np.array(
    [
      right[row, chosen[names.index(family)]]
      for row, family in enumerate(families)
    ]
  )


def draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture: what a budget buys, and which arms are asked.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    for name, solved in data["solved"].items():
      left.plot(data["budgets"], solved, marker="o", ms=4, label=name)
    left.set_xlabel("mean generated tokens of a problem")
    left.set_ylabel("problems solved")
    left.set_title(f"{data['problems']} problems of three families")
    left.legend()
    names = [name for name, count in data["asked"].items() if count]
    right.barh(names, [data["asked"][name] for name in names])
    right.tick_params(axis="y", labelsize=7)
    right.set_xlabel("problems")
    right.set_title("Arms asked in a real run")
    page.save(figure, path)
