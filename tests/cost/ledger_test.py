# SPDX-License-Identifier: Apache-2.0
import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.cost import costs, ledger_file
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import ledger as ledger_lib

Ledger, Parent = ledger_lib.Ledger, ledger_lib.Parent
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


def filled(name="run", parents=()):
  ledger = Ledger(name, parents)
  ledger.add("pre_training", flop=flop(100.0, 2.0), day=DAY)
  ledger.add("rl_rollout", flop=flop(20.0), recomputed=5.0, day=DAY)
  ledger.add("inference", flop=flop(30.0), queries=10, day=DAY)
  ledger.add("failed", flop=flop(7.0), day=DAY)
  return ledger


def test_totals_add_up_by_phase():
  ledger = filled()
  each = {
    phase: ledger.total([phase]).estimate.value for phase in ledger_lib.PHASES
  }
  assert each["pre_training"] == 100.0 and each["curation"] == 0.0
  assert ledger.total().estimate.value == sum(each.values()) == 157.0
  training = ledger.total(ledger_lib.TRAINING)
  assert (training.estimate.value, training.entries) == (120.0, 2)
  assert training.estimate.low == pytest.approx(70.0, rel=0.02)
  assert training.estimate.high == pytest.approx(220.0, rel=0.02)
  assert ledger.model_flop(ledger_lib.TRAINING) == 115.0


def test_merging_is_adding_and_once_is_enough():
  ours, theirs = filled("a"), filled("b")
  parts = [ledger.total().estimate.value for ledger in (ours, theirs)]
  ours.merge(theirs)
  ours.merge(theirs)
  assert ours.total().estimate.value == sum(parts)
  assert len(ours.entries) == 8
  strange = Ledger("b")
  strange.add("pre_training", flop=flop(1.0), day=DAY)
  with pytest.raises(ValueError, match="two different entries are called"):
    ours.merge(strange)
  with pytest.raises(ValueError, match="builds on 'base'"):
    ours.merge(filled("c", [Parent(filled("base"))]))


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.permutations(range(6)), st.integers(0, 5))
def test_totals_do_not_depend_on_the_order_of_entries(order, seed):
  parts = [flop(10.0 ** (i % 3), 1.0 + i / 4, "u" * (i % 2)) for i in range(6)]
  source = Ledger("x")
  for part in parts:
    source.add("fine_tuning", flop=part, day=DAY)
  mixed = Ledger("y")
  for i in order:
    mixed.take(source.entries[i])
  ours, theirs = (x.total(seed=seed, draws=50) for x in (source, mixed))
  np.testing.assert_array_equal(ours.draws, theirs.draws)


def test_probabilities_fall_with_the_threshold():
  total = filled().total(ledger_lib.TRAINING)
  thresholds = np.linspace(1, 400, 50)
  found = [total.exceeds(t) for t in thresholds]
  assert found == sorted(found, reverse=True)
  assert found[0] == 1.0 and found[-1] < 0.05
  certain = filled().total(["rl_rollout"])
  assert certain.exceeds(20.0) == 0.0
  assert certain.exceeds(20.0, strictly=False) == 1.0
  assert certain.exceeds(19.999) == 1.0


def test_bases_are_inherited_and_helpers_only_when_asked_for():
  base = filled("base")
  root = Ledger("root")
  root.add("pre_training", flop=flop(1000.0), day=DAY)
  judge = Ledger("judge", [Parent(root)])
  judge.add("fine_tuning", flop=flop(8.0), day=DAY)
  tuned = Ledger("tuned", [Parent(base), Parent(judge, "verifier")])
  tuned.add("fine_tuning", flop=flop(1.0), day=DAY)
  # What the base answered, and what it failed at, are not the child's.
  assert tuned.total().estimate.value == 121.0
  assert tuned.total(roles=()).estimate.value == 1.0
  assert tuned.total(["inference"]).estimate.value == 0.0
  assert tuned.total(roles=("base", "verifier")).estimate.value == 1129.0
  assert tuned.total(roles=("verifier",)).estimate.value == 1009.0
  twice = Ledger("soup", [Parent(tuned), Parent(base)])
  assert twice.total().estimate.value == 121.0
  with pytest.raises(ValueError, match="lead back"):
    Ledger("base", [Parent(tuned)])


def test_phases_may_be_said_once():
  ledger = Ledger("run")
  with ledger.phase("rl_update"):
    with ledger.phase("rl_rollout"):
      ledger.add(flop=flop(1.0))
    entry = ledger.add(flop=flop(2.0))
  assert [e.phase for e in ledger.entries] == ["rl_rollout", "rl_update"]
  assert entry.day >= "2026"
  with pytest.raises(ValueError, match="no phase"):
    ledger.add(flop=flop(1.0))
  with pytest.raises(ValueError, match="did you mean 'pre_training'"):
    ledger.add("pretraining", flop=flop(1.0))


def test_a_meter_is_charged_to_a_ledger():
  ledger = Ledger("run")
  spent = costs.Cost(flops=6, joules=2.0, dollars=0.5, generated_tokens=3)
  entry = ledger.add_cost(spent, "inference", queries=2)
  assert entry.flop.value == 6 and entry.flop.is_exact
  assert entry.dollars.value == 0.5 and entry.seconds is None
  assert ledger.total(quantity="dollars").estimate.unit == "USD"
  assert ledger.total(quantity="carbon").entries == 0


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      dict(flop=estimate_lib.Estimate.exact(1, "FLOP/s", "peak")),
      "a rate is no amount",
    ),
    (dict(recomputed=9.0), "cannot be more"),
    (dict(padding=float("nan")), "padding must be finite"),
    (dict(queries=2), "0 in phase 'pre_training'"),
    (dict(day="31.1.2026"), "must be a date"),
    (dict(joules=estimate_lib.Estimate.exact(1, "s", "x")), "must be in J"),
  ],
)
def test_bad_entries_are_refused(change, message):
  with pytest.raises(ValueError, match=message):
    Ledger("run").add("pre_training", **({"flop": flop(1.0)} | change))


