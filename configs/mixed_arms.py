# SPDX-License-Identifier: Apache-2.0
r"""One policy that searches, thinks, or takes a problem apart, as it needs.

    python scripts/study_mixed_arms.py --config=configs/mixed_arms.py \
      --workdir=runs/mixed_arms --out=docs/results/mixed_arms

Three models of one size, each good at problems of its own. A few minutes on
one CPU core.
"""

from jaxttc.solving import policy_fitting, problem_sets, solve_recipe
from jaxttc.studies import mixed_arms_study


def _problems(split: str) -> problem_sets.ProblemSource:
  return problem_sets.ProblemSource(
    family="modular,digit_sums,digit_chains",
    steps=(2, 3, 4),
    split=split,
    count=36,
    style="terse",
  )


def get_config() -> mixed_arms_study.StudyRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return mixed_arms_study.StudyRecipe(
    models=("arithmetic_lm", "thinking_lm", "two_speed_lm"),
    verifier="arithmetic_prm",
    decode=" + ".join(
      (
        "arithmetic_lm: best_of_n(n=4, wave=1)@32",
        "arithmetic_lm: best_of_n(n=4, wave=1)@128",
        "thinking_lm: no_thinking()@48",
        "thinking_lm: guided(budget=8)@48",
        "thinking_lm: guided(budget=12)@48",
        "thinking_lm: guided(budget=20)@48",
        "two_speed_lm: two_speed(tau=0.1)@192",
        "two_speed_lm: two_speed(tau=0.5)@192",
        "two_speed_lm: two_speed(tau=1)@192",
      )
    ),
    known=_problems("train"),
    fresh=_problems("test"),
    fit=policy_fitting.FitOptions(
      heads=("knn(k=10)", "forest(trees=60)"),
      budgets=(12.0, 20.0, 30.0, 40.0, 60.0),
      decoders=6,
    ),
    real=30,
    seeds=(0,),
    # As configs/thinking.py: what is hardly ever written comes out first.
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, min_p=0.01, step_tokens=12, max_tokens=48
    ),
  )
