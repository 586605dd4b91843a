# SPDX-License-Identifier: Apache-2.0
"""Tests of how the training benchmarks count what they saw."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import training_faults
from jaxttc.models import config as config_lib
from jaxttc.models import transformer
from jaxttc.training import language_model, packing


def _run(folder, steps, model=b"same", change=None):
  folder.mkdir()
  records = [{"step": step, "loss": 1.0 / step} for step in steps]
  if change is not None:
    records[change]["loss"] += 1e-9
  text = "".join(json.dumps(record) + "\n" for record in records)
  (folder / "metrics.jsonl").write_text(text)
  (folder / "model.safetensors").write_bytes(model)
  return folder


@pytest.mark.parametrize(
  ("steps", "options", "expected"),
  [
    ([1, 2, 3, 4], {}, (0, 0, 0, 0)),
    ([1, 2, 4], {}, (1, 0, 2, 0)),
    ([1, 2, 2, 3, 4], {}, (0, 1, 3, 0)),
    ([1, 2, 3, 4], {"change": 2}, (0, 0, 1, 0)),
    ([1, 2, 3, 4], {"model": b"other"}, (0, 0, 0, 1)),
  ],
)
def test_what_a_kill_changes_is_counted(tmp_path, steps, options, expected):
  calm = _run(tmp_path / "calm", [1, 2, 3, 4])
  killed = _run(tmp_path / "killed", steps, **options)
  found = training_faults.compared(calm, killed, 4)
  names = ("lost", "repeated", "different_records", "different_models")
  assert tuple(found[name] for name in names) == expected


def test_a_torn_line_is_no_record(tmp_path):
  folder = _run(tmp_path / "run", [1, 2])
  with (folder / "metrics.jsonl").open("a") as file:
    file.write('{"step": 3, "lo')
  assert training_faults._recorded(folder) == 2
  assert training_faults._recorded(tmp_path / "none") == 0


def test_claims_are_of_the_largest_differences():
  row = {"cut_short": True, "steps_again": 3}
  after = dict.fromkeys(
    ("lost", "repeated", "different_records", "different_models"), 0
  )
  losses = {
    "one": {"loss": [1.0, 2.0], "held_out_loss": [3.0]},
    "eight": {"loss": [1.0, 2.5], "held_out_loss": [3.0]},
    "two": {"loss": [0.9, 2.0], "held_out_loss": [3.25]},
  }
  claims = training_faults.claims([row] * 20, after, losses)
  found = {claim.name: (claim.value, claim.holds) for claim in claims}
  assert found["kills"] == (20, True)
  assert found["lost_or_repeated_steps"] == (0, True)
  assert found["sharded_loss_difference"] == (0.5, False)
  assert found["sharded_evaluation_difference"] == (0.25, False)


def test_the_rival_in_torch_has_the_same_loss():
  pytest.importorskip("torch", reason="extra `bench` not installed")
  from benchmarks import torch_transformer

  config = config_lib.TransformerConfig(
    vocab_size=29,
    width=16,
    layers=2,
    heads=2,
    kv_heads=2,
    head_dim=8,
    mlp_width=24,
  )
  model = transformer.Transformer(config)
  params = transformer.init(jax.random.key(0), model)
  text = np.random.default_rng(0).integers(1, 29, (2, 9), dtype=np.int32)
  tokens, targets = text[:, :-1].copy(), text[:, 1:].copy()
  ones = np.ones(tokens.shape, np.float32)
  batch = packing.Packed(
    tokens=tokens,
    segments=ones.astype(np.int32),
    positions=np.broadcast_to(np.arange(8, dtype=np.int32), tokens.shape),
    targets=targets,
    weights=ones,
    labels=-ones,
  )
  batch = jax.tree.map(jnp.asarray, batch)
  ours, _ = language_model.objective(model)(params, batch, jax.random.key(0))
  step = torch_transformer.stepper(
    torch_transformer.from_params(config, params, 8),
    (tokens, targets),
    learning_rate=0.1,
    weight_decay=0.0,
    clip_norm=1.0,
    fused=True,
    compiled=False,
  )
  assert abs(step() - float(ours)) < 1e-5
  assert step() < float(ours)
