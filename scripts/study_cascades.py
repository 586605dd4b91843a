# SPDX-License-Identifier: Apache-2.0
"""Judges cascades on models' answers, and routers that learn while they serve.

    python scripts/study_cascades.py --config=configs/cascades.py

Writes figures, claims and a picture.
"""

from jaxttc import script
from jaxttc.studies import cascade_report

if __name__ == "__main__":
  script.run_study(
    cascade_report.run,
    __file__,
    out="docs/results/cascades",
    refused=(ValueError, OSError, ImportError),
  )
