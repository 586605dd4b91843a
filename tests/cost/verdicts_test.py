# SPDX-License-Identifier: Apache-2.0
import dataclasses
import datetime

import pytest

from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules as rules_lib
from jaxttc.cost import verdicts

Bound, Rule = rules_lib.Bound, rules_lib.Rule
TODAY = datetime.date(2026, 11, 23)
DAY = "2026-01-31"


def flop(value, factor=1.0, shared=""):
  return estimate_lib.Estimate(
    value=value,
    low=value / factor,
    high=value * factor,
    unit="FLOP",
    method="test",
    shared=shared,
  )


def trained(value, factor=1.0, name="run", parents=()):
  ledger = ledger_lib.Ledger(name, parents)
  ledger.add("pre_training", flop=flop(value, factor), day=DAY)
  return ledger


def ruled(threshold, quantity="training_flop", comparator=">", **fields):
  return Rule(
    name="own",
    bounds=(Bound(quantity, comparator, threshold),),
    scope="a policy of ours",
    status="own",
    citation="ours",
    read=TODAY,
    start=datetime.date(2026, 1, 1),
    **fields,
  )


def checked(ledger, rule, **fields):
  return verdicts.check(ledger, [rule], TODAY, **fields)[0]


def test_the_table_is_dated_and_sourced():
  by_name = {rule.name: rule for rule in rules_lib.everything()}
  assert by_name["us-eo14110-model"].bounds[0].threshold == 1e26
  assert by_name["us-eo14110-biological"].bounds[0].threshold == 1e23
  assert by_name["us-eo14110-cluster"].bounds[0].threshold == 1e20
  assert by_name["eu-systemic-risk"].bounds[0].threshold == 1e25
  assert by_name["eu-general-purpose"].bounds[0].threshold == 1e23
  assert by_name["us-ca-sb1047"].status == "vetoed"
  for rule in by_name.values():
    assert rule.citation and rule.scope and rule.read <= TODAY
  names = lambda day: {r.name for r in rules_lib.in_force(day)}  # noqa: E731
  assert "us-eo14110-model" in names(datetime.date(2024, 6, 1))
  assert "us-eo14110-model" not in names(datetime.date(2025, 1, 20))
  assert "eu-systemic-risk" not in names(datetime.date(2025, 8, 1))
  assert "eu-systemic-risk" in names(datetime.date(2025, 8, 2))
  assert "us-ca-sb1047" not in names(TODAY)
  assert rules_lib.lookup("eu-systemic-risk").status == "in force"


def test_what_is_certain_is_a_step():
  assert checked(trained(1e25), ruled(1e25)).p_exceed == 0.0
  assert checked(trained(1e25), ruled(1e25, comparator=">=")).p_exceed == 1.0
  verdict = checked(trained(1.01e25), ruled(1e25))
  assert (verdict.p_exceed, verdict.answer, verdict.bites) == (
    1.0,
    "above",
    True,
  )
  low = checked(trained(1e21), ruled(1e25))
  assert low.answer == "below" and not low.bites
  assert low.findings[0].margin == pytest.approx(-4)
  nothing = checked(ledger_lib.Ledger("empty"), ruled(1e25))
  assert nothing.findings[0].margin is None and nothing.answer == "below"


def test_what_is_near_a_threshold_is_uncertain():
  verdict = checked(trained(1e25, 2.0), ruled(1e25))
  assert verdict.p_exceed == pytest.approx(0.5, abs=0.02)
  assert verdict.answer == "uncertain"
  found = [
    checked(trained(1e25, 2.0), ruled(threshold)).p_exceed
    for threshold in (1e24, 6e24, 1e25, 2e25, 1e26)
  ]
  assert found == sorted(found, reverse=True)
  # Far from it, ten per cent turn nothing.
  for factor in (0.9, 1.0, 1.1):
    far = checked(trained(factor * 3e25, 1.5), ruled(1e25))
    assert far.answer == "above"


def test_a_third_of_the_original_is_not_above_a_third():
  rule = rules_lib.lookup("eu-modification")
  base = trained(3e24, name="base")
  for own, answer in ((1e24, "below"), (1.001e24, "above")):
    tuned = trained(own, name="tuned", parents=[ledger_lib.Parent(base)])
    verdict = checked(tuned, rule)
    assert verdict.answer == answer
    assert verdict.findings[0].amount.value == pytest.approx(own / 3e24)
  unsure = trained(3e24, 2.0, name="base")
  tuned = trained(1e24, name="tuned", parents=[ledger_lib.Parent(unsure)])
  assert checked(tuned, rule).p_exceed == pytest.approx(0.5, abs=0.02)
  alone = checked(trained(1e24), rule)
  assert alone.answer == "unknown" and "original" in alone.missing
  unknown = rules_lib.lookup("eu-modification-unknown-original")
  assert checked(trained(4e22), unknown).answer == "above"


