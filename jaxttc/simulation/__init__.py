# SPDX-License-Identifier: Apache-2.0
"""The machine room, simulated: clusters, power, placement, detectors."""

from jaxttc.simulation.study import Study, write

__all__ = ["Study", "write"]
