# SPDX-License-Identifier: Apache-2.0
"""The machine room, simulated: clusters, power, placement, detectors."""

from jaxttc.simulation.study import Study, publish, write
from jaxttc.simulation.traces import Trace
from jaxttc.simulation.workloads import Lengths, Quantiles

__all__ = ["Lengths", "Quantiles", "Study", "Trace", "publish", "write"]
