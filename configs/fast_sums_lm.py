# SPDX-License-Identifier: Apache-2.0
r"""A smaller model that only answers sums at once: System 1 beside another.

Goes on from `configs/fast_sums_warm.py`, at a rate that falls, on short sums
for the most part, as the fast mode of `configs/two_speed_lm.py` was trained. A
few minutes on one CPU core.

    python scripts/train.py --config=configs/fast_sums_lm.py \
      --workdir=runs/fast_sums_lm \
      --export=jaxttc/pretrained/fast_sums_lm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.tasks import digit_chains
from jaxttc.training import loop, recipes


def get_config() -> recipes.LanguageModelRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.LanguageModelRecipe(
    start="runs/fast_sums_warm.safetensors",
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
      fast_additions=(1,) * 6 + (2,) * 6 + (3, 4),
      fast=1.0,
    ),
    train=loop.TrainConfig(
      seed=1,  # other text than the first part's
      steps=240,
      batch_size=32,
      length=128,
      learning_rate=4e-3,
      warmup_steps=10,
      weight_decay=0.02,
      log_every=50,
      evaluate_every=120,
      checkpoint_every=120,
    ),
  )
