# SPDX-License-Identifier: Apache-2.0
r"""Trains by reinforcement with rollouts given out by rival strategies.

    python scripts/study_rollouts.py --config=configs/knapsack_rl.py:study \
      --workdir=runs/knapsack_study --out=docs/results/knapsack_rl

Every strategy and seed is a training run of its own; then come figures, claims
and a picture. Run the same command again after a stop, or a kill, and it goes
on.
"""

from jaxttc import script, simulation
from jaxttc.studies import rollout_report, rollout_study


def study(recipe: rollout_study.StudyRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return rollout_report.report(recipe, rollout_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(
    study, __file__, refused=(ValueError, FloatingPointError, OSError)
  )
