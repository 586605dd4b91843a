# SPDX-License-Identifier: Apache-2.0
r"""First part of a smaller model that only answers sums at once.

Half as wide as the model of `configs/two_speed_lm.py`, and never shown a sum
worked out. It learns at a high rate here; `configs/fast_sums_lm.py` goes on
from it. Ten minutes on one CPU core.

    python scripts/train.py --config=configs/fast_sums_warm.py \
      --workdir=runs/fast_sums_warm --export=runs/fast_sums_warm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.tasks import digit_chains
from jaxttc.training import loop, recipes


def get_config() -> recipes.LanguageModelRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.LanguageModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=32,
      layers=2,
      heads=2,
      kv_heads=1,
      head_dim=16,
      mlp_width=96,
      max_length=256,
    ),
    mix=digit_chains.ChainMix(
      fast_additions=(1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5),
      fast=1.0,
    ),
    train=loop.TrainConfig(
      steps=1000,
      decay_steps=2000,
      batch_size=32,
      length=128,
      learning_rate=8e-3,
      warmup_steps=60,
      weight_decay=0.02,
      log_every=50,
      evaluate_every=1000,
      checkpoint_every=500,
    ),
  )
