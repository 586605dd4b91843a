# SPDX-License-Identifier: Apache-2.0
"""The guidance study as claims, data and a picture."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxttc import page, results, simulation
from jaxttc.evaluation import (
  guidance_checks,
  guidance_study,
  line_law,
  statistics,
)
from jaxttc.models import gamma_length
from jaxttc.training import length_prediction, thinking

_GUIDED, _EVERY = guidance_study.GUIDED, guidance_study.EVERY
_LOOKS = {
  "hard cap": ("#cc7722", "-"),
  "budget forcing": ("#e6b36b", "-"),
  "early exit": ("#8c8c8c", "--"),
  "prompt hint": ("#7b6ba8", "--"),
  _GUIDED: ("#2171b5", "-"),
  _EVERY: ("#08306b", "-"),
  guidance_study.PLAIN: ("#9ecae1", "-"),
}


class Checks(NamedTuple):
  """What is known of the predictor and the method by themselves.

  Attributes:
    exact_law_error: of guidance with exact chances, six lines.
    mixed: calibration on traces as the predictor was trained on.
    natural: calibration on traces as the model writes them.
    overheads: at the 100M shape, a batch each.
  """

  exact_law_error: float
  mixed: guidance_checks.Calibration
  natural: guidance_checks.Calibration
  overheads: tuple[guidance_checks.Overhead, ...]


def check(
  recipe: guidance_study.GuidanceStudyRecipe, found: guidance_study.Found
) -> Checks:
  """Runs the checks; the overhead is timed with the models' own line starts."""
  questions = thinking.DigitSumMix(
    least_digits=recipe.least_digits, most_digits=recipe.most_digits
  )
  calibrated = lambda copies: guidance_checks.calibration(  # noqa: E731
    found.predictor,
    found.policy,
    length_prediction.TraceMix(questions=questions, copies=copies),
  )
  full = found.runs["full", 0.0].tally
  starts = guidance_checks.line_start_share(full.lines, full.spent)
  shape = guidance_checks.SHAPE_100M
  predictor = gamma_length.LengthPredictorConfig(
    vocab_size=shape.vocab_size,
    hidden_width=shape.width,
    hidden_states=shape.layers + 1,
    width=256,
    layers=2,
    heads=4,
    head="embedding",
  )
  return Checks(
    exact_law_error=line_law.exact_law_error(line_law.LineLaw(), 6),
    mixed=calibrated(0.5),
    natural=calibrated(0.0),
    overheads=tuple(
      guidance_checks.overhead(
        shape, predictor, batch=batch, line_starts=starts
      )
      for batch in (1, 8)
    ),
  )


def report(
  recipe: guidance_study.GuidanceStudyRecipe,
  found: guidance_study.Found,
  checks: Checks,
) -> simulation.Study:
  """The study, ready to publish."""
  return simulation.Study(
    seeds=recipe.seeds,
    data=_data(found, checks),
    claims=claims(recipe, found, checks),
    draw=lambda path: draw(path, recipe, found, checks),
  )


