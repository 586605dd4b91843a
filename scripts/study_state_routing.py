# SPDX-License-Identifier: Apache-2.0
r"""Routes questions between language models by the smallest one's states.

    python scripts/study_state_routing.py --config=configs/state_routing.py \
      --workdir=runs/state_routing --out=docs/results/state_routing

Asks every model every question, fits routers on the training side and writes
figures, claims and a picture of the test side. Run the same command again
after a stop, or a kill, and it goes on after the last whole seed.
"""

from jaxttc import script, simulation
from jaxttc.studies import state_routing_report, state_routing_study


def study(
  recipe: state_routing_study.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study."""
  found = state_routing_study.run(recipe, workdir)
  return state_routing_report.report(recipe, found)


if __name__ == "__main__":
  script.run_study(study, __file__)
