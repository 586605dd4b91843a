# SPDX-License-Identifier: Apache-2.0
"""Small machines that tests of clusters share."""

import pytest

from jaxttc.simulation import clusters


@pytest.fixture(scope="session")
def model():
  return clusters.ServedModel(
    name="small", kv_bytes_per_token=1000.0, weight_bytes=1e9
  )


@pytest.fixture(scope="session")
def fast():
  return machine("fast", 0.04, 0.0001, (0.03, 0.0005, 2e-7), 3e6)


@pytest.fixture(scope="session")
def slow():
  return machine("slow", 0.07, 0.0002, (0.05, 0.0008, 5e-7), 2.5e6)


def machine(name, base_s, token_s, decode, capacity):
  return clusters.MachineSpec(
    name=name,
    performance=clusters.LinearPerformance(
      base_s, token_s, clusters.Decode(*decode)
    ),
    kv_capacity_bytes=capacity,
    idle_w=100.0,
    prompt_w=700.0,
    decode_w=400.0,
    provisioned=1.0,
    cost_per_h=2.0,
  )
