# SPDX-License-Identifier: Apache-2.0
import datetime
import json

from jaxttc.cost import card as card_lib
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules as rules_lib

TODAY = datetime.date(2026, 11, 23)


def life():
  """A fine-tuned model that is trained near the Act's threshold."""
  base = ledger_lib.Ledger("base")
  base.add(
    "pre_training",
    flop=flop_estimates.from_hardware("h100-sxm", 1000, 4e7, "bfloat16"),
    day="2026-01-31",
  )
  judge = ledger_lib.Ledger("judge", [ledger_lib.Parent(base)])
  exact = lambda value, unit: estimate_lib.Estimate.exact(  # noqa: E731
    value, unit, "hand"
  )
  judge.add("fine_tuning", flop=exact(1e20, "FLOP"), day="2026-01-31")
  tuned = ledger_lib.Ledger(
    "tuned",
    [ledger_lib.Parent(base), ledger_lib.Parent(judge, "verifier")],
  )
  tuned.add(
    "fine_tuning",
    flop=exact(1e22, "FLOP"),
    recomputed=2e21,
    joules=exact(3e9, "J"),
    day="2026-02-28",
  )
  tuned.add(
    "inference", flop=exact(4e20, "FLOP"), queries=1000, day="2026-03-01"
  )
  return tuned


def test_a_card_tells_all_and_is_json():
  card = card_lib.build(
    life(), as_of=TODAY, head="abc", reference=datetime.date(2025, 1, 1)
  )
  told = json.loads(json.dumps(card.as_dict(), allow_nan=False))
  assert told["schema"] == card_lib.SCHEMA and told["head"] == "abc"
  assert set(told["flop"]["phases"]) == {"fine_tuning", "inference"}
  base = 1000 * 4e7 * 989.5e12 * 0.3
  assert told["flop"]["inherited"]["value"] == base
  assert told["flop"]["training"]["value"] == base + 1e22
  assert told["flop"]["training_without_recomputation"]["value"] == base + 8e21
  assert told["flop"]["per_query"]["value"] == 4e17
  assert told["flop"]["lifetime"]["value"] == base + 1e22 + 4e20
  assert told["flop"]["teachers_and_verifiers"]["verifier judge"]["value"] == (
    base + 1e20
  )
  assert told["flop"]["effective"]["value"] > told["flop"]["training"]["value"]
  assert told["joules"]["value"] == 3e9
  assert "evaluation" in told["omitted_phases"]
  rules = {row["rule"]: row for row in told["rules"]}
  assert set(rules) == {rule.name for rule in rules_lib.in_force(TODAY)}
  assert rules["eu-systemic-risk"]["answer"] == "uncertain"
  assert rules["eu-modification"]["answer"] == "below"
  assert rules["us-ca-sb53"]["answer"] == "below"
  turn = told["sensitivity"][0]
  assert turn == {"unknown": "utilisation of language runs", "turns": True}
  assert "Not legal advice" in told["disclaimer"]


def test_markdown_has_a_row_for_each_figure():
  text = card_lib.build(life(), as_of=TODAY, head="abc").markdown()
  for part in (
    "# Compute of tuned",
    "| fine tuning | 1e+22 | exact |",
    "| inherited from bases |",
    "| **training, in all** |",
    "| verifier judge (not counted) |",
    "| a query (1,000 of them) | 4e+17 |",
    "| joules (1 of 2) | 3e+09 J |",
    "| eu-systemic-risk | training flop > 1e+25 |",
    "Nobody said.",
    "after 2.97e+07 queries answering has cost as much as training",
    "Unknown: utilisation of language runs",
    "utilisation of language runs decides",
    "has the hash `abc`",
    "Not legal advice",
  ):
    assert part in text, part


def test_a_rounded_card_gives_away_powers_of_ten_alone():
  told = card_lib.build(life(), as_of=TODAY).as_dict(rounded=True)
  assert told["flop"]["training"] == {
    "order_of_magnitude": 25,
    "unit": "FLOP",
    "provenance": "assumed",
  }
  assert "value" not in json.dumps(told)
  assert "costs 1e18 FLOP; after 1e7 queries" in told["limits"][0]
  margins = [
    b["orders_of_magnitude"] for r in told["rules"] for b in r["bounds"]
  ]
  assert all(isinstance(margin, int) for margin in margins)


def test_an_empty_ledger_and_rules_of_another_day():
  card = card_lib.build(ledger_lib.Ledger("new"), as_of=TODAY)
  assert card.training.value == 0 and card.per_query is None
  assert "nothing is told of it" in card.markdown()
  early = card_lib.build(life(), as_of=datetime.date(2020, 1, 1))
  assert "No rule that we know was in force on 2020-01-01" in early.markdown()
  forced = card_lib.build(
    life(), as_of=TODAY, rules=rules_lib.everything(), force=True
  )
  assert "below; not in force" in forced.markdown()
  assert "unknown: needs dollars of the training" in forced.markdown()
