# SPDX-License-Identifier: Apache-2.0
"""A budget policy against the best single decoder, at equal tokens.

    python scripts/study_policy.py --config=configs/policy.py \
      --cells=runs/compare --out=docs/results/policy \
      --export=jaxttc/pretrained/auto_policy.npz

The arms are the decoders and budgets of configs/compare.py. Cells that are
there are read; from nothing, running them takes about two hours on two CPU
cores (a run that is stopped goes on where it was), and the study itself a few
minutes. --export writes the policy, fitted on all problems, for
`scripts/solve.py --policy=FILE`; the one named here ships as "auto".
"""

from jaxttc.evaluation import policy_fitting, policy_study, problem_sets


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
    # Another seed of the generator: problems that no cell has seen.
    fresh=problem_sets.ProblemSource(
      count=100, steps=(4, 6, 8, 10), style="terse", seed=1
    ),
    fresh_budget=80,
  )
