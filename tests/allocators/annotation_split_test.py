# SPDX-License-Identifier: Apache-2.0
"""Plans never overspend; recommendations and rules against made-up tables."""

import json
import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import annotation_split as split

_RESULTS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "results"
_price = st.floats(0.01, 100)


@hypothesis.given(
  st.floats(0, 1e6), st.floats(0, 1), _price, _price, st.floats(1, 3)
)
def test_plans_spend_what_they_can_and_no_more(budget, share, sft, pair, more):
  prices = split.AnnotationPrices(sft=sft, pair=pair)
  plan = split.plan_budget(budget, prices, share)
  assert plan.sft >= 0 and plan.pairs >= 0
  assert plan.spent == plan.sft * sft + plan.pairs * pair <= budget
  assert plan.left_over == budget - plan.spent
  assert plan.left_over <= (sft + pair) * (1 + 1e-6)
  larger = split.plan_budget(more * budget, prices, share)
  assert larger.sft >= plan.sft and larger.pairs >= plan.pairs


def test_corners_and_whole_numbers():
  prices = split.AnnotationPrices(sft=2.0, pair=0.5)
  assert split.plan_budget(10, prices, 1.0)[:3] == (5, 0, 10)
  assert split.plan_budget(10, prices, 0.0)[:3] == (0, 20, 10)
  assert split.plan_budget(11, prices, 1.0)[:4] == (5, 0, 10, 1)
  equal = split.AnnotationPrices()
  assert split.plan_budget(30, equal, 0.1)[:2] == (3, 27)
  with pytest.raises(ValueError, match="need 30 prompts, but there are 29"):
    split.plan_budget(30, equal, 0.1, pool=29)


def _table(scores, budgets=(10, 100, 1000), shares=(0.0, 0.5, 1.0)):
  return split.SplitTable(
    split.AnnotationPrices(),
    np.array(budgets, float),
    np.array(shares),
    np.array(scores, float),
  )


def test_recommends_the_best_and_those_it_cannot_tell_from_it():
  swing = np.tile([1.0, -1.0], 4)
  noise = np.stack([swing, swing, -swing])
  scores = np.stack([np.array([[0], [5], [5.1]]) + noise] * 3)
  found = split.recommend(_table(scores), 100)
  assert found.share in (0.5, 1.0)
  assert found.band == (0.5, 1.0) and found.cheapest == 1.0
  assert 0.5 <= found.low <= found.high <= 1.0
  sure = np.stack([np.array([[0], [5], [4]]) + noise[:1]] * 3)
  found = split.recommend(_table(sure), 100)
  assert (found.share, found.band, found.low) == (0.5, (0.5,), 0.5)


def test_budgets_between_are_interpolated_in_their_logarithm():
  table = _table(np.arange(9.0).reshape(3, 3, 1) ** 2)
  np.testing.assert_allclose(table.at(100), table.scores[1])
  np.testing.assert_allclose(table.at(1000), table.scores[2])
  halfway = table.at(10**1.5)
  np.testing.assert_allclose(halfway, (table.scores[0] + table.scores[1]) / 2)
  with pytest.raises(ValueError, match=r"outside the table's 10..1000"):
    table.at(5)


def test_a_rule_is_found_again_from_tables_that_it_made():
  true = split.SplitRule(scale=64.0, fall=0.5, rise=0.25)
  budgets, shares = np.geomspace(64, 65536, 6), np.linspace(0, 1, 41)
  tables = []
  for ratio in (0.25, 1.0, 4.0):
    prices = split.AnnotationPrices(pair=ratio)
    best = np.array([true.share(budget, prices) for budget in budgets])
    scores = -((shares[None] - best[:, None]) ** 2)
    tables.append(split.SplitTable(prices, budgets, shares, scores[..., None]))
  found = split.fit_rule(tables)
  for table in tables:
    for budget in budgets:
      assert found.share(budget, table.prices) == pytest.approx(
        true.share(budget, table.prices), abs=0.05
      )
    assert split.regret(found, table).max() < 3e-3


def test_the_default_rule_is_the_one_that_the_study_fitted():
  data = json.loads((_RESULTS / "sft_vs_dpo.json").read_text())["data"]["rule"]
  found = split.SplitRule(**{k: data[k] for k in ("scale", "fall", "rise")})
  for budget in (64, 1000, 20000):
    prices = split.AnnotationPrices(pair=2.0)
    assert split.LINEAR_TASK.share(budget, prices) == pytest.approx(
      found.share(budget, prices)
    )


def test_recommend_split_spends_the_budget():
  prices = split.AnnotationPrices(sft=3.0, pair=1.5)
  small = split.recommend_split(300, prices)
  assert small.pairs == 0 and small.sft == 100
  large = split.recommend_split(60_000, prices)
  assert large.share < 0.5 and large.sft > small.sft and large.pairs > 0
  assert large.spent <= 60_000
  with pytest.raises(ValueError, match="there are 10"):
    split.recommend_split(300, prices, pool=10)


def test_bad_values_are_refused():
  for name in ("sft", "pair"):
    with pytest.raises(ValueError, match=f"the price of {name} must be"):
      split.AnnotationPrices(**{name: 0.0})
  prices = split.AnnotationPrices()
  with pytest.raises(ValueError, match="share must be in"):
    split.plan_budget(1, prices, 1.5)
  with pytest.raises(ValueError, match="must not be negative"):
    split.plan_budget(-1, prices, 0.5)
  with pytest.raises(ValueError, match="must be positive"):
    split.recommend_split(0, prices)
  with pytest.raises(ValueError, match="at least one table"):
    split.fit_rule([])
