# SPDX-License-Identifier: Apache-2.0
r"""A small model with two modes: it answers a sum at once, or works it out.

Sums of digits, in chains (`tasks.digit_chains`). It has seen sums of any length
worked out, but hardly a long one answered at once. About five minutes
on one CPU core.

    python scripts/train.py --config=configs/two_speed_lm.py \
      --workdir=runs/two_speed_lm \
      --export=jaxttc/pretrained/two_speed_lm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.tasks import digit_chains
from jaxttc.training import loop, recipes


def get_config() -> recipes.LanguageModelRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.LanguageModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=64,
      layers=2,
      heads=4,
      kv_heads=2,
      head_dim=16,
      mlp_width=192,
      max_length=256,
    ),
    mix=digit_chains.ChainMix(
      additions=(1, 2, 3, 4, 5, 6),
      fast_additions=(1,) * 6 + (2,) * 6 + (3, 4),
      fast=0.6,
    ),
    train=loop.TrainConfig(
      steps=1400,
      batch_size=32,
      length=128,
      learning_rate=6e-3,
      warmup_steps=60,
      weight_decay=0.02,
      log_every=50,
      evaluate_every=500,
      checkpoint_every=500,
    ),
  )
