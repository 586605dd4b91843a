# SPDX-License-Identifier: Apache-2.0
r"""Serving clusters with phases split (Splitwise, Patel et al. 2024).

    python scripts/simulate.py --config=configs/splitwise.py \
      --out=docs/results/splitwise

Needs a trace in Azure's format and splitwise-sim's table of measured times;
docs/serving_clusters.md says where to get them. Takes a few minutes on a CPU.
"""

from jaxttc.simulation.clusters import splitwise_study


def get_config() -> splitwise_study.SplitwiseStudy:
  return splitwise_study.SplitwiseStudy()
