# SPDX-License-Identifier: Apache-2.0
"""The study keeps to its budgets, and its claims follow from its rows."""

import pathlib

import pytest

from jaxttc.simulation import clusters
from jaxttc.simulation.clusters import splitwise_picture, splitwise_study

_REAL = (
  pathlib.Path(__file__).resolve().parents[4]
  / "shared/data/llm_serving/splitwise_perf_model.csv"
)


@pytest.fixture(scope="module")
def kinds():
  if not _REAL.is_file():
    pytest.skip(f"{_REAL.name} is not at hand (splitwise-sim)")
  return clusters.dgx(_REAL)


@pytest.mark.parametrize("share", [0.8, 1.0])
def test_designs_use_their_budgets_up(kinds, share):
  cost = share * 10 * kinds["H100"].cost_per_h
  power = 10 * kinds["H100"].provisioned
  made = splitwise_study.split_clusters(kinds, cost, power, 5)
  assert {c.name.split()[0] for c in made} == {"HH", "HHcap", "HA", "AA"}
  for cluster in made:
    assert cluster.cost_per_h <= cost * (1 + 1e-6)
    assert cluster.provisioned <= power * (1 + 1e-6)
    (spare, _), *_ = cluster.token
    assert (
      cluster.cost_per_h + spare.cost_per_h > cost
      or cluster.provisioned + spare.provisioned > power
    )


def test_baselines_get_the_whole_budget(kinds):
  cost, power = (10 * x for x in (4.76, 44.0))
  made = splitwise_study.undivided_clusters(kinds, cost, power)
  counts = {c.name.split(",")[0]: len(c.machines) for _, c in made}
  assert counts == {"H100 x10": 10, "A100 x17": 17}


def test_flat_decode_forgets_the_batch(kinds):
  flat = splitwise_study.flat_decode(kinds)["A100"].performance.decode
  assert flat == (kinds["A100"].performance.decode.base, 0, 0)


def _row(workload, kind, budget, rates, design="HH 5P 5T"):
  return {
    "workload": workload,
    "kind": kind,
    "budget": budget,
    "design": design,
    "rates": rates,
  }


def test_claims_and_picture_follow_from_rows(tmp_path):
  rows = []
  for workload in ("conversation", "coding", "conversation, flat decode"):
    rows += [
      _row(workload, "baseline", 1.0, [9.0, 11.0], "H100 x10, least_tokens"),
      _row(workload, "baseline", 1.0, [5.0, 5.0], "A100 x17, least_tokens"),
      _row(workload, "baseline", 1.0, [1.0, 1.0], "A100 x17, least_requests"),
      _row(workload, "chunked", 1.0, [20.0, 20.0]),
      _row(workload, "split", 0.8, [15.0, 15.0]),
    ]
    for design in ("HH 5P 5T", "HHcap 5P 5T", "HA 5P 5T", "AA 5P 5T"):
      rows.append(_row(workload, "split", 1.0, [24.0, 26.0], design))
  speed = [
    {
      "rate_per_s": rate,
      "requests_per_s": 3e5,
      "reference_requests_per_s": plain,
      "equal": True,
    }
    for rate, plain in ((5.0, 1e4), (60.0, 2e4))
  ]
  growth = [
    {"load": load, "requests": n, "seconds": n**power}
    for load, power in (("load", 1.0), ("overload", 1.1))
    for n in (100, 1000)
  ]
  made = splitwise_study._throughput_claims(rows)
  made += splitwise_study._speed_claims(speed, growth)
  claims = {claim.name: claim for claim in made}
  equal = claims["throughput_at_equal_cost_and_power"]
  assert equal.value == pytest.approx(2.5)
  assert equal.holds
  assert equal.low == pytest.approx(26 / 11)
  assert claims["throughput_at_20pct_lower_cost"].value == pytest.approx(1.5)
  assert claims["throughput_over_chunked_prompts"].value == pytest.approx(1.25)
  same_kind = claims["throughput_aa_over_undivided_a100_coding"]
  assert same_kind.value == pytest.approx(5.0)
  same_kind = claims["throughput_hh_over_undivided_h100"]
  assert same_kind.value == pytest.approx(2.5)
  ratio = claims["sweep_requests_per_s_over_python_reference"]
  assert ratio.value == pytest.approx(30)
  assert claims["time_exponent_in_requests"].value == pytest.approx(1.1)
  pytest.importorskip("matplotlib")
  data = {"throughput": rows, "speed": speed, "growth": growth}
  splitwise_picture.draw(data, tmp_path / "p.png")
  assert (tmp_path / "p.png").stat().st_size > 10_000


def test_names_a_missing_file(tmp_path):
  study = splitwise_study.SplitwiseStudy(trace=str(tmp_path / "absent.csv"))
  with pytest.raises(ValueError, match="absent.csv: no such file"):
    study.run()
