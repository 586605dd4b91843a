# SPDX-License-Identifier: Apache-2.0
r"""Measures what training on SCALE's traces is worth.

    python scripts/study_traces.py --config=configs/scale_sft.py \
      --workdir=runs/scale_sft --out=docs/results/scale_sft

Carries out chains, keeps the steps of those that came out right as rows, trains
copies of the model on them, and tests the copies; then writes figures, claims
and a picture. Traces and copies are kept: run the same command again after a
stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import trace_report, trace_study


def study(recipe: trace_study.TraceRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return trace_report.report(recipe, trace_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
