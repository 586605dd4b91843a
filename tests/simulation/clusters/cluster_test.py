# SPDX-License-Identifier: Apache-2.0
"""Clusters that cannot be are refused, each in one line."""

import dataclasses

import pytest

from jaxttc.simulation import clusters, traces


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"prompt": 2}, "no machine for the token phase"),
    ({"token": 2}, "no machine for the prompt phase"),
    ({}, "no machine for the prompt phase"),
    ({"prompt": -1, "mixed": 2}, "negative count of prompt"),
    ({"prompt": 300, "token": 1}, "301 machines; expected 1 to 256"),
  ],
)
def test_refuses_impossible_pools(model, fast, fields, message):
  pools = {name: [(fast, count)] for name, count in fields.items()}
  with pytest.raises(ValueError, match=message):
    clusters.Cluster(name="bad", model=model, **pools)


def test_undivided_routers_know_mixed_machines_only(model, fast):
  with pytest.raises(ValueError, match="router turns is for mixed machines"):
    clusters.Cluster(
      name="bad",
      model=model,
      prompt=[(fast, 1)],
      mixed=[(fast, 1)],
      rules=clusters.Rules(router="turns"),
    )


def test_refuses_a_request_that_can_never_fit(model, fast, slow):
  cluster = clusters.Cluster(
    name="small", model=model, prompt=[(fast, 1)], token=[(slow, 1)]
  )
  trace = traces.Trace([0.0, 1.0], [10, 2000], [10, 501])
  with pytest.raises(
    ValueError, match="request 1 needs a KV cache of 2501 tokens.*slow.*2500"
  ):
    clusters.simulate(cluster, trace)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: clusters.Rules(router="best"), "router 'best' is not one of"),
    (lambda: clusters.Rules(max_batch=0), "max_batch must be positive"),
    (lambda: clusters.Link(bytes_per_s=0.0), "bytes_per_s must be positive"),
    (
      lambda: clusters.Objective(ttft=(3.0, 2.0, 6.0)),
      "three positive limits that never fall",
    ),
  ],
)
def test_refuses_impossible_rules(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_refuses_impossible_machines(fast):
  with pytest.raises(ValueError, match="decode_w is 50"):
    dataclasses.replace(fast, decode_w=50.0)
  with pytest.raises(ValueError, match="cost_per_h must be positive"):
    dataclasses.replace(fast, cost_per_h=0.0)


def test_sums_cost_and_power(model, fast, slow):
  cluster = clusters.Cluster(
    name="sum", model=model, prompt=[(fast, 2)], token=[(slow, 3)]
  )
  assert cluster.cost_per_h == 10.0
  assert cluster.provisioned == 5.0
