# SPDX-License-Identifier: Apache-2.0
r"""Width x decoder x cap, chosen per problem at equal FLOPs.

    python scripts/study_model_arms.py --config=configs/model_arms.py \
      --workdir=runs/model_arms --out=docs/results/model_arms

The widths are those of the embedded model with a dial (configs/nested_lm.py),
on problems like those that it was trained for. Some ten minutes on one core.
"""

from jaxttc.solving import comparing, policy_fitting, problem_sets, solve_recipe
from jaxttc.studies import model_arms_study


def get_config() -> model_arms_study.StudyRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return model_arms_study.StudyRecipe(
    models=("nested_lm@0.25", "nested_lm"),
    compare=comparing.CompareRecipe(
      problems=problem_sets.ProblemSource(
        count=120, steps=(2, 4, 6), style="terse"
      ),
      budgets=(30, 60, 120),
      seeds=(0, 1),
      methods=(
        comparing.MethodSpec(
          label="one_try",
          decoder="best_of_n(wave=1)",
          settings=("n=1, temperature=0.6",),
        ),
        comparing.MethodSpec(
          label="astar",
          decoder="astar(nodes=128, max_steps=8)",
          settings=(
            "children=1, reopen_penalty=0.4, f_tolerance=0.2, temperature=1.0",
          ),
        ),
      ),
      sampling=solve_recipe.SamplingOptions(
        step_tokens=12, last_tokens=12, max_tokens=48
      ),
      batch=32,
    ),
    fit=policy_fitting.FitOptions(
      heads=("knn(k=10)", "knn(k=20)"),
      field="flops",
      budgets=(1e8, 2e8, 3e8, 4e8),
    ),
  )