def test_all_bounds_must_be_passed():
  rule = rules_lib.lookup("us-ca-sb1047")
  ledger = trained(2e26)
  verdict = checked(ledger, rule, force=True)
  assert verdict.answer == "unknown" and "dollars" in verdict.missing
  dollars = estimate_lib.Estimate.exact(9e7, "USD", "bill")
  ledger.add("fine_tuning", flop=flop(1e20), dollars=dollars, day=DAY)
  assert checked(ledger, rule, force=True).answer == "below"
  ledger.add("fine_tuning", flop=flop(1e20), dollars=dollars, day=DAY)
  verdict = checked(ledger, rule, force=True)
  assert verdict.answer == "above" and not verdict.in_force
  assert not verdict.bites


def test_clusters_have_a_peak_and_a_pace():
  cluster = verdicts.Cluster(
    hardware=hardware_lib.lookup("h100-sxm"),
    count=100_000,
    dtype="bfloat16",
    utilisation=0.4,
  )
  rule = rules_lib.lookup("us-eo14110-cluster")
  assert checked(trained(1.0), rule, force=True).missing == "a cluster"
  verdict = checked(trained(1.0), rule, force=True, cluster=cluster)
  assert verdict.findings[0].amount.value == 98.95e12 * 1e6
  assert verdict.answer == "below"
  systemic = rules_lib.lookup("eu-systemic-risk")
  days = verdicts.days_to_threshold(cluster, systemic).value / 86_400
  assert days == pytest.approx(1e25 / (98.95e18 * 0.4 * 86_400))
  half = verdicts.days_to_threshold(cluster, systemic, trained(5e24))
  assert half.value / 86_400 == pytest.approx(days / 2)
  done = verdicts.days_to_threshold(cluster, systemic, trained(5e26))
  assert done.value == 0
  with pytest.raises(ValueError, match="no bound on training_flop"):
    verdicts.days_to_threshold(cluster, rule)


def test_facts_decide_whether_a_rule_applies():
  rule = rules_lib.lookup("eu-general-purpose")
  fact = rule.facts[0]
  ledger = trained(1e24)
  assert checked(ledger, rule).open_facts == (fact,)
  assert checked(ledger, rule, facts={fact: True}).open_facts == ()
  denied = checked(ledger, rule, facts={fact: False})
  assert denied.denied == fact and not denied.bites
  with pytest.raises(ValueError, match="no rule asks 'is it nice"):
    checked(ledger, rule, facts={"is it nice?": True})


def test_sensitivity_names_what_could_turn_the_answer():
  ledger = ledger_lib.Ledger("run")
  ledger.add("pre_training", flop=flop(8e24, 1.5, "utilisation"), day=DAY)
  ledger.add("fine_tuning", flop=flop(1e24, 1.5, "utilisation"), day=DAY)
  ledger.add("rl_rollout", flop=flop(1e23, 1.2), day=DAY)
  ledger.add("rl_update", flop=flop(1e23), day=DAY)
  turns = verdicts.sensitivity(ledger, ruled(1e25))
  assert [turn.unknown for turn in turns] == ["utilisation", "run/00002"]
  assert [turn.turns for turn in turns] == [True, False]
  assert turns[0].low == pytest.approx(9.2e24 - 3e24)


def test_rules_out_of_date_need_force():
  rule = rules_lib.lookup("us-eo14110-model")
  with pytest.raises(ValueError, match="not in force on 2026-11-23 .rescinded"):
    checked(trained(1e27), rule)
  assert checked(trained(1e27), rule, force=True).answer == "above"
  with pytest.raises(ValueError, match="in force never"):
    checked(trained(1e27), rules_lib.lookup("us-ca-sb1047"))


def test_own_rules_and_bad_ones():
  mine = dataclasses.replace(
    ruled(1e9, "lifetime_flop"), name="quota of the tests"
  )
  rules_lib.register(mine, replace=True)
  ledger = trained(9e8)
  ledger.add("inference", flop=flop(2e8), queries=2, day=DAY)
  assert checked(ledger, rules_lib.lookup(mine.name)).answer == "above"
  for call, message in (
    (lambda: rules_lib.register(mine), "pass replace=True"),
    (lambda: rules_lib.lookup("eu-systemic"), "did you mean 'eu-systemic-risk"),
    (lambda: ruled(-1), "positive and finite"),
    (lambda: ruled(1, quantity="x"), "unknown quantity 'x'"),
    (lambda: ruled(1, comparator="<"), "must be > or >="),
    (lambda: dataclasses.replace(mine, citation=" "), "needs a citation"),
    (lambda: dataclasses.replace(mine, status="x"), "status must be one of"),
    (lambda: dataclasses.replace(mine, end=mine.start), "before it starts"),
    (lambda: dataclasses.replace(mine, phases=("x",)), "unknown phase"),
    (lambda: dataclasses.replace(mine, bounds=()), "at least one bound"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
