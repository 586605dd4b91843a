# SPDX-License-Identifier: Apache-2.0
"""Replays budget policies on the cells of a comparison, cross-fitted.

A search is a function of its problem, key and budget, so a cell of
`comparing` says what an arm would do on a problem, whoever asks for it. For
each problem the policy is fitted on the folds without it: its questions,
features, head and decoders know nothing of the problem. The pool is then run
over all problems, seed by seed, as `policy_solving` runs it; only the searches
are looked up.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
from typing import NamedTuple

from jaxtyping import Int
import numpy as np
from rich import console as rich_console
from rich import progress as rich_progress

from jaxttc.evaluation import (
  arm_tables,
  budget_policies,
  comparing,
  policy_fitting,
  policy_replay,
  policy_solving,
  problem_sets,
  solving,
)
from jaxttc.tasks import routing as tasks

POLICY, BLIND, UNSEEN = "policy", "without the question", "unseen family"
ORACLE = "oracle"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """How policies are judged.

  Attributes:
    fit: how a policy is fitted.
    budgets: mean generated tokens a problem.
    folds: outer folds; each problem is in the fit of all but one.
    wave: most problems of a wave.
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
    replays: by name of the policy.
    policy: fitted on all problems, for use.
    fresh: rows of the fresh problems.
  """

  table: arm_tables.ArmTable
  families: tuple[str, ...]
  groups: Int[np.ndarray, " N"]
  folds: list[tuple[np.ndarray, np.ndarray]]
  heads: list[str]
  replays: dict[str, policy_replay.Replay]
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
  table = _table(compare, workdir, progress)
  families = tuple(problem.family for problem in compare.problems.load())
  groups = arm_tables.question_groups(table.questions)
  folds = list(tasks.folds(groups, recipe.folds, recipe.seed))
  blind = dataclasses.replace(recipe.fit, heads=("means",))
  rows = np.arange(len(families))
  apart = [
    (rows[np.array(families) != name], rows[np.array(families) == name])
    for name in sorted(set(families))
  ]
  sides = {POLICY: (folds, recipe.fit), BLIND: (folds, blind)}
  if len(apart) > 1:
    sides[UNSEEN] = apart, recipe.fit
  fits = sum(len(splits) for splits, _ in sides.values()) + 1
  replays, heads = {}, {}
  with _bar(progress) as bar:
    task = bar.add_task("fitting", total=fits)
    for name, (splits, options) in sides.items():
      bar.update(task, description=name)
      predicted, heads[name] = cross_fitted(
        table, groups, splits, options, lambda: bar.advance(task)
      )
      # Each family alone: forecasts by fits that know different families are
      # not on one scale.
      alone = [test for _, test in splits] if name == UNSEEN else ()
      replays[name] = policy_replay.replay(
        predicted, table, recipe.budgets, recipe.wave, alone
      )
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
    replays=replays,
    policy=policy,
    fresh=_fresh(recipe, compare, policy, workdir, progress),
  )


def _table(compare, workdir, progress) -> arm_tables.ArmTable:
  # What only the comparison's own report reads is not run again.
  plain = dataclasses.replace(compare, samples=0, controls=(), tree_method="")
  found = comparing.run(plain, os.fspath(workdir), progress=progress)
  return arm_tables.arm_table(plain, found)


def cross_fitted(
  table: arm_tables.ArmTable,
  groups: Int[np.ndarray, " N"],
  splits: Sequence[tuple[np.ndarray, np.ndarray]],
  options: policy_fitting.FitOptions,
  advance: Callable[[], None] = lambda: None,
) -> tuple[budget_policies.Predicted, list[str]]:
  """Forecasts of each problem by a fit without it, and the head of each fit.

  Args:
    table: what the arms did.
    groups: i64[N], of near-duplicates.
    splits: (training side, test side); the test sides make up all problems.
    options: how to fit.
    advance: called after each fit.
  """
  rows, arms = table.right.shape[1:]
  # An arm that a fold leaves out is worth nothing there, so never chosen.
  success = np.zeros((rows, arms))
  tokens = np.tile(table.caps.astype(np.float64), (rows, 1))
  heads = []
  for train, test in splits:
    fitted = policy_fitting.fit(table.take(train), groups[train], options)
    found = fitted.predict([table.questions[r] for r in test], table.caps)
    success[np.ix_(test, fitted.arms)] = found.success
    tokens[np.ix_(test, fitted.arms)] = found.tokens
    heads.append(fitted.head)
    advance()
  return budget_policies.Predicted(success, tokens), heads


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
  language, reward = solving.load_models(
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
    models=(
      solving.weights_fingerprint(language),
      solving.weights_fingerprint(reward),
    ),
    origin=f"{rows} problems, {seeds} seeds, {fitted.head}",
  )


def _fresh(recipe, compare, policy, workdir, progress) -> list[dict]:
  """Rows of the problems that are solved for real."""
  if not recipe.fresh.count:
    return []
  solved = solving.SolveRecipe(
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
