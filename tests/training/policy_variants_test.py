# SPDX-License-Identifier: Apache-2.0
"""Every policy gradient by name trains a model until it is right."""

import json

import numpy as np
import pytest

from jaxttc.inference import bundle
from jaxttc.testing import tiny_models
from jaxttc.training import (
  loop,
  metrics,
  policy_losses,
  policy_variants,
  prompt_files,
  rollout_config,
  rollout_recipes,
)

_LONGEST = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """A tiny policy, and problems that have one answer."""
  folder = tmp_path_factory.mktemp("one_answer")
  bundle.save(str(folder / "tiny.safetensors"), tiny_models.tiny_bundles()[0])
  rows = [{"question": f"{i} + 3 ?", "answer": "#### 3"} for i in range(8)]
  text = "".join(json.dumps(row) + "\n" for row in rows)
  (folder / "rows.jsonl").write_text(text)
  return folder


@pytest.mark.parametrize("name", policy_variants.NAMES)
def test_its_reward_rises(files, tmp_path, name):
  path = str(files / "rows.jsonl")
  recipe = rollout_recipes.RolloutRecipe(
    start=str(files / "tiny.safetensors"),
    task=prompt_files.PromptFile(path=path, held_out=path),
    check_steps=False,
    problems=8,
    held_out=4,
    samples=1,
    rollouts=rollout_config.RolloutConfig(
      strategy="uniform",
      tasks=4,
      group=8,
      n_max=8,
      max_tokens=_LONGEST,
      updates=2,
    ),
    loss=policy_losses.PolicyLossConfig(),
    train=loop.TrainConfig(
      steps=32,
      batch_size=32,
      length=36,
      learning_rate=0.03,
      warmup_steps=0,
      decay_steps=1000,
      weight_decay=0.0,
      log_every=1,
      evaluate_every=100,
      checkpoint_every=100,
    ),
  )
  policy_variants.make(name, _LONGEST).of(recipe).run(str(tmp_path))
  steps = [r for r in metrics.read(str(tmp_path)) if "reward" in r]
  rewards = np.array([record["reward"] for record in steps])
  assert rewards[-8:].mean() > rewards[:8].mean() + 0.3
  ratios, clipped, moved = (
    np.array([record[field] for record in steps])
    for field in ("ratio", "clip_fraction", "kl_old")
  )
  # Rollouts that teach nothing are replaced at once, others serve two steps.
  drawn = np.array([record["rollouts"] for record in steps])
  fresh = np.diff(drawn, prepend=0) > 0
  taught = np.array([record["read_rows"] for record in steps]) > 0
  np.testing.assert_allclose(ratios[fresh & taught], 1, atol=1e-4)
  assert not clipped[fresh].any()
  assert np.abs(moved[fresh]).max() < 1e-6 < moved[~fresh].max()
  # CISPO's weights are cut only where a token is five times as probable.
  assert (clipped[~fresh].max() > 0) or name == "cispo"


def test_an_unknown_name_is_refused():
  with pytest.raises(ValueError, match="Did you mean 'gspo'"):
    policy_variants.make("gsp", 8)
