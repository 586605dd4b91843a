# SPDX-License-Identifier: Apache-2.0
r"""Finetunes the embedded policy on demonstrations, packed, from a file.

    python scripts/train.py --config=configs/tune_sft.py \
      --workdir=runs/tune_sft --export=runs/tune_sft.safetensors

The file that comes with it holds solutions which the policy itself got right
(scripts/sample_pairs.py). Another one: --config.data.path=FILE.jsonl, in chat,
prompt-completion or GSM8K form. Less than a minute on two CPU cores.
"""

from jaxttc.training import loop, tuning_data, tuning_recipes


def get_config() -> tuning_recipes.SupervisedRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return tuning_recipes.SupervisedRecipe(
    start="arithmetic_lm",
    data=tuning_data.DataConfig(
      path="configs/data/demonstrations.jsonl",
      held_out=16,
      longest_prompt=128,
    ),
    train=loop.TrainConfig(
      steps=40,
      batch_size=8,
      length=256,
      learning_rate=5e-4,
      warmup_steps=4,
      weight_decay=0.0,
      log_every=5,
      evaluate_every=20,
      checkpoint_every=20,
    ),
  )
