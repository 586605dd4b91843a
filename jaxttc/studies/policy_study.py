# SPDX-License-Identifier: Apache-2.0
"""Replays budget policies on the cells of a comparison, cross-fitted.

A search is a function of its problem, key and budget, so a cell of
`comparing` says what an arm would do on a problem, whoever asks for it. For
each problem the policy is fitted on the folds without it: its questions,
features, head and decoders know nothing of the problem. The pool is then run
over all problems, seed by seed, as `policy_solving` runs it; only the searches
are looked up.
"""

import dataclasses
import os
from typing import NamedTuple

from jaxtyping import Int
import numpy as np
from rich import console as rich_console
from rich import progress as rich_progress

from jaxttc.cost import budget as budget_lib
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  comparing,
  loading,
  policy_fitting,
  policy_replay,
  policy_solving,
  problem_sets,
  solve_recipe,
)
from jaxttc.studies import policy_folds
from jaxttc.tasks import routing as tasks

POLICY, ROUTER = "policy", "router alone"
BLIND, CASCADE = "without the question", "cascade alone"
UNSEEN, UNSEEN_MEANS = "unseen family", "unseen family, mean forecasts"
ORACLE = "oracle"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """How policies are judged.

  Attributes:
    fit: how a policy is fitted.
    budgets: mean generated tokens a problem.
    folds: outer folds; each problem is in the fit of all but one.
    wave: most problems of a wave.
    looks: methods of the comparison whose searches shall say what they showed,
      so that their answers can be looked at; their cells are run again if need
      be.
    first_tries: cheap methods beside those of the comparison, likewise.
    first_budgets: their budgets.
    limits: other budgets, each the mean of some fields of the cost, such as
      "verifier_calls=4" or "generated_tokens=80,verifier_calls=4".
    resamples: of the bootstrap.
    seed: of folds and resamples.
    fresh: problems that are solved for real, with the policy of all folds; a
      count of 0 leaves that out.
    fresh_budget: their mean of generated tokens.
    batch: of them, searched at once.
  """

  fit: policy_fitting.FitOptions = dataclasses.field(
    default_factory=policy_fitting.FitOptions
  )
  budgets: tuple[float, ...] = (40.0, 60.0, 80.0, 120.0, 160.0, 240.0)
  folds: int = 5
  wave: int = 32
  looks: tuple[comparing.MethodSpec, ...] = ()
  first_tries: tuple[comparing.MethodSpec, ...] = ()
  first_budgets: tuple[int, ...] = (60, 120)
  limits: tuple[str, ...] = ()
  resamples: int = 2000
  seed: int = 0
  fresh: problem_sets.ProblemSource = dataclasses.field(
    default_factory=lambda: problem_sets.ProblemSource(count=0)
  )
  fresh_budget: int = 80
  batch: int = 16

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.fit.check()
    if not self.budgets or not min(self.budgets) >= 1:
      raise ValueError(f"budgets={self.budgets} must be >= 1, at least one")
    if self.folds < 2 or min(self.wave, self.resamples) < 1:
      raise ValueError(
        "expected folds >= 2, wave >= 1 and resamples >= 1, got "
        f"{self.folds}, {self.wave} and {self.resamples}"
      )
    for text in self.limits:
      if not budget_lib.Budget.parse(text).as_dict():
        raise ValueError("limits: expected fields of the cost, got none")
    if self.fresh.count and self.fresh_budget < 1:
      raise ValueError(f"fresh_budget={self.fresh_budget} must be >= 1")


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    table: what the arms did.
    families: the family of each problem.
    groups: i64[N], groups of near-duplicates.
    folds: (training side, test side) of each outer fold.
    heads: the head of each outer fold.
    candidates: scores of the cascades that each outer fold tried.
    replays: by name of the policy.
    limited: replays of the policy under other budgets, by their text.
    policy: fitted on all problems, for use.
    fresh: rows of the fresh problems.
  """

  table: arm_tables.ArmTable
  families: tuple[str, ...]
  groups: Int[np.ndarray, " N"]
  folds: list[tuple[np.ndarray, np.ndarray]]
  heads: list[str]
  candidates: list[dict[str, float]]
  replays: dict[str, policy_replay.Replay]
  limited: dict[str, policy_replay.Replay]
  policy: budget_policies.BudgetPolicy
  fresh: list[dict]


def run(
  recipe: StudyRecipe,
  compare: comparing.CompareRecipe,
  workdir: str | os.PathLike[str],
  *,
  progress: bool = True,
) -> Found:
  """Fits and replays; runs the comparison's cells that are missing first.

  Args:
    recipe: the study.
    compare: the comparison whose methods are the arms.
    workdir: its folder of cells; answers to fresh problems are kept there.
    progress: whether to show bars, on the standard error stream.

  Raises:
    ValueError: if a recipe cannot be run.
  """
  recipe.check()
  table = _table(recipe, compare, workdir, progress)
  families = tuple(problem.family for problem in compare.problems.load())
  groups = arm_tables.question_groups(table.questions)
  folds = list(tasks.folds(groups, recipe.folds, recipe.seed))
  sides = _sides(recipe, families, folds)
  fits = sum(len(splits) for splits, _ in sides.values()) + 1
  replays, limited, heads, candidates = {}, {}, {}, {}
  with _bar(progress) as bar:
    task = bar.add_task("fitting", total=fits)
    for name, (splits, options) in sides.items():
      bar.update(task, description=name)
      crossed = policy_folds.cross_fitted(
        table, groups, splits, options, lambda: bar.advance(task)
      )
      heads[name], candidates[name] = crossed.heads, crossed.candidates
      # Each family alone: forecasts by fits that know different families are
      # not on one scale.
      alone = [test for _, test in splits] if name.startswith(UNSEEN) else ()
      replays[name] = policy_replay.replay(
        crossed.predicted,
        table,
        recipe.budgets,
        recipe.wave,
        alone,
        cascades=crossed.cascades,
      )
      if name == POLICY:
        limited = _limited(recipe, table, crossed)
    bar.update(task, description="all problems")
    policy = fitted_policy(recipe.fit, compare, table, groups)
    bar.advance(task)
  known = budget_policies.Predicted(
    table.right.mean(0), np.maximum(table.tokens.mean(0), 1.0)
  )
  replays[ORACLE] = policy_replay.replay(
    known, table, recipe.budgets, recipe.wave
  )
  return Found(
    table=table,
    families=families,
    groups=groups,
    folds=folds,
    heads=heads[POLICY],
    candidates=candidates[POLICY],
    replays=replays,
    limited=limited,
    policy=policy,
    fresh=_fresh(recipe, compare, policy, workdir, progress),
  )


def _sides(recipe, families, folds):
  """Splits and options of each policy that is judged."""
  fit, cascade = recipe.fit, recipe.fit.cascade
  never = dataclasses.replace(cascade, choose="never")
  router = dataclasses.replace(fit, cascade=never)
  sides = {
    POLICY: (folds, fit),
    ROUTER: (folds, router),
    BLIND: (folds, dataclasses.replace(router, heads=("means",))),
  }
  if recipe.looks or recipe.first_tries:
    always = dataclasses.replace(cascade, choose="always")
    alone = dataclasses.replace(fit, heads=("means",), cascade=always)
    sides[CASCADE] = folds, alone
  rows = np.arange(len(families))
  apart = [
    (rows[np.array(families) != name], rows[np.array(families) == name])
    for name in sorted(set(families))
  ]
  if len(apart) > 1:
    sides[UNSEEN] = apart, fit
    sides[UNSEEN_MEANS] = apart, dataclasses.replace(router, fixed=False)
  return sides


def _limited(recipe, table, crossed) -> dict[str, policy_replay.Replay]:
  """The policy under budgets on other fields.

  The laws of what arms cost are of all problems: they hold no answers.
  """
  laws = policy_fitting.fitted_laws(table)
  return {
    text: policy_replay.replay(
      crossed.predicted,
      table,
      [budget_lib.Budget.parse(text).as_dict()],
      recipe.wave,
      cascades=crossed.cascades,
      laws=laws,
    )
    for text in recipe.limits
  }


def _table(recipe, compare, workdir, progress) -> arm_tables.ArmTable:
  # What only the comparison's own report reads is not run again.
  plain = dataclasses.replace(
    compare, samples=0, controls=(), control_methods=(), tree_method=""
  )
  labels = ",".join(method.label for method in recipe.first_tries)
  everything = dataclasses.replace(
    plain, methods=plain.methods + recipe.first_tries
  )
  found = []
  for methods, changes in (
    (recipe.looks, {}),
    (recipe.first_tries, {"budgets": recipe.first_budgets}),
  ):
    if methods:
      looked = dataclasses.replace(
        plain, methods=methods, only="", seen=True, **changes
      )
      found.append(comparing.run(looked, os.fspath(workdir), progress=progress))
  first = found[-1].runs if recipe.first_tries else []
  compared = comparing.run(plain, os.fspath(workdir), progress=progress)
  if plain.only and labels:
    everything = dataclasses.replace(everything, only=f"{plain.only},{labels}")
  return arm_tables.arm_table(
    everything, dataclasses.replace(compared, runs=compared.runs + first)
  )


def fitted_policy(
  options: policy_fitting.FitOptions,
  compare: comparing.CompareRecipe,
  table: arm_tables.ArmTable,
  groups: Int[np.ndarray, " N"],
) -> budget_policies.BudgetPolicy:
  """The policy of all problems, for the models of the comparison.

  Raises:
    ValueError: as `policy_fitting.fit`, or if a model cannot be read.
  """
  fitted = policy_fitting.fit(table, groups, options)
  language, reward = loading.load_models(
    compare.policy, compare.verifier, width=compare.width
  )
  rows, seeds = len(table.questions), len(table.seeds)
  return budget_policies.BudgetPolicy(
    arms=tuple(table.arms[arm] for arm in fitted.arms),
    embed=fitted.embed,
    success=fitted.success,
    share=fitted.share,
    style=compare.problems.style,
    sampling=compare.sampling,
    models={
      "": (
        loading.weights_fingerprint(language),
        loading.weights_fingerprint(reward),
      )
    },
    origin=f"{rows} problems, {seeds} seeds, {fitted.head}",
    laws=fitted.laws,
    cascade=fitted.cascade,
  )


def _fresh(recipe, compare, policy, workdir, progress) -> list[dict]:
  """Rows of the problems that are solved for real."""
  if not recipe.fresh.count:
    return []
  solved = solve_recipe.SolveRecipe(
    problems=recipe.fresh,
    policy=compare.policy,
    verifier=compare.verifier,
    width=compare.width,
    budget=f"generated_tokens={recipe.fresh_budget}",
    seed=recipe.seed,
    batch=recipe.batch,
  )
  name = f"fresh_{policy.fingerprint}.jsonl"
  return policy_solving.solve_to_file(
    solved, os.path.join(workdir, name), policy=policy, progress=progress
  )


def _bar(progress: bool) -> rich_progress.Progress:
  return rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    console=rich_console.Console(stderr=True),
    disable=not progress,
  )
