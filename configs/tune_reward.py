# SPDX-License-Identifier: Apache-2.0
r"""Trains a reward model on preference pairs from a file.

    python scripts/train.py --config=configs/tune_reward.py \
      --workdir=runs/tune_reward --export=runs/tune_reward.safetensors

The pairs that come with it are few: they show the way, and do not make a good
judge. Another file: --config.data.path=FILE.jsonl. About a minute on two CPU
cores.
"""

from jaxttc.training import loop, tuning_data, tuning_recipes


def get_config() -> tuning_recipes.RewardRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return tuning_recipes.RewardRecipe(
    start="arithmetic_lm",
    data=tuning_data.DataConfig(
      path="configs/data/pairs.jsonl", held_out=14, longest_prompt=112
    ),
    train=loop.TrainConfig(
      steps=30,
      batch_size=8,
      length=200,
      learning_rate=5e-4,
      warmup_steps=3,
      weight_decay=0.0,
      log_every=5,
      evaluate_every=15,
      checkpoint_every=15,
    ),
  )