def claims(
  recipe: guidance_study.GuidanceStudyRecipe,
  found: guidance_study.Found,
  checks: Checks,
) -> list[results.Claim]:
  """The figures beside their bars; points are differences of accuracies."""
  rng = np.random.default_rng(0)
  worst = max(checks.overheads, key=lambda o: o.share)
  full = found.runs["full", 0.0].tally.right
  terse = _cell(found, "prompt hint", max(recipe.fractions)).right
  share, at = _least_share(recipe, found, _GUIDED)
  share_every, _ = _least_share(recipe, found, _EVERY)
  digits = np.array([item.steps for item in found.items])
  generous = [f for f in recipe.fractions if f >= recipe.generous]
  spent = [
    run.tally.spent - run.budgets[None]
    for (name, _), run in found.runs.items()
    if name in (_GUIDED, _EVERY)
  ]
  claim = results.Claim
  made = [
    claim("exact_law_error", checks.exact_law_error, bar=1e-6, comparison="<="),
    claim("full_accuracy", *_mean(recipe, full, rng), bar=0.97),
    claim("concise_accuracy", *_mean(recipe, terse, rng), bar=0.97),
  ]
  for rival in ("hard cap", "budget forcing"):
    name = f"points_over_{rival.replace(' ', '_')}"
    gaps = {f: _gap(found, _GUIDED, rival, f) for f in recipe.fractions}
    band = np.mean([gaps[f] for f in recipe.band], axis=0)
    made.append(claim(name, *_mean(recipe, band, rng), bar=20.0))
    made += [
      claim(f"{name}_at_{f:g}", *_mean(recipe, gaps[f], rng))
      for f in recipe.fractions
    ]
    made.append(
      claim(
        f"{name}_least",
        min(gap.mean() for gap in gaps.values()),
        bar=-2.0,
      )
    )
  made += [
    claim("tokens_fraction_at_full_accuracy", share, bar=0.63, comparison="<="),
    claim("budget_fraction_at_full_accuracy", at),
    claim(
      "tokens_fraction_at_full_accuracy_every_token",
      share_every,
    ),
    claim(
      "points_below_full_when_generous",
      max(
        100 * (full.mean() - _cell(found, _GUIDED, f).right.mean())
        for f in generous
      ),
      bar=3.0,
      comparison="<=",
    ),
    claim(
      "most_tokens_overspent",
      float(max(over.max() for over in spent)),
      bar=0.0,
      comparison="<=",
    ),
    claim("difficulty_spearman", *_spearman(recipe, found, digits), bar=0.8),
    claim(
      "concise_share_spearman",
      _concise_trend(recipe, found),
      bar=-0.8,
      comparison="<=",
    ),
    claim("pit_distance", checks.mixed.distance, bar=0.1, comparison="<="),
    claim("pit_distance_natural", checks.natural.distance),
    claim(
      "nats_below_constant_gamma",
      checks.mixed.constant_nats - checks.mixed.nats,
      bar=0.0,
      comparison=">",
    ),
    claim("overhead_100m", worst.share, bar=0.15, comparison="<="),
  ]
  return made


def _cell(found, name, fraction):
  return found.runs[name, fraction].tally


def _gap(found, ours, theirs, fraction):
  """Points of accuracy between two policies, [S, B]."""
  a, b = (_cell(found, name, fraction).right for name in (ours, theirs))
  return 100 * (a.astype(float) - b)


def _mean(recipe, values, rng):
  """Mean over seeds and questions, and its interval over questions."""
  found = statistics.bootstrap(
    np.asarray(values, float).T, resamples=recipe.resamples, rng=rng
  )
  low = min(found.low, found.value)
  return found.value, low, max(found.high, found.value)


def _least_share(recipe, found, name):
  """Least tokens, over full thinking's, at which nothing is lost.

  Returns:
    The share of tokens, and the budget's fraction; both 1 if none will do.
  """
  full = found.runs["full", 0.0].tally
  enough = 100 * full.right.mean() - recipe.tolerance
  best = (1.0, 1.0)
  for fraction in recipe.fractions:
    cell = _cell(found, name, fraction)
    if 100 * cell.right.mean() >= enough:
      best = min(best, (cell.spent.mean() / full.spent.mean(), fraction))
  return best


def _spearman(recipe, found, digits):
  pairs = np.stack([found.expected, digits], axis=1)

  def correlation(rows):
    return float(stats.spearmanr(rows[:, 0], rows[:, 1]).statistic)

  interval = statistics.bootstrap(
    pairs,
    correlation,
    resamples=min(recipe.resamples, 300),
    rng=np.random.default_rng(1),
  )
  return (
    interval.value,
    min(interval.low, interval.value),
    max(interval.high, interval.value),
  )


def _concise_trend(recipe, found):
  """Rank correlation of the budget and the share of concise lines."""
  shares = [
    _share(_cell(found, _GUIDED, fraction)) for fraction in recipe.fractions
  ]
  return float(stats.spearmanr(recipe.fractions, shares).statistic)


def _share(tally):
  return float(tally.concise.sum() / max(tally.lines.sum(), 1))


