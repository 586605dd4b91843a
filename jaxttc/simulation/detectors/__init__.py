# SPDX-License-Identifier: Apache-2.0
"""Detector data acquisition: cascades of classifiers on a power budget."""

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

__all__ = []
