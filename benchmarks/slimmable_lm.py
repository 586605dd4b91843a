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
from typing import Any, NamedTuple

from absl import app, flags, logging
import jax
import numpy as np

from benchmarks import slimmable_lm_models, slimmable_lm_picture
from configs import nested_lm
from jaxttc import results
from jaxttc.allocators import model_width
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import transformer_flops
from jaxttc.evaluation import decoder_text, problem_sets, solving
from jaxttc.evaluation import statistics as statistics_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.models import nested_transformer
from jaxttc.runtime import search as search_lib
from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib
from jaxttc.testing import tiny_models
from jaxttc.training import recipes

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONTEXT = 64  # tokens before the one whose FLOPs are given
SINGLE = ("greedy", "sample")
BELOW = {
  "points_below_separate_models": "greedy",
  "points_below_separate_models_sampled": "sample",
}
SEARCH = (
  "astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4, "
  "max_steps=12)"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Which problems, how many, and under which budgets.

  Attributes:
    problems: evaluation problems of each seed.
    calibration: calibration problems of each seed; others than those.
    seeds: of problems and sampling.
    budgets: FLOPs a problem, rising.
    steps: difficulties of the problems, taken in turn.
    batch: problems searched at once.
  """

  problems: int = 100
  calibration: int = 100
  seeds: tuple[int, ...] = (0, 1, 2)
  budgets: tuple[float, ...] = (2.5e8, 3.5e8, 5e8, 8e8)
  steps: tuple[int, ...] = (4, 6, 8)
  batch: int = 100


class Solved(NamedTuple):
  """What came of some problems: right bool[N], FLOPs spent f64[N]."""

  right: np.ndarray
  flops: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Models:
  """The nested model's widths and their rivals, and the reward model."""

  nested: dict[float, bundle_lib.Bundle]
  separate: dict[float, bundle_lib.Bundle]
  verifier: bundle_lib.Bundle


def load(
  recipe: recipes.LanguageModelRecipe,
  workdir: pathlib.Path,
  *,
  shipped: str,
  verifier: bundle_lib.Bundle,
) -> Models:
  """The models, trained where they are missing.

  Args:
    recipe: of the nested model.
    workdir: holds what is trained.
    shipped: file or name of the nested model; "" trains it.
    verifier: the reward model.
  """
  whole = slimmable_lm_models.nested(recipe, shipped, workdir)
  bundle_lib.check_pair(whole, verifier)
  return Models(
    nested={w: bundle_lib.narrowed(whole, w) for w in recipe.widths},
    separate={
      w: slimmable_lm_models.separate(recipe, w, workdir) for w in recipe.widths
    },
    verifier=verifier,
  )


def problems(
  plan: Plan, seed: int, *, calibration: bool
) -> list[problems_lib.Problem]:
  """Problems that the policy was trained for, of the test split."""
  families = nested_lm.get_config().mix.families
  first = 0 if calibration else plan.calibration
  count = plan.calibration if calibration else plan.problems
  return [
    arithmetic.problem(
      i,
      family=families[i % len(families)],
      steps=plan.steps[i % len(plan.steps)],
      split="test",
      seed=seed,
    )
    for i in range(first, first + count)
  ]


def solve(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle,
  decoder: str,
  asked: list[problems_lib.Problem],
  plan: Plan,
  *,
  seed: int,
  flops: float | None = None,
) -> Solved:
  """Solves problems, each under a budget of FLOPs or none."""
  said = decoder_text.parse(decoder)
  sampling = solving.SamplingOptions(
    temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=80, slots=320
  )
  settings = dataclasses.replace(
    sampling.build(said.temperature), prompt_tokens=128
  )
  found = search_lib.solve(
    [problems_lib.prompt(p, "terse") for p in asked],
    [p.id for p in asked],
    policy,
    verifier,
    _decoder(decoder),
    budget=budget_lib.Budget(flops=flops),
    settings=settings,
    seed=seed,
    batch=plan.batch,
  )
  right, spent = [], []
  for problem, result in zip(asked, found, strict=True):
    right.append(bool(problem_sets.is_right(problem, result.completion)))
    spent.append(float(result.cost.flops))
  return Solved(np.array(right), np.array(spent))


_DECODERS: dict[str, Any] = {}


def _decoder(text: str):
  """One object a text, so that its search is compiled once."""
  if text not in _DECODERS:
    _DECODERS[text] = decoder_text.build(text)
  return _DECODERS[text]


def single_answers(
  models: Models, plan: Plan
) -> dict[tuple[str, float, str], np.ndarray]:
  """Right or not, by (kind of model, width, decoder): bool[seeds, N]."""
  found = {}
  for kind in ("nested", "separate"):
    for width, policy in getattr(models, kind).items():
      for decoder in SINGLE:
        found[kind, width, decoder] = np.stack(
          [
            solve(
              policy,
              models.verifier,
              decoder,
              problems(plan, seed, calibration=False),
              plan,
              seed=seed,
            ).right
            for seed in plan.seeds
          ]
        )
        logging.info(
          "slimmable_lm: %s %g %s: %.3f",
          *(kind, width, decoder, found[kind, width, decoder].mean()),
        )
  return found


def searched(
  models: Models, plan: Plan, *, calibration: bool
) -> dict[tuple[float, float], Solved]:
  """What A* solves, by (width, budget): arrays [seeds, N].

  Nothing is chosen here; both splits are searched at all widths, so that the
  figure can show what was not chosen, too.
  """
  found = {}
  for width, policy in models.nested.items():
    for flops in plan.budgets:
      each = [
        solve(
          policy,
          models.verifier,
          SEARCH,
          problems(plan, seed, calibration=calibration),
          plan,
          seed=seed,
          flops=flops,
        )
        for seed in plan.seeds
      ]
      found[width, flops] = Solved(*map(np.stack, zip(*each, strict=True)))
      logging.info(
        "slimmable_lm: A* %g %.3g calibration=%s: %.3f",
        *(width, flops, calibration, found[width, flops].right.mean()),
      )
  return found


def gains(
  calibration: dict[tuple[float, float], Solved],
  evaluation: dict[tuple[float, float], Solved],
) -> list[dict[str, Any]]:
  """A row a budget: what calibration chose, and what that gains where.

  Returns:
    Rows of flops, width (chosen), within (the budget that the choice was
    measured under, no larger), calibration_gain and evaluation_gain over the
    full width, in points, with the latter's interval over problems.
  """
  measured = [
    model_width.Measured(width, SEARCH, flops, float(solved.right.mean()))
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
    single: of `single_answers`.
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
  models: Models, plan: Plan, recipe: recipes.LanguageModelRecipe
) -> tuple[dict[str, Any], list[results.Claim]]:
  """The tidy data and the claims."""
  single = single_answers(models, plan)
  calibration = searched(models, plan, calibration=True)
  evaluation = searched(models, plan, calibration=False)
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


def tiny(workdir: pathlib.Path) -> tuple[Models, Plan, Any]:
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
  plan = Plan(
    problems=4,
    calibration=4,
    seeds=(0, 1),
    budgets=(3e6, 6e6),
    steps=(2,),
    batch=4,
  )
  models = load(recipe, workdir, shipped="", verifier=verifier)
  return models, plan, recipe


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  logging.set_verbosity(logging.INFO)
  values = flags.FLAGS
  try:
    if values.tiny:
      with tempfile.TemporaryDirectory() as folder:
        models, plan, recipe = tiny(pathlib.Path(folder))
    else:
      plan, recipe = Plan(), nested_lm.get_config()
      models = load(
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
