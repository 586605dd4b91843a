# SPDX-License-Identifier: Apache-2.0
r"""The plain policy against the best single decoder, at equal tokens.

    python scripts/study_plain.py --config=configs/plain.py \
      --workdir=runs/plain --out=docs/results/plain

The single decoders are those of configs/compare.py's that are the best of all
at some budget up to 80 tokens (docs/results/decoders.json); the problems are
others. Some five minutes on one CPU core.
"""

from jaxttc.solving import comparing, problem_sets, solve_recipe
from jaxttc.studies import plain_study


def get_config() -> plain_study.StudyRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return plain_study.StudyRecipe(
    compare=comparing.CompareRecipe(
      problems=problem_sets.ProblemSource(
        count=80, steps=(4, 6, 8, 10), style="terse", seed=2
      ),
      budgets=(120,),
      seeds=(0, 1, 2),
      methods=(
        comparing.MethodSpec(label="greedy", decoder="greedy", settings=("",)),
        comparing.MethodSpec(
          label="astar",
          decoder="astar(nodes=256, max_steps=14)",
          settings=(
            "children=1, reopen_penalty=0.4, f_tolerance=0.2, temperature=1.0",
          ),
        ),
      ),
      sampling=solve_recipe.SamplingOptions(
        temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=80
      ),
      batch=80,
      samples=0,
      tree_method="",
    ),
    budgets=(40, 60, 80),
  )
