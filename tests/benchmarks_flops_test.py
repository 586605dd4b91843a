# SPDX-License-Identifier: Apache-2.0
"""The benchmark of FLOP counts counts what it says."""

import json
import pathlib

import jax
import numpy as np
import pytest

from benchmarks import flops, flops_account, flops_calibration, flops_families
from jaxttc.cost import ledger as ledger_lib

_RESULTS = pathlib.Path(__file__).parents[1] / "docs" / "results"


@pytest.fixture(autouse=True)
def any_ranks():
  """These tests count what models multiply, not how they broadcast."""
  with jax.numpy_rank_promotion("allow"):
    yield


def test_cases_are_counted_in_both_ways():
  families = [
    (flops_families._language_model("embedded", flops_families.BASE), 3),
    (flops_families._reward_models(), 2),
    (flops_families._slimmable("mlp"), 2),
  ]
  for cases, count in families:
    rows = [flops_families.measure(case, compiles=False) for case in cases]
    assert len(rows) == count
    assert all(row["error"] == 0 < row["traced"] for row in rows)
  assert set(flops_families.FAMILIES) >= {"llama", "qwen3", "gemma3"}


def test_estimates_are_told_less_than_the_truth():
  rows = flops_calibration.rows(2, seed=3)
  assert len(rows) == 2 * 2 * 3
  summary = flops_calibration.summary(rows)
  closed = [row for row in summary if row["method"] == "closed form"]
  assert all(row["inside"] == 2 for row in closed)
  assert flops_calibration._digit(123.0) == 100.0


def test_the_account_adds_up(tmp_path):
  rows = flops_account.answers(_RESULTS / "slimmable_lm.json")
  own = flops_account.ledgers(rows)
  small = own[flops_account.SMALL]
  spent = sum(
    row["flops"] * row["queries"] for row in rows if row["width"] == 0.25
  )
  assert small.total(["evaluation"]).estimate.value == pytest.approx(spent)
  lives = flops_account.lives(rows, own)
  training = small.total(ledger_lib.TRAINING).estimate.value
  assert lives["small"]["training"] == training
  assert lives["small"]["own"] < lives["large"]["own"] < training
  assert lives["small"]["accuracy"] >= lives["large"]["accuracy"]
  queries = lives["break_even_queries"]
  totals = [
    lives[name]["training"] + queries * lives[name]["per_query"]
    for name in ("small", "large")
  ]
  np.testing.assert_allclose(*totals)
  multiples = flops_account.multiples(rows, own)
  assert all(m.training >= 1 for m in multiples)
  data = {
    "families": [{"error": 0.0}],
    "scan": {"reported": 1, "put_right": 9, "traced": 10},
    "calibration_summary": [],
    "multiples": [vars(m) for m in multiples],
    "lives": lives,
  }
  named = {claim.name: claim for claim in flops.claims(data)}
  assert named["error_against_jaxpr"].holds
  kept = flops._kept(tmp_path / "runs" / "x.json", lambda: [1])
  assert kept == json.loads((tmp_path / "runs" / "x.json").read_text())
