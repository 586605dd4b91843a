# SPDX-License-Identifier: Apache-2.0
r"""Voting against verifying on a simulated solver and verifier.

    python scripts/simulate.py --config=configs/solve_or_verify.py \
      --out=docs/results/solve_or_verify

About a minute on one CPU core.
"""

from jaxttc.studies import verification_simulation


def get_config() -> verification_simulation.SimulationRecipe:
  """The recipe; every field can be overridden with `--config.a=value`."""
  return verification_simulation.SimulationRecipe()