def test_other_bad_input_is_refused():
  for call, message in (
    (lambda: Ledger(" "), "needs a name"),
    (
      lambda: ledger_lib.Entry(id="a", phase="failed", flop=3.0, day=DAY),
      "must be an Estimate in FLOP",
    ),
    (lambda: Parent(Ledger("a"), "uncle"), "role must be one of"),
    (lambda: filled().total(quantity="tears"), "unknown quantity"),
    (lambda: filled().total(roles=("uncle",)), "unknown role"),
    (lambda: filled().total(["x"]), "unknown phase"),
    (lambda: ledger_lib.Entry.from_dict({"id": "a"}), "no entry of a ledger"),
  ):
    with pytest.raises(ValueError, match=message):
      call()


def test_files_keep_everything(tmp_path):
  base = ledger_file.create(tmp_path / "base.jsonl", "base")
  for entry in filled("base").entries:
    base.take(entry)
  path = tmp_path / "runs" / "tuned.jsonl"
  parents = [ledger_file.ParentFile(tmp_path / "base.jsonl")]
  tuned = ledger_file.create(path, "tuned", parents)
  tuned.add("fine_tuning", flop=flop(3.0, 1.5), note="here")
  tuned = ledger_file.resume(path)
  tuned.add("evaluation", flop=flop(4.0))
  base.add("evaluation", flop=flop(1.0))  # a parent may go on
  again = ledger_file.load(path)
  assert again.entries == tuned.entries
  assert [p.ledger.entries for p in again.parents] == [base.entries]
  assert again.total().estimate == tuned.total().estimate
  copy = tmp_path / "copy.jsonl"
  ledger_file.save(
    again, copy, [ledger_file.ParentFile(tmp_path / "base.jsonl")]
  )
  assert ledger_file.load(copy).entries == tuned.entries
  with pytest.raises(ValueError, match="the files given are of"):
    ledger_file.save(again, tmp_path / "other.jsonl")


def test_a_torn_line_is_cut_off_and_written_again(tmp_path):
  path = tmp_path / "run.jsonl"
  ledger_file.create(path, "run").add("curation", flop=flop(1.0), day=DAY)
  whole = path.read_bytes()
  path.write_bytes(whole + b'{"entry": {"id"')
  assert len(ledger_file.load(path).entries) == 1
  ledger_file.resume(path).add("curation", flop=flop(2.0), day=DAY)
  assert path.read_bytes().startswith(whole)
  assert ledger_file.load(path).total().estimate.value == 3.0


def _edited(lines, number, change):
  row = json.loads(lines[number])
  change(row)
  return [*lines[:number], json.dumps(row), *lines[number + 1 :]]


@pytest.mark.parametrize(
  "tamper",
  [
    lambda lines: _edited(
      lines, 2, lambda row: row["entry"]["flop"].update(value=19.0, low=19.0)
    ),
    lambda lines: _edited(lines, 2, lambda row: row.update(hash="0" * 64)),
    lambda lines: [*lines[:2], *lines[3:]],
    lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    lambda lines: [*lines, lines[1]],
  ],
)
def test_tampering_shows(tamper, tmp_path):
  path = tmp_path / "run.jsonl"
  ledger = ledger_file.create(path, "run")
  for entry in filled("run").entries:
    ledger.take(entry)
  path.write_text("\n".join(tamper(path.read_text().splitlines())) + "\n")
  with pytest.raises(ValueError, match=r"run.jsonl, line \d: the hash"):
    ledger_file.load(path)


def test_heads_and_keys_catch_what_chains_cannot(tmp_path):
  path = tmp_path / "run.jsonl"
  ledger = ledger_file.create(path, "run", key=b"secret")
  ledger.add("curation", flop=flop(1.0), day=DAY)
  before = ledger_file.head(path)
  ledger.add("curation", flop=flop(2.0), day=DAY)
  head = ledger_file.head(path)
  assert ledger_file.load(path, key=b"secret", expected_head=before)
  with pytest.raises(ValueError, match="line 1: the hash does not fit"):
    ledger_file.load(path)
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(lines[:-1]))
  with pytest.raises(ValueError, match="taken off its end"):
    ledger_file.load(path, key=b"secret", expected_head=head)


def test_bad_files_are_named(tmp_path):
  path = tmp_path / "run.jsonl"
  with pytest.raises(ValueError, match="No such file"):
    ledger_file.load(path)
  for text, message in (
    ("", "no line of a ledger"),
    ("hello\n", "line 1: expected a JSON object with a hash"),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      ledger_file.load(path)
  with pytest.raises(ValueError, match="exists"):
    ledger_file.create(path, "run")
  with pytest.raises(ValueError, match="no file of a ledger"):
    ledger_file.head(path)
  base = ledger_file.create(tmp_path / "base.jsonl", "base")
  base.add("curation", flop=flop(1.0))
  child = tmp_path / "child.jsonl"
  ledger_file.create(
    child, "child", [ledger_file.ParentFile(tmp_path / "base.jsonl")]
  )
  (tmp_path / "base.jsonl").unlink()
  ledger_file.create(tmp_path / "base.jsonl", "base")
  with pytest.raises(ValueError, match="line 1: .*base.jsonl: no line has"):
    ledger_file.load(child)
