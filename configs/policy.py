# SPDX-License-Identifier: Apache-2.0
r"""A budget policy against the best single decoder, at equal tokens.

    python scripts/study_policy.py --config=configs/policy.py \
      --cells=runs/compare --out=docs/results/policy \
      --export=jaxttc/pretrained/auto_policy.npz

The arms are the decoders and budgets of configs/compare.py. Cells that are
there are read; from nothing, running them takes over two hours on two CPU
cores (a run that is stopped goes on where it was), and the study itself a few
minutes. --export writes the policy, fitted on all problems, for
`scripts/solve.py --policy=FILE`; the one named here ships as "auto".
"""

from jaxttc.solving import comparing, policy_fitting, problem_sets
from jaxttc.studies import policy_study


def get_config() -> policy_study.StudyRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return policy_study.StudyRecipe(
    fit=policy_fitting.FitOptions(
      heads=("knn(k=20)", "forest(trees=60)", "forest(trees=60, features=1.0)"),
      budgets=(40.0, 60.0, 80.0, 120.0, 160.0, 240.0),
      decoders=4,
      enough=0.003,
    ),
    budgets=(40.0, 60.0, 80.0, 120.0, 160.0, 240.0),
    folds=5,
    # Searches that say what they showed, so that a cascade can look at them: a
    # first try that is cheap, and the search that goes on where it must.
    looks=(
      comparing.MethodSpec(
        label="astar",
        decoder="astar(nodes=256, max_steps=14)",
        settings=(
          "children=1, reopen_penalty=0.4, f_tolerance=0.2, temperature=1.0",
        ),
      ),
    ),
    first_tries=(
      comparing.MethodSpec(
        label="one_try",
        decoder="best_of_n(wave=1)",
        settings=("n=1, temperature=0.6",),
      ),
    ),
    first_budgets=(60, 120),
    limits=(
      "verifier_calls=8",
      "verifier_calls=16",
      "flops=400M",
      "generated_tokens=80,verifier_calls=10",
    ),
    # Another seed of the generator: problems that no cell has seen.
    fresh=problem_sets.ProblemSource(
      count=100, steps=(4, 6, 8, 10), style="terse", seed=1
    ),
    fresh_budget=80,
  )
