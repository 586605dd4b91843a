# SPDX-License-Identifier: Apache-2.0
r"""Segmentation, depth, normals and edges of rendered scenes, at any width.

    python scripts/train.py --config=configs/slimmable_scenes.py \
      --workdir=runs/slimmable_scenes --export=runs/slimmable_scenes.safetensors

    python scripts/study_slimming.py \
      --config=configs/slimmable_scenes.py:study \
      --workdir=runs/study_scenes --out=docs/results/slimmable_scenes

About five minutes a network on two CPU cores. ":dilated" behind the path of
the first command trains a dilated ResNet with atrous decoders, in little.
"""

import dataclasses

from jaxttc.studies import slimming_cells, slimming_study
from jaxttc.training import loop, multitask_recipes, slimmable


def get_config(
  form: str = "train",
) -> multitask_recipes.SlimmableRecipe | slimming_study.StudyRecipe:
  """The recipe, of another encoder, or with ":study" behind it the study.

  Every field can be overridden with `--config.a.b=value`.
  """
  recipe = multitask_recipes.SlimmableRecipe(
    data="scenes",
    data_options={"side": 16},
    encoder={"kind": "residual", "stages": ((16, 1, 1), (16, 1, 2))},
    hidden=16,
    menu=(0.25, 0.5, 0.75, 1.0),
    norm="group",
    quantum=4,
    sandwich=slimmable.Sandwich(widths=4, invariance=0.02),
    held_out=512,
    train=loop.TrainConfig(
      steps=1500,
      batch_size=16,
      learning_rate=1e-2,
      warmup_steps=100,
      weight_decay=0.0,
      log_every=50,
      evaluate_every=500,
      checkpoint_every=250,
    ),
  )
  if form == "train":
    return recipe
  if form == "dilated":
    return dataclasses.replace(
      recipe,
      encoder={
        "kind": "dilated_resnet",
        "stages": ((16, 1, 1, 1), (16, 1, 1, 2)),
        "expansion": 1,
      },
      atrous=(1, 2),
    )
  if form != "study":
    raise ValueError(f"expected :train, :dilated or :study, got :{form}")
  return slimming_study.StudyRecipe(
    recipe=recipe,
    hypernetworks=(
      ("norms", 0.5, 1e-2, "linear"),
      ("ray", 0.5, 1e-2, "linear"),
    ),
    branching=(0.5,),
    # The texture task stays on a plateau for hundreds of steps, and for longer
    # where random preferences weigh it with next to nothing in most of them.
    rivals_training=slimming_cells.RivalTraining(
      draws=4, share=0.1, start=1.0, variation=0.03
    ),
    ablations=False,
    separate=False,
    ray_step=1 / 4,
  )
