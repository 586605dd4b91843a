# SPDX-License-Identifier: Apache-2.0
r"""How simulations of clusters scale, and a thousand designs in minutes.

    python scripts/simulate.py --config=configs/scaling.py \
      --out=docs/results/scaling

A thousand ways to make one cluster of 40 machines serve a recorded hour, and
events a second by the size of clusters and traces, overload included. Needs a
trace and a table, as configs/splitwise.py does. Expected: about three minutes
on one free CPU core, time that grows as the number of requests.
"""

from jaxttc.simulation.clusters import scaling_study


def get_config() -> scaling_study.ScalingStudy:
  """The recipe; every field can be overridden with `--config.field=value`."""
  return scaling_study.ScalingStudy()
