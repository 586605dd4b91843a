# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import cost_record, window
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib

H100 = hardware_lib.lookup("h100-sxm")


class Scripted:
  """A counter that has given out so many joules at each reading."""

  name = "scripted"

  def __init__(self, *readings):
    self.readings = list(readings)

  def read(self):
    return {"all": self.readings.pop(0)}

  def ranges(self):
    return {"all": 100.0}


def test_a_window_tells_what_it_knows_and_how():
  square = jax.jit(lambda x: x @ x)
  with window.Window("squares", counters=[Scripted(90.0, 15.0)]) as w:
    for _ in range(3):
      square(jnp.ones((17, 17))).block_until_ready()
      w.step(tokens_in=5, tokens_out=2, examples=1, flop=2 * 17**3)
  record = w.record()
  assert record["joules"].value == 25.0
  assert record["joules"].provenance == "measured"
  assert record["tokens_out"].value == 6 and record["examples"].value == 3
  assert record["flop"].value == 6 * 17**3
  assert record["compile_seconds"].value > 0 < record["seconds"].value
  assert record.per("joules", "tokens_out") == pytest.approx(25 / 6)
  assert record["peak_bytes"].value > 0


def test_energy_is_modelled_where_nothing_counts_it():
  with window.Window("idle", hardware=H100, counters=()) as w:
    w.step(flop=1e6)
  record = w.record()
  assert record["joules"].provenance == "modelled"
  assert record["dollars"].value > 0
  assert record["marginal_joules"].value < record["joules"].value
  with window.Window("nothing", counters=()) as bare:
    pass
  assert "joules" not in bare.record().figures
  with pytest.raises(ValueError, match="has no 'joules'; it has seconds"):
    bare.record()["joules"]


def test_windows_nest_in_order():
  outer = window.Window("outer", counters=())
  inner = window.Window("inner", counters=())
  with outer:
    with inner:
      pass
  assert outer.record()["seconds"].value >= inner.record()["seconds"].value
  with pytest.raises(ValueError, match="'outer' is closed; open it once"):
    outer.__enter__()
  with pytest.raises(ValueError, match="'outer' is closed; close it once"):
    outer.__exit__(None, None, None)
  one, two = (window.Window(name, counters=()) for name in ("one", "two"))
  one.__enter__()
  two.__enter__()
  with pytest.raises(ValueError, match="'one' closes before 'two'"):
    one.__exit__(None, None, None)
  two.__exit__(None, None, None)
  one.__exit__(None, None, None)
  with pytest.raises(ValueError, match="'new' is new; close it first"):
    window.Window("new").record()
  with pytest.raises(ValueError, match="is closed; steps need it"):
    one.step()


def test_budgets_end_a_run_at_the_edge_of_a_step():
  budget = budget_lib.Budget(generated_tokens=10)
  with window.Window("short", counters=(), budget=budget) as w:
    w.step(tokens_out=8)
    with pytest.raises(budget_lib.BudgetExceeded, match="generated_tokens"):
      w.step(tokens_out=3)
  joules = budget_lib.Budget(joules=5.0)
  with window.Window(
    "hot", counters=[Scripted(0.0, 3.0, 6.0, 7.0)], budget=joules
  ) as w:
    w.step()
    with pytest.raises(budget_lib.BudgetExceeded) as caught:
      w.step()
  assert caught.value.field == "joules"
  with window.Window(
    "slow", counters=(), budget=budget_lib.Budget(seconds=0.0)
  ) as w:
    with pytest.raises(budget_lib.BudgetExceeded, match="seconds"):
      w.step()
  with window.Window("negative", counters=()) as w:
    with pytest.raises(ValueError, match="nothing negative"):
      w.step(tokens_in=-1)


def test_windows_fill_a_ledger_unless_they_fail():
  ledger = ledger_lib.Ledger("run")

  @window.Window(
    "work", counters=(), hardware=H100, ledger=ledger, phase="curation"
  )
  def work(x):
    return x + 1

  assert work(1) == 2 and work(2) == 3
  assert [e.phase for e in ledger.entries] == ["curation", "curation"]
  assert ledger.total(quantity="joules").estimate.value > 0
  with pytest.raises(ZeroDivisionError):
    with window.Window("bad", counters=(), ledger=ledger, phase="curation"):
      1 / 0  # noqa: B018
  assert len(ledger.entries) == 2


def record(name, seconds, stored=8.0, machine="box"):
  exact = estimate_lib.Estimate.exact
  return cost_record.CostRecord(
    name=name,
    machine=machine,
    figures={
      "seconds": exact(seconds, "s", "clock", "measured"),
      "stored_bytes": exact(stored, "B", "file", "measured"),
      "tokens_out": exact(4, "token", "count"),
    },
  )


def test_records_add_scale_and_divide():
  both = record("a", 2.0, 8.0) + record("b", 3.0, 6.0)
  assert both["seconds"].value == 5.0 and both["stored_bytes"].value == 8.0
  assert both.per("seconds", "tokens_out") == 5.0 / 8
  twice = record("a", 2.0).scaled(2)
  assert twice["seconds"].value == 4.0 and twice["stored_bytes"].value == 8.0
  a, b = record("a", 2.0), record("b", 5.0, 4.0)
  up, down = cost_record.speed_up(a, b), cost_record.speed_up(b, a)
  assert up * down == pytest.approx(1.0)
  assert cost_record.compression(a, a) == 1.0
  assert cost_record.compression(a, b) == 2.0
  back = cost_record.CostRecord.from_dict(json.loads(json.dumps(a.as_dict())))
  assert back == a
  lines = a.as_csv().splitlines()
  assert lines[1] == "a,box,seconds,2.0,2.0,2.0,s,measured,clock"
  assert len(lines) == 4


def test_records_that_do_not_fit_are_refused():
  a = record("a", 2.0)
  for call, message in (
    (lambda: a + record("b", 1.0, machine="other"), "cannot add 'b' on other"),
    (
      lambda: a + dataclasses.replace(a, figures={}),
      "only one of two records has 'seconds'",
    ),
    (
      lambda: dataclasses.replace(a, figures={"speed": a["seconds"]}),
      "unknown figure 'speed'",
    ),
    (
      lambda: dataclasses.replace(a, figures={"joules": a["seconds"]}),
      "must be in J, got s",
    ),
    (
      lambda: cost_record.speed_up(a, record("b", 1.0, machine="other")),
      "cannot compare",
    ),
    (lambda: cost_record.speed_up(a, record("b", 0.0)), "took no time"),
    (lambda: cost_record.compression(a, record("b", 1.0, 0.0)), "need stored"),
    (lambda: cost_record.CostRecord.from_dict({"schema": 9}), "schema 9"),
    (lambda: cost_record.CostRecord.from_dict({"schema": 1}), "no record"),
    (lambda: record("a", 1.0).per("seconds", "flop"), "has no 'flop'"),
  ):
    with pytest.raises(ValueError, match=message):
      call()
