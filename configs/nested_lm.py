# SPDX-License-Identifier: Apache-2.0
r"""The embedded policy with a dial: one model, four widths.

Goes on from the embedded policy, whose units are first put in order of
importance, on shorter worked problems with terse solutions. The narrowest
width costs 0.38 of the FLOPs a token. A quarter of an hour on one CPU core.

    python scripts/train.py --config=configs/nested_lm.py \
      --workdir=runs/nested_lm \
      --export=jaxttc/pretrained/nested_lm.safetensors
    python scripts/solve.py --model=nested_lm --width=0.5
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
    mix=arithmetic.TrainingMix(
      terse=1.0,
      verbose=0.0,
      direct=0.0,
      asked=1.0,
      families=("modular", "stories"),
      steps=(1.0,) * 7 + (0.0,) * 4,
    ),
    train=loop.TrainConfig(
      steps=700,
      batch_size=12,
      length=192,
      learning_rate=3e-3,
      warmup_steps=20,
      weight_decay=0.02,
      log_every=20,
      evaluate_every=200,
      checkpoint_every=100,
    ),
    start="arithmetic_lm",
    widths=(0.25, 0.5, 0.75, 1.0),
    distillation=0.5,
    shared_rows=False,
  )
