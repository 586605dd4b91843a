# SPDX-License-Identifier: Apache-2.0
r"""Tunes the embedded policy on preference pairs from a file, by DPO.

    python scripts/train.py --config=configs/tune_dpo.py \
      --workdir=runs/tune_dpo --export=runs/tune_dpo.safetensors

Both answers of a pair are the policy's own, one of them right
(scripts/sample_pairs.py). The anchor keeps the right one probable; see
docs/training.md. `--config=configs/tune_dpo.py:low_rank` trains adapters in
place of the model. About a minute on two CPU cores.
"""

from jaxttc.training import (
  loop,
  low_rank,
  preference_losses,
  tuning_data,
  tuning_recipes,
)


def get_config(which: str = "") -> tuning_recipes.PreferenceRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  if which not in ("", "low_rank"):
    raise ValueError(f"tune_dpo.py:{which} is unknown; expected low_rank")
  return tuning_recipes.PreferenceRecipe(
    start="arithmetic_lm",
    data=tuning_data.DataConfig(
      path="configs/data/pairs.jsonl", held_out=14, longest_prompt=112
    ),
    loss=preference_losses.PreferenceLossConfig(beta=0.1, anchor=0.2),
    adapters=low_rank.LowRankConfig() if which else None,
    train=loop.TrainConfig(
      steps=30,
      batch_size=8,
      length=200,
      learning_rate=5e-4 if which else 2e-4,
      warmup_steps=3,
      weight_decay=0.0,
      log_every=5,
      evaluate_every=15,
      checkpoint_every=15,
    ),
  )
