# SPDX-License-Identifier: Apache-2.0
r"""Three regressions of vectors that share features, at any width.

    python scripts/train.py --config=configs/slimmable_vectors.py \
      --workdir=runs/slimmable_vectors \
      --export=runs/slimmable_vectors.safetensors

    python scripts/study_slimming.py \
      --config=configs/slimmable_vectors.py:study \
      --workdir=runs/study_vectors --out=docs/results/slimmable_vectors

About a minute a network on two CPU cores.
"""

from jaxttc.studies import slimming_study
from jaxttc.training import loop, multitask_recipes, slimmable


def get_config(
  form: str = "train",
) -> multitask_recipes.SlimmableRecipe | slimming_study.StudyRecipe:
  """The recipe, or with ":study" behind the path the study of it.

  Every field can be overridden with `--config.a.b=value`.
  """
  recipe = multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (64, 64)},
    hidden=64,
    menu=tuple(i / 8 for i in range(1, 9)),
    norm="none",
    sandwich=slimmable.Sandwich(widths=4, invariance=0.2),
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
  if form == "train":
    return recipe
  if form != "study":
    raise ValueError(f"expected :train or :study, got :{form}")
  return slimming_study.StudyRecipe(
    recipe=recipe,
    hypernetworks=(
      ("norms", 0.25, 3e-3, "linear"),
      ("norms", 0.375, 3e-3, "linear"),
      ("norms", 0.5, 3e-3, "linear"),
      ("ray", 0.25, 1e-3, "linear"),
      ("ray", 0.375, 1e-3, "linear"),
      ("ray", 0.5, 1e-3, "linear"),
      ("ray", 0.375, 3e-3, "linear"),
      ("ray", 0.375, 1e-3, "exact"),
      ("chunked", 0.375, 1e-3, "linear"),
    ),
    branching=(0.25, 0.375),
    static=(0.25, 0.5, 0.75, 1.0),
    noise=2.0,
  )
