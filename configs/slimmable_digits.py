# SPDX-License-Identifier: Apache-2.0
r"""Four questions about several real digits in one picture, at any width.

    python scripts/train.py --config=configs/slimmable_digits.py \
      --workdir=runs/slimmable_digits --export=runs/slimmable_digits.safetensors

    python scripts/study_slimming.py \
      --config=configs/slimmable_digits.py:study \
      --workdir=runs/study_digits --out=docs/results/slimmable_digits

About five minutes a network on two CPU cores. ":vit" and ":mobilenet" behind
the path of the first command train other encoders on the same pictures.
"""

import dataclasses
from typing import Any

from jaxttc.studies import slimming_study
from jaxttc.training import loop, multitask_recipes, slimmable

_ENCODERS: dict[str, dict[str, Any]] = {
  "vit": {
    "encoder": {
      "kind": "vision_transformer",
      "patch": 4,
      "width": 32,
      "segments": ((1, 4, 64), (1, 4, 64)),
      "head_dim": 8,
    },
    "quantum": 8,
  },
  "mobilenet": {
    "encoder": {
      "kind": "mobilenet_v2",
      "stages": ((1, 16, 1, 1), (4, 16, 1, 2), (4, 32, 1, 1)),
      "stem": 16,
      "stem_stride": 1,
      "last": 64,
    },
    "quantum": 4,
  },
}


def get_config(
  form: str = "train",
) -> multitask_recipes.SlimmableRecipe | slimming_study.StudyRecipe:
  """The recipe, of another encoder, or with ":study" behind it the study.

  Every field can be overridden with `--config.a.b=value`.
  """
  recipe = multitask_recipes.SlimmableRecipe(
    data="digits",
    data_options={"side": 16, "most": 3, "aligned": True, "noise": 0.1},
    encoder={
      "kind": "residual",
      "stages": ((8, 1, 2),),
    },
    hidden=32,
    menu=(0.25, 0.5, 0.75, 1.0),
    norm="group",
    quantum=2,
    pooled=False,
    sandwich=slimmable.Sandwich(widths=4, invariance=0.2),
    held_out=4096,
    train=loop.TrainConfig(
      steps=2000,
      batch_size=64,
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
  if form in _ENCODERS:
    return dataclasses.replace(recipe, **_ENCODERS[form])
  if form != "study":
    known = ", ".join(f":{name}" for name in ("train", "study", *_ENCODERS))
    raise ValueError(f"expected one of {known}, got :{form}")
  return slimming_study.StudyRecipe(
    recipe=recipe,
    hypernetworks=(
      ("norms", 0.5, 3e-3, "linear"),
      ("norms", 0.5, 1e-2, "linear"),
      ("ray", 0.25, 3e-3, "linear"),
      ("ray", 0.5, 1e-3, "linear"),
      ("ray", 0.5, 3e-3, "linear"),
    ),
    branching=(0.5,),
    ablations=False,
    separate=False,
    ray_step=1 / 4,
  )
