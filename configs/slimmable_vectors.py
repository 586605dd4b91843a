# SPDX-License-Identifier: Apache-2.0
"""Three regressions of vectors that share features, at any width.

    python scripts/train.py --config=configs/slimmable_vectors.py \
      --workdir=runs/slimmable_vectors \
      --export=runs/slimmable_vectors.safetensors

About a minute on two CPU cores.
"""

from jaxttc.training import loop, multitask_recipes, slimmable


def get_config() -> multitask_recipes.SlimmableRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (64, 64)},
    hidden=64,
    menu=tuple(i / 8 for i in range(1, 9)),
    norm="none",
    sandwich=slimmable.Sandwich(widths=4, invariance=0.1),
    held_out=2048,
    train=loop.TrainConfig(
      steps=4000,
      batch_size=256,
      learning_rate=3e-3,
      warmup_steps=100,
      weight_decay=0.0,
      log_every=100,
      evaluate_every=1000,
      checkpoint_every=1000,
    ),
  )
