# SPDX-License-Identifier: Apache-2.0
"""The benchmarks measure what they say; how fast, they say themselves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
  accelerator,
  decoding,
  endpoint_faults,
  server_load,
  sharding,
  slimmable_speed,
  slot_refill,
  timing,
  tree_reuse,
  width_requests,
)
from jaxttc import serving
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, transformer_flops
from jaxttc.cost import hardware as hardware_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.runtime import search as search_lib
from jaxttc.testing import fault_server, tiny_models

_TINY = config_lib.TransformerConfig(
  vocab_size=97,
  width=32,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=8,
  mlp_width=48,
)


def _params():
  return transformer.init(jax.random.key(0), transformer.Transformer(_TINY))


def test_ratio_is_of_the_least_times_and_spans_the_turns():
  ratio = timing.ratio({"slow": [4.0, 6.0], "fast": [2.0, 1.0]}, "slow", "fast")
  assert ratio == {"value": 4.0, "low": 2.0, "high": 6.0}


def test_turns_interleave_after_one_untimed_turn_each():
  ran = []
  seconds = timing.by_turns(
    {"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, repeats=2
  )
  assert ran == ["a", "b"] * 3
  assert {name: len(times) for name, times in seconds.items()} == {
    "a": 2,
    "b": 2,
  }


def test_no_turns_are_refused():
  with pytest.raises(ValueError, match="repeats is 0"):
    timing.by_turns({}, repeats=0)


def test_compilations_are_counted_once_a_program():
  double = jax.jit(lambda x: 2 * x)
  x = jnp.ones(3)
  with timing.counting_compilations() as first:
    jax.block_until_ready(double(x))
  with timing.counting_compilations() as second:
    jax.block_until_ready(double(x))
  assert (first.count, second.count) == (1, 0)


def test_generator_writes_what_a_full_forward_pass_would():
  params, model = _params(), transformer.Transformer(_TINY)
  prompts = decoding.random_prompts(_TINY.vocab_size, 2, 16, seed=1)
  run = decoding.generator(_TINY, new_tokens=6)
  written = run(params, jnp.asarray(prompts), jax.random.key(0))[:, 0]
  text = np.concatenate([prompts, np.asarray(written)], axis=1)
  positions = np.broadcast_to(np.arange(22, dtype=np.int32), text.shape)
  logits = transformer.forward(
    model,
    params,
    jnp.asarray(text),
    jnp.ones(text.shape, jnp.int32),
    jnp.asarray(positions),
  )
  best = np.asarray(logits)[:, 15:-1].argmax(-1)
  np.testing.assert_array_equal(written, best)


def test_peer_computes_the_same_logits_and_tokens():
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from benchmarks import llama_peer

  params = _params()
  peer = llama_peer.llama(_TINY, params)
  assert decoding.check_logits(_TINY, params, peer, seed=2) < 1e-4
  prompts = decoding.random_prompts(_TINY.vocab_size, 2, 16, seed=3)
  run = decoding.generator(_TINY, new_tokens=5)
  ours = np.asarray(run(params, jnp.asarray(prompts), jax.random.key(0)))
  theirs = llama_peer.generate(peer, prompts, 5)
  np.testing.assert_array_equal(ours[:, 0], theirs)


def test_tree_cache_and_recomputing_choose_the_same_texts():
  sizes = tree_reuse.BeamSizes(
    problems=2,
    prompt_tokens=16,
    survivors=2,
    children=2,
    step_tokens=3,
    depth=3,
  )
  params = _params()
  verifier = tree_reuse.reward_params(params, _TINY.width, seed=0)
  searches = tree_reuse.Searches(_TINY, sizes)
  prompts = jnp.asarray(decoding.random_prompts(97, 2, 16, seed=4))
  given = (params, verifier, prompts, jax.random.key(5))
  times, text = searches.remembered(*given)
  again, same = searches.recomputed(*given)
  np.testing.assert_array_equal(text, same)
  assert len(times) == len(again) == 3
  assert text.shape == (2, 2, 25)


def test_refilled_slots_write_what_static_batches_do():
  policy = tiny_models.tiny_bundles(0)[0]
  load = slot_refill.lognormal(policy.config.vocab_size, 5, 0, prompt_tokens=8)
  load.limits[:] = [9, 2, 5, 1, 7]
  server = slot_refill.engine(policy, slots=2, steps=4)
  static = slot_refill.serve_static(server, load)
  refilled = slot_refill.serve_refilling(server, load)
  assert static == refilled
  assert [len(tokens) for tokens in refilled] == [9, 2, 5, 1, 7]
  assert isinstance(server, engine_lib.Engine)


def test_server_load_counts_what_is_lost_and_what_is_mixed_up():
  policy = tiny_models.tiny_bundles(0)[0]
  recipe = serving.ServeRecipe(
    name="arithmetic_lm", decoder="greedy", slots=3, warm_tokens=0
  )
  asks = [
    body | {"max_tokens": 6} for body in server_load.bodies(count=6, seed=0)
  ]
  load = server_load.drive(serving.Service(recipe, policy, None), asks, turns=1)
  assert server_load.lost(load) == server_load.crosstalk(load) == 0
  assert len(load.together) == len(load.seconds["alone"]) == 1
  assert 6 <= load.tokens <= 36
  swapped = [load.together[0][::-1]]
  mixed = dataclasses.replace(load, together=swapped)
  assert server_load.crosstalk(mixed) > 0
  cut = [[(0, ""), *load.together[0][1:]]]
  assert server_load.lost(dataclasses.replace(load, together=cut)) == 1


def test_meters_agree_with_the_books_of_a_faulty_server():
  (row,) = endpoint_faults.run(
    problems=4, rate=0.4, seed=1, names=["best_of_n"], faults=["all"]
  )
  assert row["struck"] > 5 and row["problems"] == 4
  for name in ("lost", "changed", "overspends", "double_counted", "uncounted"):
    assert row[name] == 0, row
  found = endpoint_faults.claims([row])
  assert all(claim.holds is not False for claim in found)


@pytest.mark.parametrize(
  ("change", "wrong"),
  [
    ({}, {}),
    ({"stop": "engine: 500"}, {"lost": 1}),
    ({"completion": "other"}, {"changed": 1}),
    ({"cost": costs.Cost(generated_tokens=12)}, {"double_counted": 2}),
    ({"cost": costs.Cost(generated_tokens=9)}, {"uncounted": 2}),
    ({"assumed": costs.Cost(generated_tokens=3)}, {"uncounted": 3}),
    (None, {"lost": 1}),
  ],
)
def test_disagreements_with_the_books_are_seen(change, wrong):
  with fault_server.FaultServer() as server:
    pass  # only its books are of interest
  (prompt,) = endpoint_faults.prompts(1)
  server.ledger(prompt).generated = server.ledger(prompt).told = 10
  good = search_lib.SearchResult(
    problem=0,
    completion="same",
    cost=costs.Cost(generated_tokens=10),
    stop="done",
    rounds=1,
    tree=None,
  )
  found = {} if change is None else {0: dataclasses.replace(good, **change)}
  free, tight = budget_lib.Budget(), budget_lib.Budget(generated_tokens=8)
  row = endpoint_faults.compared(found, {0: good}, server, [free])
  names = ("lost", "changed", "overspends", "double_counted", "uncounted")
  assert {k: row[k] for k in names if row[k]} == wrong
  if change == {}:  # by the meter, and by the books
    row = endpoint_faults.compared(found, {0: good}, server, [tight])
    assert row["overspends"] == 2


def test_accelerator_measures_every_batch_of_the_tiny_shape(capsys):
  hardware = hardware_lib.lookup("cpu-core-avx2")
  sizes = {"prompt": 8, "new": 4}
  rows = accelerator.measure(
    {"tiny": _TINY},
    hardware,
    jnp.float32,
    batches=(1, 3),
    turns=1,
    limit_s=600.0,
    **sizes,
  )
  assert [row["batch"] for row in rows] == [1, 3]
  for row in rows:
    assert row["share"] == pytest.approx(row["floor_s"] / row["step_s"])
    assert row["step_s"] > 0 and row["prefill_s"] > 0
    assert row["plain_s"] > 0 and row["fused_s"] > 0
    assert 0 <= row["apart"] < 1e-4 and row["fused_by"] == "xla"
    # By hand: every weight once, and each row's keys and values.
    values = 2 * 2 * 2 * 8 * (8 + 4 // 2 + 1) * row["batch"]
    blocks = 2 * (32 * 2 * 4 * 8 + 4 * 8 * 32 + 3 * 32 * 48)
    moved = 4 * (97 * 32 + blocks + values)
    assert row["floor_s"] >= moved / hardware.bandwidth_bytes_per_s
  assert "'batch': 3" in capsys.readouterr().out
  names = [claim.name for claim in accelerator.claims(rows)]
  assert names[:2] == ["roofline_tiny_b1", "attention_apart_tiny_b1"]


def test_accelerator_begins_nothing_after_its_limit(capsys):
  hardware = hardware_lib.lookup("cpu-core-avx2")
  rows = accelerator.measure(
    {"tiny": _TINY},
    hardware,
    jnp.float32,
    batches=(1,),
    prompt=8,
    new=4,
    turns=1,
    limit_s=-1.0,
  )
  assert not rows and "not begun" in capsys.readouterr().out


def test_accelerator_shapes_have_the_parameters_of_their_names():
  count = {
    name: transformer_flops.parameters(config.shape())
    for name, config in accelerator.SHAPES.items()
  }
  assert count["1b"] == pytest.approx(1.236e9, rel=1e-3)
  assert count["8b"] == pytest.approx(8.030e9, rel=1e-3)


def test_one_sequence_that_differs_misses_the_bar():
  row = {"sequences": 32, "equal_tokens": 32}
  spanning = {"problems": 4, "equal_answers": 4, "files": 1}
  held = sharding.claims([row, row], spanning)
  assert [claim.holds for claim in held] == [True] * 3
  missed = sharding.claims(
    [row, row | {"equal_tokens": 31}],
    spanning | {"equal_answers": 3, "files": 2},
  )
  assert [claim.holds for claim in missed] == [False] * 3
  assert missed[0].value == 63 / 64 and missed[1].value == 3 / 4


def test_slimmable_peer_agrees_and_every_figure_is_claimed():
  pytest.importorskip("torch")
  data, claims = slimmable_speed.run(
    slimmable_speed.TINY, batch=2, turns=1, requests=5
  )
  assert data["speed"]["largest_difference"] < 1e-5
  shares = data["speed"]["shares"]
  assert shares["full"] == 1
  assert shares["quarter"] == pytest.approx(0.25, abs=0.05)
  assert shares["below"] <= 0.25
  assert {claim.name: claim.holds for claim in claims}["compiles_on_hot_path"]
  assert len(data["switching"]["added_ms"]) == 8


def test_random_plans_compile_nothing_and_switches_are_counted():
  served = slimmable_speed.Served(slimmable_speed.TINY, batch=1)
  found = slimmable_speed.serving(served, requests=12)
  assert found["compilations"] == 0 and found["requests"] == 12
  assert served.compiled.counters.compiled == found["programs"]
  assert served.compiled.counters.served >= 12


def test_mixed_requests_keep_their_budgets_and_compile_nothing():
  data, claims = width_requests.run(
    slimmable_speed.TINY, count=6, turns=1, batches=2
  )
  held = {claim.name: claim.holds for claim in claims}
  assert held["compilations_once_warm"] and held["requests_over_budget"]
  assert held["largest_difference_to_one_by_one"]
  assert data["speed"]["requests"] == 6 and data["serving"]["batches"] == 2
  assert data["speed"]["mean_share_of_macs"] <= data["speed"]["mean_budget"]


def test_claims_of_mixed_requests_are_ratios_of_medians():
  found = {
    "seconds": {
      "grouped": [1.0, 2.0, 3.0],
      "one_by_one": [4.0, 4.0, 6.0],
      "widest": [1.0, 1.0, 1.0],
    },
    "over_budget": 1,
    "largest_difference": 0.0,
  }
  claims = {
    claim.name: claim
    for claim in width_requests.claims(found, {"compilations": 0})
  }
  first = claims["grouped_over_one_by_one"]
  assert (first.value, first.low, first.high) == (2.0, 2.0, 4.0)
  assert claims["grouped_over_widest"].holds is False
  assert claims["requests_over_budget"].holds is False
  assert claims["compilations_once_warm"].holds is True


def test_slimmable_claims_are_ratios_of_medians():
  seconds = {
    "ours_full": [3.0, 5.0, 4.0],
    "ours_quarter": [1.0, 1.0, 2.0],
    "ours_below": [2.0, 2.0, 2.0],
  }
  for layout, factor in (("channels_first", 2.0), ("channels_last", 0.5)):
    for name in ("full", "quarter", "below"):
      ours = seconds[f"ours_{name}"]
      seconds[f"torch_{layout}_{name}"] = [factor * x for x in ours]
  claims = slimmable_speed.claims(
    {"seconds": seconds, "largest_difference": 2e-4},
    {"added_ms": [-0.5, 0.2, 3.0], "look_up_ms": [0.1, 0.1, 0.2]},
    {"compilations": 1},
  )
  found = {claim.name: claim for claim in claims}
  speedup = found["speedup_at_quarter_flops"]
  assert (speedup.value, speedup.low, speedup.high) == (4.0, 2.0, 5.0)
  assert found["speedup_just_below_quarter_flops"].value == 2.0
  assert found["switch_ms"].value == pytest.approx(0.3)
  assert found["throughput_over_torch"].value == 2.0
  assert found["throughput_over_torch_channels_last"].value == 0.5
  assert found["compiles_on_hot_path"].holds is False
  assert found["largest_difference_to_torch"].holds is False
