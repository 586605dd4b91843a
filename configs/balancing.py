# SPDX-License-Identifier: Apache-2.0
r"""Who balances a cell best: solvers on hot starts, policies on traces.

    python scripts/simulate.py --config=configs/balancing.py \
      --out=docs/results/balancing

Solvers are compared at equal evaluations with each other and with what an
integer program proves; policies replay generated traces of cells of 60 and of
12,500 machines. A few minutes on one CPU core; finished parts are kept in
runs/balancing. Expect the seeded genetic search at about 0.8 of the cost of the
plain one, and MASB below 1 % of overloaded machines. --config.trace=FOLDER
replays a trace of Google's instead (--config.layout=2011 or 2019).
"""

from jaxttc.simulation.placement import study


def get_config() -> study.BalancingStudy:
  """The recipe; every field can be overridden with `--config.field=value`."""
  return study.BalancingStudy()
