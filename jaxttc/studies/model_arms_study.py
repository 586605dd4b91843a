# SPDX-License-Identifier: Apache-2.0
"""Model x decoder x cap chosen per problem, at equal FLOPs.

The arms are decoders of several models, or of several widths of one. Each
model runs the comparison's cells; budget policies are fitted on all arms
together, cross-fitted and replayed as `policy_study` does, and so are those
that know one model alone. What a single arm of any model does best, in
hindsight and with any odds of drawing it, is the baseline.
"""

import dataclasses
import os
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np

from jaxttc import page, results
from jaxttc.evaluation import routing_curves, statistics
from jaxttc.simulation import study as study_lib
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  comparing,
  loading,
  model_names,
  policy_fitting,
  policy_replay,
  routed_models,
)
from jaxttc.studies import policy_folds
from jaxttc.tasks import routing as tasks

ALL = "all models"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """How arms of several models are judged.

  Attributes:
    models: names, as `routed_models.load` takes them, the cheapest first.
    compare: the cells that each model runs; its own model is not read.
    fit: how policies are fitted; `fit.field` and `fit.budgets` are those that
      they are judged at, too.
    folds: outer folds; each problem is in the fit of all but one.
    wave: most problems of a wave.
    resamples: of the bootstrap.
    seed: of folds and resamples.
  """

  models: tuple[str, ...]
  compare: comparing.CompareRecipe
  fit: policy_fitting.FitOptions
  folds: int = 5
  wave: int = 32
  resamples: int = 2000
  seed: int = 0

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.fit.check()
    self.compare.validate()
    if len(set(self.models)) < len(self.models) or len(self.models) < 2:
      raise ValueError(
        f"models={self.models}: expected different ones, at least two"
      )
    for name in self.models:
      model_names.split(name)
    if self.fit.field != "generated_tokens" and (
      self.fit.field not in arm_tables.FIELDS
    ):
      raise ValueError(
        f"fit.field={self.fit.field!r}: expected generated_tokens or one of "
        f"{', '.join(arm_tables.FIELDS)}"
      )
    if self.folds < 2 or min(self.wave, self.resamples) < 1:
      raise ValueError(
        "expected folds >= 2, wave >= 1 and resamples >= 1, got "
        f"{self.folds}, {self.wave} and {self.resamples}"
      )


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    table: what the arms of all models did.
    groups: i64[N], groups of near-duplicates.
    replays: of the policy of all models, and of each model's own, by name.
    policy: of all models, fitted on all problems, for use.
  """

  table: arm_tables.ArmTable
  groups: np.ndarray
  replays: dict[str, policy_replay.Replay]
  policy: budget_policies.BudgetPolicy


def run(
  recipe: StudyRecipe,
  workdir: str | os.PathLike[str],
  *,
  progress: bool = True,
) -> Found:
  """Runs the cells that are missing, fits and replays.

  Args:
    recipe: the study.
    workdir: folder of the cells of all models.
    progress: whether to show bars, on the standard error stream.

  Raises:
    ValueError: if the recipe cannot be run, or a model cannot be read.
  """
  recipe.check()
  compare = dataclasses.replace(
    recipe.compare, samples=0, controls=(), control_methods=(), tree_method=""
  )
  parts = {}
  for name in recipe.models:
    file, width = model_names.split(name)
    ours = dataclasses.replace(compare, policy=file, width=width)
    found = comparing.run(ours, os.fspath(workdir), progress=progress)
    parts[name] = arm_tables.arm_table(ours, found, name)
  table = arm_tables.joined(list(parts.values()))
  groups = arm_tables.question_groups(table.questions)
  folds = list(tasks.folds(groups, recipe.folds, recipe.seed))
  replays = {
    name: _replayed(recipe, part, groups, folds)
    for name, part in {ALL: table, **parts}.items()
  }
  fitted = policy_fitting.fit(table, groups, recipe.fit)
  return Found(
    table, groups, replays, policy_of(recipe, compare, table, fitted)
  )


def _replayed(recipe, table, groups, folds) -> policy_replay.Replay:
  crossed = policy_folds.cross_fitted(table, groups, folds, recipe.fit)
  return policy_replay.replay(
    crossed.predicted,
    table,
    [{recipe.fit.field: budget} for budget in recipe.fit.budgets],
    recipe.wave,
    cascades=crossed.cascades,
    laws=policy_fitting.fitted_laws(table),
  )


def policy_of(
  recipe: StudyRecipe,
  compare: comparing.CompareRecipe,
  table: arm_tables.ArmTable,
  fitted: policy_fitting.Fitted,
) -> budget_policies.BudgetPolicy:
  """What was fitted, for the models that its arms ask.

  Raises:
    ValueError: if a model cannot be read.
  """
  arms = tuple(table.arms[arm] for arm in fitted.arms)
  engines = routed_models.load(recipe.models, compare.verifier)
  return budget_policies.BudgetPolicy(
    arms=arms,
    embed=fitted.embed,
    success=fitted.success,
    share=fitted.share,
    style=compare.problems.style,
    sampling=compare.sampling,
    models={
      name: tuple(map(loading.weights_fingerprint, engines[name]))
      for name in recipe.models
      if any(arm.model == name for arm in arms)
    },
    origin=f"{len(table.questions)} problems, {fitted.head}",
    laws=fitted.laws,
    cascade=fitted.cascade,
  )


def report(recipe: StudyRecipe, found: Found) -> study_lib.Study:
  """All figures and claims of a study."""
  table, field = found.table, recipe.fit.field
  ours = found.replays[ALL].right.mean(1)  # [B, N]
  single = np.stack(
    [
      arm_tables.best_single(table, budget, field)
      for budget in recipe.fit.budgets
    ]
  )
  weights = routing_curves.group_weights(
    found.groups, recipe.resamples, np.random.default_rng(recipe.seed)
  )
  claims = [
    results.Claim(
      "points_over_best_single_model_and_decoder",
      *_points(ours - single, weights),
    )
  ]
  for place, budget in enumerate(recipe.fit.budgets):
    claims.append(
      results.Claim(
        f"points_over_best_single_model_and_decoder_at_{budget:g}",
        *_points((ours - single)[[place]], weights),
      )
    )
  for name in recipe.models:
    other = found.replays[name].right.mean(1)
    words = name.replace("@", "_").replace(".", "_").rpartition("/")[2]
    claims.append(
      results.Claim(
        f"points_over_policy_of_{words}_alone",
        *_points(ours - other, weights),
      )
    )
  claims.append(
    results.Claim(
      "never_overspent",
      max(replay.overspent for replay in found.replays.values()),
      bar=1.0,
      comparison="<=",
    )
  )
  data = {
    "field": field,
    "budgets": list(recipe.fit.budgets),
    "problems": len(table.questions),
    "solved": {
      "best single model and decoder": single.mean(1).tolist(),
      **{n: r.right.mean((1, 2)).tolist() for n, r in found.replays.items()},
    },
    "models_asked": _asked(recipe, found),
    "arms": [arm._asdict() for arm in found.policy.arms],
  }
  return study_lib.Study(
    list(found.table.seeds), data, claims, lambda path: _draw(data, path)
  )


def _points(
  gain: Float[np.ndarray, "B N"], weights: Float[np.ndarray, "R N"]
) -> statistics.Interval:
  """Mean points over budgets; the interval resamples groups of questions."""
  each = 100 * gain.mean(0)
  draws = weights @ each / weights.sum(1)
  return statistics.percentile_interval(float(each.mean()), draws)


def _asked(recipe, found) -> dict[str, list[float]]:
  """Share of the problems that each model was asked last, at each budget."""
  arms = found.replays[ALL].arms
  names = np.array([arm.model for arm in found.table.arms])
  return {
    name: [
      float((names[each[each >= 0]] == name).sum() / each.size) for each in arms
    ]
    for name in recipe.models
  }


def _draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    budgets = data["budgets"]
    for name, solved in data["solved"].items():
      wide = 2.4 if name == ALL else 1.2
      left.plot(budgets, solved, label=name, linewidth=wide, marker="o")
    left.set_xlabel(f"mean {data['field'].replace('_', ' ')} of a problem")
    left.set_ylabel("problems solved")
    left.set_title(f"What a budget buys, {data['problems']} problems")
    left.legend()
    bottom = np.zeros(len(budgets))
    places = np.arange(len(budgets))
    for name, share in data["models_asked"].items():
      right.bar(places, share, bottom=bottom, label=name)
      bottom += np.array(share)
    right.set_xticks(places, [f"{budget:g}" for budget in budgets])
    right.set_title("Which model the policy asks")
    right.legend()
    page.save(figure, path)
