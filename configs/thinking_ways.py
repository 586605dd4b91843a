# SPDX-License-Identifier: Apache-2.0
r"""All ways to think within a budget, on the embedded model that thinks.

About a minute on one CPU core.

    python scripts/study_ways.py --config=configs/thinking_ways.py \
      --out=docs/results/thinking_ways
"""

from jaxttc.studies import ways_study


def get_config() -> ways_study.WaysRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return ways_study.WaysRecipe()
