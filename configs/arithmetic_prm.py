# SPDX-License-Identifier: Apache-2.0
"""The embedded reward model, trained on the embedded policy's solutions.

    python scripts/train.py --config=configs/arithmetic_prm.py \
      --workdir=runs/arithmetic_prm \
      --export=jaxttc/pretrained/arithmetic_prm.safetensors
"""

from jaxttc.tasks import arithmetic
from jaxttc.training import loop, recipes


def get_config() -> recipes.ProcessRewardRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.ProcessRewardRecipe(
    policy="arithmetic_lm",
    extra_layers=2,
    problems=4096,
    samples=4,
    temperature=1.0,
    max_tokens=192,
    language_weight=1.0,
    mix=arithmetic.TrainingMix(),
    train=loop.TrainConfig(
      steps=700,
      batch_size=16,
      length=384,
      learning_rate=3e-3,
      warmup_steps=40,
      weight_decay=0.02,
      log_every=20,
      evaluate_every=100,
      checkpoint_every=100,
    ),
  )
