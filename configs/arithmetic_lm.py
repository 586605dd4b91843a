# SPDX-License-Identifier: Apache-2.0
r"""The embedded policy: a 0.9M-parameter language model of worked problems.

Stopped while it still errs, at about half of the test problems right when it
answers tersely and greedily, so that search has something to gain. About 35
minutes on two CPU cores.

    python scripts/train.py --config=configs/arithmetic_lm.py \
      --workdir=runs/arithmetic_lm \
      --export=jaxttc/pretrained/arithmetic_lm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.tasks import arithmetic
from jaxttc.training import loop, recipes


def get_config() -> recipes.LanguageModelRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.LanguageModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=128,
      layers=4,
      heads=4,
      kv_heads=2,
      head_dim=32,
      mlp_width=384,
      max_length=512,
    ),
    mix=arithmetic.TrainingMix(),
    train=loop.TrainConfig(
      steps=1400,
      decay_steps=2000,
      batch_size=16,
      length=384,
      learning_rate=6e-3,
      warmup_steps=60,
      weight_decay=0.02,
      log_every=20,
      evaluate_every=500,
      checkpoint_every=200,
    ),
  )
