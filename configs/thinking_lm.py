# SPDX-License-Identifier: Apache-2.0
r"""The embedded thinker: sums of digits, in short lines or in long ones.

About 6 minutes on one CPU core. Thinking in full it is right in at least 97%
of questions, and so it is in concise lines alone.

    python scripts/train.py --config=configs/thinking_lm.py \
      --workdir=runs/thinking_lm \
      --export=jaxttc/pretrained/thinking_lm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.training import loop, thinking


def get_config() -> thinking.ThinkingModelRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return thinking.ThinkingModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=64,
      layers=2,
      heads=4,
      kv_heads=2,
      head_dim=16,
      mlp_width=128,
      max_length=256,
    ),
    mix=thinking.DigitSumMix(),
    train=loop.TrainConfig(
      steps=2400,
      batch_size=18,
      length=144,
      learning_rate=1e-2,
      warmup_steps=60,
      weight_decay=0.02,
      log_every=20,
      evaluate_every=400,
      checkpoint_every=400,
    ),
  )
