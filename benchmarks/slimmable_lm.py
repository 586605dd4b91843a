# SPDX-License-Identifier: Apache-2.0
r"""One language model of four widths, against a model trained for each width.

    python -m benchmarks.slimmable_lm --workdir=runs/slimmable_lm

Three questions, on problems that training never saw, three seeds of them:

*  how far the nested model's widths stay below separate models, which begin
   with the same slices and are trained as long on the same text: answers that
   are greedy, and answers that are sampled once;
*  what A*-decoding solves at each width under equal budgets of FLOPs, policy
   and reward model together, prompt included;
*  what choosing the width by the budget gains over the full width. Calibration
   problems choose a width a budget, and the budget where that gains most; the
   claim is the gain there on other problems.

The separate models are trained in --workdir, about 15 minutes on one CPU core,
unless they are there; each model is trained once. Writes
docs/results/slimmable_lm.json and .png.
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
import tempfile
from typing import Any

from absl import app, flags, logging
import jax
import numpy as np

from benchmarks import (
  slimmable_lm_models,
  slimmable_lm_picture,
  slimmable_lm_runs,
)
from configs import nested_lm
from jaxttc import results
from jaxttc.allocators import model_width
from jaxttc.cost import transformer_flops
from jaxttc.evaluation import statistics as statistics_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import nested_transformer
from jaxttc.testing import tiny_models
from jaxttc.training import recipes

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONTEXT = 64  # tokens before the one whose FLOPs are given
BELOW = {
  "points_below_separate_models": "greedy",
  "points_below_separate_models_sampled": "sample",
}


def gains(
  calibration: dict[tuple[float, float], slimmable_lm_runs.Solved],
  evaluation: dict[tuple[float, float], slimmable_lm_runs.Solved],
) -> list[dict[str, Any]]:
  """A row a budget: what calibration chose, and what that gains where.

  Returns:
    Rows of flops, width (chosen), within (the budget that the choice was
    measured under, no larger), calibration_gain and evaluation_gain over the
    full width, in points, with the latter's interval over problems.
  """
  measured = [
    model_width.Measured(
      width, slimmable_lm_runs.SEARCH, flops, float(solved.right.mean())
    )
    for (width, flops), solved in calibration.items()
  ]
  rows = []
  for flops in sorted({flops for _, flops in calibration}):
    best = model_width.choose(measured, flops)
    chosen = best.width, best.flops
    ours, full = evaluation[chosen].right, evaluation[1.0, flops].right
    gain = _points(ours.reshape(-1, 1), full.reshape(-1, 1))
    before = calibration[chosen].right.mean() - (
      calibration[1.0, flops].right.mean()
    )
    rows.append(
      {
        "flops": flops,
        "width": best.width,
        "within": best.flops,
        "calibration_gain": 100 * float(before),
        "evaluation_gain": gain.value,
        "low": gain.low,
        "high": gain.high,
      }
    )
  return rows


def _points(a: np.ndarray, b: np.ndarray) -> statistics_lib.Interval:
  """Mean of a less that of b in points, problems in rows."""
  gap = statistics_lib.paired_difference(a, b, rng=np.random.default_rng(0))
  return statistics_lib.Interval(*(100 * x for x in gap))


def claims(
  single: dict[tuple[str, float, str], np.ndarray],
  chosen: list[dict[str, Any]],
  training: float,
) -> list[results.Claim]:
  """The claims.

  Args:
    single: of `slimmable_lm_runs.single_answers`.
    chosen: of `gains`.
    training: FLOPs of training all separate models, over those of the nested.
  """

  def below(decoder):
    nested, separate = (
      np.stack(
        [
          right.reshape(-1)
          for (model, _, text), right in single.items()
          if (model, text) == (kind, decoder)
        ],
        axis=1,
      )  # [problems, widths]
      for kind in ("nested", "separate")
    )
    return _points(separate, nested)

  best = max(chosen, key=lambda row: row["calibration_gain"])
  return [
    *(
      results.Claim(name, *below(decoder), bar=3.0, comparison="<=")
      for name, decoder in BELOW.items()
    ),
    results.Claim(
      "points_over_full_width_at_equal_flops",
      best["evaluation_gain"],
      best["low"],
      best["high"],
      bar=0.0,
      comparison=">",
    ),
    results.Claim(
      "mean_points_over_full_width",
      float(np.mean([row["evaluation_gain"] for row in chosen])),
    ),
    results.Claim("training_flops_separate_over_nested", training),
  ]


def training_ratio(recipe: recipes.LanguageModelRecipe) -> float:
  """FLOPs of a step of all separate models over those of a nested step."""
  shapes = [
    nested_transformer.narrowed(recipe.model, width).shape()
    for width in recipe.widths
  ]
  each = [
    transformer_flops.train_flops(shape, 1, recipe.train.length)
    for shape in shapes
  ]
  narrow = sum(each[:-1])
  if recipe.shared_rows:
    narrow /= len(each) - 1
  return sum(each) / (each[-1] + narrow)


def measure(
  models: slimmable_lm_models.Models,
  plan: slimmable_lm_runs.Plan,
  recipe: recipes.LanguageModelRecipe,
) -> tuple[dict[str, Any], list[results.Claim]]:
  """The tidy data and the claims."""
  single = slimmable_lm_runs.single_answers(models, plan)
  calibration = slimmable_lm_runs.searched(models, plan, calibration=True)
  evaluation = slimmable_lm_runs.searched(models, plan, calibration=False)
  chosen = gains(calibration, evaluation)
  answers = [
    {
      "model": kind,
      "width": width,
      "decoder": decoder,
      "flops_per_token": transformer_flops.decode_flops(
        models.nested[width].shape(), _CONTEXT
      ),
      "accuracy": float(right.mean()),
      "by_seed": right.mean(axis=1),
    }
    for (kind, width, decoder), right in single.items()
  ]
  search = [
    {
      "split": split,
      "width": width,
      "budget": flops,
      "accuracy": float(solved.right.mean()),
      "flops": float(solved.flops.mean()),
    }
    for split, found in (
      ("calibration", calibration),
      ("evaluation", evaluation),
    )
    for (width, flops), solved in found.items()
  ]
  data = {
    "plan": dataclasses.asdict(plan),
    "trainings": "each model once",
    "answers": answers,
    "search": search,
    "gains": chosen,
  }
  return data, claims(single, chosen, training_ratio(recipe))


def tiny(
  workdir: pathlib.Path,
) -> tuple[slimmable_lm_models.Models, slimmable_lm_runs.Plan, Any]:
  """Models of width 16 that are trained for three steps, and few problems."""
  policy, verifier = tiny_models.tiny_bundles(kv_heads=2)
  workdir.mkdir(parents=True, exist_ok=True)
  start = workdir / "start.safetensors"
  bundle_lib.save(str(start), policy)
  recipe = dataclasses.replace(
    nested_lm.get_config(),
    model=policy.config,
    start=str(start),
    widths=(0.5, 1.0),
  )
  recipe.train = dataclasses.replace(
    recipe.train, steps=3, batch_size=2, length=96
  )
  plan = slimmable_lm_runs.Plan(
    problems=4,
    calibration=4,
    seeds=(0, 1),
    budgets=(3e6, 6e6),
    steps=(2,),
    batch=4,
  )
  models = slimmable_lm_models.load(
    recipe, workdir, shipped="", verifier=verifier
  )
  return models, plan, recipe


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  values = flags.FLAGS
  try:
    if values.tiny:
      with tempfile.TemporaryDirectory() as folder:
        models, plan, recipe = tiny(pathlib.Path(folder))
    else:
      plan, recipe = slimmable_lm_runs.Plan(), nested_lm.get_config()
      models = slimmable_lm_models.load(
        recipe,
        pathlib.Path(values.workdir),
        shipped=values.model,
        verifier=bundle_lib.load("arithmetic_prm"),
      )
    data, found = measure(models, plan, recipe)
  except ValueError as error:
    raise SystemExit(f"slimmable_lm: {error}") from None
  results.write(
    f"{values.out}.json",
    command=results.command_line(),
    seeds=plan.seeds,
    data=data,
    claims=found,
  )
  slimmable_lm_picture.draw(data, f"{values.out}.png")
  for claim in found:
    bar = "" if claim.bar is None else f"  ({claim.comparison} {claim.bar:g})"
    print(f"{claim.name:42s} {claim.figure}{bar}")


def _define_flags() -> None:
  """Only of a program that runs: others may import it beside each other."""
  flags.DEFINE_bool("tiny", False, "Tiny models and few problems: a trial.")
  flags.DEFINE_string("model", "nested_lm", 'Nested model; "" trains it.')
  flags.DEFINE_string("workdir", "runs/slimmable_lm", "Of what is trained.")
  flags.DEFINE_string("out", "docs/results/slimmable_lm", "Without suffix.")


if __name__ == "__main__":
  _define_flags()
  # Each program is compiled once, not once a run.
  jax.config.update(
    "jax_compilation_cache_dir",
    os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".cache" / "jax")),
  )
  app.run(main)
