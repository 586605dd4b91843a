# SPDX-License-Identifier: Apache-2.0
"""Multi-task networks whose widths are chosen at run time."""

from jaxttc.models.slimmable.costs import WidthCosts, tabulate
from jaxttc.models.slimmable.network import (
  MultiTaskNetwork,
  NetworkSpec,
  extract,
  init,
  recalibrate,
)
from jaxttc.models.slimmable.widths import (
  Counts,
  UnknownWidth,
  WidthConfig,
  WidthGroup,
  WidthSpace,
)

__all__ = [
  "Counts",
  "MultiTaskNetwork",
  "NetworkSpec",
  "UnknownWidth",
  "WidthConfig",
  "WidthCosts",
  "WidthGroup",
  "WidthSpace",
  "extract",
  "init",
  "recalibrate",
  "tabulate",
]
