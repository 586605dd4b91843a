# SPDX-License-Identifier: Apache-2.0
r"""Machines over time, and what requests wait: maps and distributions.

    python scripts/simulate.py --config=configs/utilisation.py \
      --out=docs/results/utilisation

Ten H100 machines under a recorded trace at 19 requests a second, by whole
prompts, chunked prompts and split phases; a cell of 60 machines under two
policies of placement. Needs a trace and a table, as configs/splitwise.py does.
About a minute on one free CPU core.
"""

from jaxttc.simulation import utilisation_study


def get_config() -> utilisation_study.UtilisationStudy:
  """The recipe; every field can be overridden with `--config.field=value`."""
  return utilisation_study.UtilisationStudy()
