# SPDX-License-Identifier: Apache-2.0
"""The study of decoders in the machine room, small and whole."""

import csv
import itertools
import pathlib

import pytest

from jaxttc import results as results_lib
from jaxttc import simulation
from jaxttc.simulation.clusters import machines, performance
from jaxttc.solving import comparing, decoder_traces, problem_sets, solve_recipe
from jaxttc.studies import loop_study

SPEC = machines.MachineSpec(
  name="one",
  performance=performance.LinearPerformance(
    0.05, 1e-4, performance.Decode(0.03, 1e-4, 1e-7)
  ),
  kv_capacity_bytes=5e11,
  idle_w=1000.0,
  prompt_w=5000.0,
  decode_w=3000.0,
  provisioned=10.0,
  cost_per_h=4.0,
)


def _records(method, count=6):
  """A chain of 20 tokens, or two scored rounds of two spans."""
  call = decoder_traces.Call
  calls = [call("read", 0, 0, 30, 30, 0, 0, 30, 0)]
  if method.label == "chain":
    calls.append(call("sample", 0, 30, 20, 0, 0, 20, 0, 0))
  else:
    for turn in range(2):
      context = 30 + 6 * turn
      calls += [call("sample", turn, context, 6, 0, 0, 6, 0, 0)] * 2
      calls += [call("score", turn, context, 6, 0, 0, 0, 6, 1)] * 2
  return [
    decoder_traces.Record(f"problem {i}", 30, i % 2 == 0, tuple(calls))
    for i in range(count)
  ]


def _table(path):
  """A table in splitwise-sim's layout, of a line for each machine."""
  with path.open("w", encoding="utf-8", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(performance._COLUMNS)
    for (name, slow), size, batch, tokens in itertools.product(
      (("a100-80gb", 2.0), ("h100-80gb", 1.0), ("h100-80gb-pcap", 1.1)),
      (128, 1024, 4096),
      (1, 8),
      (32, 256),
    ):
      prompt_ms = slow * (30 + 0.05 * size * batch)
      token_ms = slow * (25 + 0.3 * batch + 1e-4 * batch * (size + tokens / 2))
      rows.writerow(
        ["llama2-70b", name, 8, size, batch, tokens, prompt_ms, token_ms]
      )
  return str(path)


@pytest.fixture
def recipe(tmp_path, monkeypatch):
  """Two decoders whose records are made up, on a made-up table."""
  monkeypatch.setattr(
    loop_study.LoopRecipe, "_record", lambda self, method: _records(method)
  )
  return loop_study.LoopRecipe(
    problems=problem_sets.ProblemSource(count=6, steps=(4,), style="terse"),
    methods=(
      comparing.MethodSpec(label="chain", decoder="greedy"),
      comparing.MethodSpec(label="rounds", decoder="rebase(width=2)"),
    ),
    sampling=solve_recipe.SamplingOptions(),
    workdir=str(tmp_path / "work"),
    table=_table(tmp_path / "table.csv"),
    rate_per_s=2.0,
    sizes=(1, 2),
    requests=200,
    seeds=(0,),
    servers=4,
    most=6,
    row_s=60.0,
  )


@pytest.mark.slow
def test_small_study_becomes_files(recipe, tmp_path):
  pytest.importorskip("matplotlib")
  files = simulation.write(recipe.run(), tmp_path / "loop")
  found = results_lib.read(files[0])
  claims = {claim.name: claim for claim in found.claims}
  assert claims["decoders_compared"].value == 2
  assert claims["accuracy_chain"].value == 0.5
  assert pathlib.Path(files[1]).stat().st_size > 10_000
  # Three clusters, with prefixes shared and not, for each decoder.
  assert len(found.data["served"]) == 2 * 2 * 3
  for row in found.data["power"]:
    assert 4 <= row["servers"] <= 6 and len(row["series"]) == 120
  by_name = {row["decoder"]: row for row in found.data["decoders"]}
  assert by_name["chain"]["rounds"] == 1 and by_name["rounds"]["rounds"] == 2
  assert by_name["rounds"]["verifier_tokens"] == 30 + 4 * 6
  # Sharing saves nothing where there is one request a problem.
  assert claims["sharing_saves_chain"].value == pytest.approx(0.0)
  assert claims["sharing_saves_rounds"].value > -0.05


def test_recorded_traces_are_kept_and_never_mistaken(recipe, monkeypatch):
  method = recipe.methods[1]
  made = recipe.recorded(method)

  def again(self, method):
    raise AssertionError("recorded twice")

  monkeypatch.setattr(loop_study.LoopRecipe, "_record", again)
  assert recipe.recorded(method) == made
  recipe.budget = "generated_tokens=5"
  with pytest.raises(ValueError, match="recorded with another budget; remove"):
    recipe.recorded(method)


def test_clusters_are_of_the_sizes_asked_for():
  made = loop_study.room_clusters(SPEC, (1, 4))
  assert [len(cluster.machines) for cluster in made] == [1, 4, 4, 4, 4]
  assert [cluster.name for cluster in made[2:]] == [
    "1 prompt, 3 token",
    "2 prompt, 2 token",
    "3 prompt, 1 token",
  ]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"methods": ()}, "must be distinct, some"),
    ({"seeds": ()}, "expected a seed, and sizes above 0"),
    ({"sizes": (0, 1)}, "expected a seed, and sizes above 0"),
    ({"table": "nowhere.csv"}, "nowhere.csv: no such file"),
  ],
)
def test_refuses_recipes_that_cannot_be(recipe, change, message):
  for name, value in change.items():
    setattr(recipe, name, value)
  with pytest.raises(ValueError, match=message):
    recipe.run()