def _data(found, checks) -> Mapping[str, Any]:
  rows = [
    {
      "policy": run.policy,
      "fraction": run.fraction,
      "setting": run.setting,
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
      "concise_share": _share(run.tally),
    }
    for run in found.runs.values()
  ]
  histogram = lambda pit: np.histogram(pit, 20, (0, 1))[0]  # noqa: E731
  return {
    "policies": rows,
    "natural_length": found.natural,
    "expected_length": found.expected,
    "digits": [item.steps for item in found.items],
    "pit": {
      "mixed": histogram(checks.mixed.pit),
      "natural": histogram(checks.natural.pit),
    },
    "nats": checks.mixed.nats,
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


def draw(path, recipe, found, checks) -> None:
  """Accuracy by budget and by tokens, what bends, and calibration."""
  with page.style():
    figure = page.figure(6.6)
    axes = figure.subplots(2, 2)
    _draw_accuracy(axes[0, 0], recipe, found)
    _draw_tokens(axes[0, 1], recipe, found)
    _draw_bending(axes[1, 0], recipe, found)
    _draw_calibration(axes[1, 1], checks)
    page.save(figure, path)


def _draw_accuracy(axes, recipe, found):
  for name, (colour, line) in _LOOKS.items():
    cells = [_cell(found, name, f).right for f in recipe.fractions]
    by_seed = np.array([100 * cell.mean(axis=1) for cell in cells])
    axes.plot(
      recipe.fractions,
      by_seed.mean(axis=1),
      color=colour,
      ls=line,
      marker="o",
      ms=3,
      label=name,
    )
    axes.fill_between(
      recipe.fractions,
      by_seed.min(axis=1),
      by_seed.max(axis=1),
      color=colour,
      alpha=0.2,
      lw=0,
    )
  full = found.runs["full", 0.0].tally
  axes.axhline(100 * full.right.mean(), color="#222222", lw=0.8, ls=":")
  axes.axvspan(min(recipe.band), max(recipe.band), color="#f2f2f2", zorder=0)
  axes.set(xlabel="budget / natural length", ylabel="right, %", ylim=(0, 103))
  axes.set_title("Accuracy at a budget (dotted: full thinking)")
  axes.legend(fontsize=8, loc="lower right")


def _draw_tokens(axes, recipe, found):
  full = found.runs["full", 0.0].tally
  for name, (colour, line) in _LOOKS.items():
    cells = [_cell(found, name, f) for f in recipe.fractions]
    tokens = [cell.spent.mean() for cell in cells]
    right = [100 * cell.right.mean() for cell in cells]
    axes.plot(tokens, right, color=colour, ls=line, marker="o", ms=3)
  axes.plot(
    full.spent.mean(), 100 * full.right.mean(), "*", color="#222222", ms=10
  )
  axes.axvline(0.63 * full.spent.mean(), color="#222222", lw=0.8, ls=":")
  axes.set(xlabel="thinking tokens spent, mean", ylim=(0, 103))
  axes.set_title("Accuracy and tokens (star: full; dotted: 63%)")


def _draw_bending(axes, recipe, found):
  for name in ("hard cap", _GUIDED, _EVERY):
    colour, _ = _LOOKS[name]
    cells = [_cell(found, name, f) for f in recipe.fractions]
    axes.plot(
      recipe.fractions,
      [100 * _share(cell) for cell in cells],
      color=colour,
      marker="o",
      ms=3,
      label=f"concise lines: {name}",
    )
    axes.plot(
      recipe.fractions,
      [100 * cell.cut.mean() for cell in cells],
      color=colour,
      ls=":",
      label=f"cut: {name}",
    )
  axes.set(xlabel="budget / natural length", ylabel="%", ylim=(0, 150))
  axes.set_yticks(range(0, 101, 20))
  axes.set_title("How it fits: lines get shorter, cuts get rare")
  axes.legend(fontsize=7.5, ncols=2, loc="upper center")


def _draw_calibration(axes, checks):
  bins = np.linspace(0, 1, 21)
  for calibrated, colour, label in (
    (checks.mixed, "#2171b5", "as trained"),
    (checks.natural, "#9ecae1", "as the model writes"),
  ):
    axes.hist(
      calibrated.pit,
      bins,
      density=True,
      histtype="step",
      color=colour,
      lw=1.5,
      label=f"{label} (distance {calibrated.distance:.2f})",
    )
  axes.axhline(1.0, color="#222222", lw=0.8, ls=":")
  axes.set(xlabel="chance of at most the length that came", ylabel="density")
  axes.set_title("Calibration (dotted: perfect)")
  axes.legend(fontsize=8)
