# SPDX-License-Identifier: Apache-2.0
"""The guidance study's checks, and what it writes and prints."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich import box
from rich import table as rich_table

from jaxttc import simulation
from jaxttc.evaluation import statistics
from jaxttc.models import gamma_length
from jaxttc.studies import (
  guidance_checks,
  guidance_claims,
  guidance_menu,
  guidance_picture,
  guidance_study,
  line_law,
)
from jaxttc.training import length_prediction, thinking


def check(
  recipe: guidance_study.GuidanceStudyRecipe, found: guidance_study.Found
) -> guidance_claims.Checks:
  """Runs the checks; the overhead is timed with the models' own line starts."""
  questions = thinking.DigitSumMix(
    least_digits=recipe.least_digits, most_digits=recipe.most_digits
  )
  calibrated = lambda predictor, **mix: guidance_checks.calibration(  # noqa: E731
    predictor,
    found.policy,
    length_prediction.TraceMix(questions=questions, **mix),
  )
  full = found.full
  starts = guidance_checks.line_start_share(full.lines, full.spent)
  shape = guidance_checks.SHAPE_100M
  predictor = lambda **law: gamma_length.LengthPredictorConfig(  # noqa: E731
    vocab_size=shape.vocab_size,
    hidden_width=shape.width,
    hidden_states=shape.layers + 1,
    width=256,
    layers=2,
    heads=4,
    **law,
  )
  laws = (predictor(head="embedding"), predictor(head="lowrank", bins=64))
  return guidance_claims.Checks(
    exact_law_error=line_law.exact_law_error(line_law.LineLaw(), 6),
    mixed=calibrated(found.predictor),
    natural=calibrated(found.predictor, copies=0.0),
    discrete=calibrated(found.discrete),
    overheads=tuple(
      guidance_checks.overhead(shape, law, batch=batch, line_starts=starts)
      for law in laws
      for batch in (1, 8)
    ),
  )


def report(
  recipe: guidance_study.GuidanceStudyRecipe,
  found: guidance_study.Found,
  checks: guidance_claims.Checks,
) -> simulation.Study:
  """The study, ready to publish."""
  return simulation.Study(
    seeds=recipe.seeds,
    data=_data(found, checks),
    claims=guidance_claims.claims(recipe, found, checks),
    draw=lambda path: guidance_picture.draw(
      path,
      recipe,
      found,
      {
        "as trained": checks.mixed,
        "as the model writes": checks.natural,
        "discrete law, as trained": checks.discrete,
      },
    ),
  )


def table(found: guidance_study.Found) -> rich_table.Table:
  """All policies at all budgets, for a terminal."""
  made = rich_table.Table(
    box=box.SIMPLE_HEAD,
    pad_edge=False,
    padding=(0, 1, 0, 0),
    caption="budget over the natural length; right, over, cut in %; the rest "
    "thinking tokens: mean, quantiles, mean distance from the budget",
  )
  made.add_column("policy", min_width=16)
  for name in ("budget", "setting", "right", "mean"):
    made.add_column(name, justify="right")
  for name in ("p50", "p95", "over", "cut", "off"):
    made.add_column(name, justify="right", no_wrap=True)
  for row in _rows(found):
    made.add_row(
      row["policy"],
      f"{row['fraction']:g}" if row["fraction"] else "",
      row["setting"],
      f"{100 * row['accuracy']:.1f}",
      f"{row['mean_tokens']:.1f}",
      f"{row['median_tokens']:.0f}",
      f"{row['p95_tokens']:.0f}",
      f"{100 * row['overspent_share']:.1f}",
      f"{100 * row['cut_share']:.1f}",
      f"{row['adherence_error']:.1f}" if row["fraction"] else "",
    )
  return made


def _rows(found) -> list[dict[str, Any]]:
  return [
    {
      "policy": run.policy,
      "fraction": run.fraction,
      "setting": run.setting,
      "tuning_accuracy": run.tuned,
      "accuracy": run.tally.right.mean(),
      "accuracy_by_seed": run.tally.right.mean(axis=1),
      "accuracy_interval": list(
        statistics.bootstrap(
          run.tally.right.T.astype(float),
          resamples=300,
          rng=np.random.default_rng(0),
        )
      ),
      "mean_tokens": run.tally.spent.mean(),
      "median_tokens": np.median(run.tally.spent),
      "p95_tokens": np.quantile(run.tally.spent, 0.95),
      "mean_budget": run.budgets.mean(),
      "adherence_error": np.abs(run.tally.spent - run.budgets[None]).mean(),
      "overspent_share": (run.tally.spent > run.budgets[None]).mean(),
      "closed_early_share": run.tally.early.mean(),
      "cut_share": run.tally.cut.mean(),
      "concise_share": run.tally.concise_share,
    }
    for run in found.runs.values()
  ]


def _data(found, checks) -> Mapping[str, Any]:
  histogram = lambda pit: np.histogram(pit, 20, (0, 1))[0]  # noqa: E731
  return {
    "policies": _rows(found),
    "exact_chances": [
      row
      for name, fraction in found.runs
      if name == guidance_menu.GUIDED
      for row in guidance_claims.exact_chances(found, fraction)
    ],
    "natural_length": found.natural,
    "expected_length": found.expected,
    "digits": [item.steps for item in found.items],
    "pit": {
      "mixed": histogram(checks.mixed.pit),
      "natural": histogram(checks.natural.pit),
      "discrete": histogram(checks.discrete.pit),
    },
    "nats": checks.mixed.nats,
    "discrete_nats": checks.discrete.nats,
    "constant_nats": checks.mixed.constant_nats,
    "overhead": {
      "how": (
        "processor seconds, least of repeats: the compiled plain decoding "
        "loop over its steps, and the compiled predictor, chances and bending "
        "by themselves; a step is guided if any row begins a line, as often "
        "as in full thinking"
      ),
      "measured": [entry._asdict() for entry in checks.overheads],
    },
  }
