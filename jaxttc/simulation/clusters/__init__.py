# SPDX-License-Identifier: Apache-2.0
"""Clusters that serve language models: simulated, judged, searched."""

from jaxttc.simulation.clusters.cluster import Cluster, Link, Rules
from jaxttc.simulation.clusters.machines import (
  BLOOM_176B,
  LLAMA2_70B,
  MachineSpec,
  ServedModel,
  dgx,
)
from jaxttc.simulation.clusters.performance import (
  Decode,
  LinearPerformance,
  RooflinePerformance,
  TablePerformance,
  load_table,
)
from jaxttc.simulation.clusters.search import (
  Advice,
  Found,
  Load,
  design_search,
  max_throughput,
  should_split,
  split,
  undivided,
)
from jaxttc.simulation.clusters.slo import Objective, Verdict, check, unloaded
from jaxttc.simulation.clusters.sweeps import (
  Case,
  ClusterRun,
  RequestTable,
  simulate,
  sweep,
  table,
)

__all__ = [
  "BLOOM_176B",
  "LLAMA2_70B",
  "Advice",
  "Case",
  "Cluster",
  "ClusterRun",
  "Decode",
  "Found",
  "LinearPerformance",
  "Link",
  "Load",
  "MachineSpec",
  "Objective",
  "RequestTable",
  "RooflinePerformance",
  "Rules",
  "ServedModel",
  "TablePerformance",
  "Verdict",
  "check",
  "design_search",
  "dgx",
  "load_table",
  "max_throughput",
  "should_split",
  "simulate",
  "split",
  "sweep",
  "table",
  "undivided",
  "unloaded",
]
