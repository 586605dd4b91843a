# SPDX-License-Identifier: Apache-2.0
"""Detector data acquisition: cascades of classifiers on a power budget."""

from jaxttc.simulation.detectors import (
  copula,
  files,
  llm_cascade,
  spreadsheet,
)
from jaxttc.simulation.detectors.classifiers import (
  Empirical,
  Gaussian,
  Pass,
  empirical,
  from_roc,
  measured,
)
from jaxttc.simulation.detectors.complexity import (
  Linear,
  Polynomial,
  Table,
  fit_polynomial,
  table,
)
from jaxttc.simulation.detectors.design import (
  Optimum,
  elasticities,
  gradients,
  optimise,
  sweep,
)
from jaxttc.simulation.detectors.graph import (
  Link,
  PipelineGraph,
  Stage,
  create,
)
from jaxttc.simulation.detectors.performance import Report, evaluate
from jaxttc.simulation.detectors.queueing import QueueReport, simulate

__all__ = (
  "Empirical",
  "Gaussian",
  "Linear",
  "Link",
  "Optimum",
  "Pass",
  "PipelineGraph",
  "Polynomial",
  "QueueReport",
  "Report",
  "Stage",
  "Table",
  "copula",
  "create",
  "elasticities",
  "empirical",
  "evaluate",
  "files",
  "fit_polynomial",
  "from_roc",
  "gradients",
  "llm_cascade",
  "measured",
  "optimise",
  "simulate",
  "spreadsheet",
  "sweep",
  "table",
)
