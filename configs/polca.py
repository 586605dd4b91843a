# SPDX-License-Identifier: Apache-2.0
r"""How many servers a power budget carries, by policy, and where it breaks.

    python scripts/simulate.py --config=configs/polca.py \
      --out=docs/results/polca

A row of 40 servers of 8 A100s that serves BLOOM-176B, its power and phase
times from the measured profile, its load a day with a peak. The budget is such
that the row as provisioned peaks at 0.79 of it. Expected: no brakes of the dual
policy at 30 % more servers; on the busier day beside it, of 40 to 90 % busy
servers, two in ten more at most. About four minutes on one free CPU core.
"""

from jaxttc.simulation.power import study


def get_config() -> study.PolcaRecipe:
  """The recipe; every field can be overridden with `--config.a=value`."""
  return study.PolcaRecipe()
