# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import json

import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import scripted_engine
from jaxttc.runtime import driver
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import decoder_traces
from jaxttc.testing import tiny_models

SETTINGS = settings_lib.SearchSettings(step_tokens=8, max_tokens=24)
PROMPTS = [f"Solve {i} + {3 * i} .\n" for i in range(5)]
NAMES = [f"problem {i}" for i in range(5)]
DECODERS = {
  "greedy": {},
  "best_of_n": {"n": 4},
  "prm_beam": {"num_survivors": 2, "num_expansions": 2, "max_steps": 4},
  "astar": {"children": 2, "nodes": 24, "max_steps": 4},
}


@functools.lru_cache
def _decoder(name):
  return decoders.make(name, DECODERS[name])


def _script(prefix, seed):
  rng = np.random.default_rng(seed)
  if prefix.count("\n") < 3:
    return "so " * rng.integers(1, 5) + f"{rng.integers(10)}\n"
  return f"#### {rng.integers(3)}\n"


def _scripted():
  return (
    scripted_engine.ScriptedEngine(_script, groups=3, per_step=2),
    scripted_engine.ScriptedVerifier(
      lambda t: len(t) * 37 % 101 / 101, groups=3
    ),
  )


def _record(name, engines=None, budget=None):
  return list(
    decoder_traces.record(
      *(engines or _scripted()),
      _decoder(name),
      PROMPTS,
      NAMES,
      budget=budget or budget_lib.Budget(),
      settings=SETTINGS,
    )
  )


def _counts(cost):
  return {name: getattr(cost, name) for name in costs.COUNTS}


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
  "budget", [{}, {"generated_tokens": 11}, {"prompt_tokens": 7}]
)
def test_recorded_tokens_are_the_cost_of_the_search(name, budget):
  pairs = _record(name, budget=budget_lib.Budget(**budget))
  assert sorted(result.problem for result, _ in pairs) == list(range(5))
  for result, record in pairs:
    assert record.problem == NAMES[result.problem]
    assert _counts(record.cost()) == _counts(result.cost)


def test_recorded_tokens_of_models_are_the_cost_of_the_search():
  models = tiny_models.tiny_bundles(0)
  engines = driver.local_engines(
    *models, _decoder("prm_beam"), SETTINGS, slots=3
  )
  for result, record in _record("prm_beam", engines):
    assert _counts(record.cost()) == _counts(result.cost)
    assert record.cost().verifier_tokens > 0


def test_recording_does_not_change_the_search():
  alone = driver.drive(
    *_scripted(),
    _decoder("astar"),
    PROMPTS,
    NAMES,
    budget=budget_lib.Budget(),
    settings=SETTINGS,
  )
  recorded = {r.problem: r for r, _ in _record("astar")}
  for result in alone:
    assert recorded[result.problem].completion == result.completion
    assert recorded[result.problem].rounds == result.rounds


def test_rounds_and_contexts_follow_the_tree():
  for result, record in _record("prm_beam"):
    rounds = [call.round for call in record.calls]
    assert rounds == sorted(rounds) and max(rounds) < result.rounds
    first, *others = record.calls
    assert first.kind == decoder_traces.READ
    ends = {first.length}
    for round_ in range(max(rounds) + 1):
      mine = [c for c in others if c.round == round_]
      assert all(call.context in ends for call in mine)
      sampled = [c for c in mine if c.kind == decoder_traces.SAMPLE]
      ends |= {c.context + c.length for c in sampled}


class _Billing(scripted_engine.ScriptedEngine):
  """Charges each request its whole prefix, half of it cached."""

  def step(self):
    bill = costs.Cost(prompt_tokens=6, cached_tokens=3, generated_tokens=1)
    return [
      dataclasses.replace(got, bill=engine_lib.Bill(spent=bill))
      for got in super().step()
    ]


def test_bills_are_recorded_in_place_of_tariffs():
  engine = _Billing(_script, groups=3)
  for result, record in _record("best_of_n", (engine, _scripted()[1])):
    assert _counts(record.cost()) == _counts(result.cost)
    assert record.cost().cached_tokens == 12


def test_files_give_records_back(tmp_path):
  records = [record for _, record in _record("best_of_n")]
  path = tmp_path / "a" / "traces.jsonl"
  decoder_traces.save(path, {"decoder": "best_of_n"}, records)
  about, found = decoder_traces.read(path)
  assert about == {"decoder": "best_of_n"} and found == records


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda row: row.pop("calls"), "row 2: no field calls"),
    (lambda row: row.update(solved="yes"), "row 2, field solved: 'yes'"),
    (lambda row: row["calls"][1].__setitem__(0, "think"), "column kind: 'thi"),
    (
      lambda row: row["calls"][1].__setitem__(3, -4),
      "call 1, column length: -4",
    ),
    (lambda row: row["calls"][0].pop(), "row 2, call 0: expected 9 columns"),
    (
      lambda row: row["calls"][0].__setitem__(5, 99),
      "column cached_tokens: 99",
    ),
  ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, change, message):
  path = tmp_path / "traces.jsonl"
  decoder_traces.save(path, {}, [_record("greedy")[0][1]])
  head, line = path.read_text().splitlines()
  row = json.loads(line)
  change(row)
  path.write_text(head + "\n" + json.dumps(row) + "\n")
  with pytest.raises(ValueError, match=message) as caught:
    decoder_traces.read(path)
  assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match="cannot be read"):
    decoder_traces.read(tmp_path / "none.jsonl")
  (tmp_path / "a.jsonl").write_text("{}\n")
  with pytest.raises(ValueError, match="row 1: no header"):
    decoder_traces.read(tmp_path / "a.jsonl")
  (tmp_path / "b.jsonl").write_text("[1\n")
  with pytest.raises(ValueError, match="row 1: not JSON"):
    decoder_traces.read(tmp_path / "b.jsonl")
