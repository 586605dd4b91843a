# SPDX-License-Identifier: Apache-2.0
r"""The embedded reward model, trained on the embedded policy's solutions.

First its trunk goes on learning where the policy stopped; then two layers
above it learn where solutions go wrong. About 50 minutes on two CPU cores.

    python scripts/train.py --config=configs/arithmetic_prm.py \
      --workdir=runs/arithmetic_prm \
      --export=jaxttc/pretrained/arithmetic_prm.safetensors
"""

from jaxttc.models import config as config_lib
from jaxttc.tasks import arithmetic
from jaxttc.training import loop, recipes


def get_config() -> recipes.ProcessRewardRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return recipes.ProcessRewardRecipe(
    policy="arithmetic_lm",
    trunk=recipes.LanguageModelRecipe(
      start="arithmetic_lm",
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
      mix=arithmetic.TrainingMix(direct=0.0),
      train=loop.TrainConfig(
        seed=7,
        steps=2000,
        batch_size=16,
        length=384,
        learning_rate=5e-3,
        warmup_steps=60,
        weight_decay=0.02,
        log_every=20,
        evaluate_every=500,
        checkpoint_every=200,
      ),
    ),
    reading_layers=2,
    problems=4096,
    samples=4,
    temperature=1.0,
    max_tokens=192,
    train=loop.TrainConfig(
      steps=800,
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
