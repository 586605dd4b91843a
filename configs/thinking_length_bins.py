# SPDX-License-Identifier: Apache-2.0
r"""The embedded thinker's other length predictor: a discrete law, bin by token.

About 3 minutes on one CPU core.

    python scripts/train.py --config=configs/thinking_length_bins.py \
      --workdir=runs/thinking_length_bins \
      --export=jaxttc/pretrained/thinking_length_bins.safetensors
"""

from jaxttc.training import length_prediction, loop, thinking


def get_config() -> length_prediction.LengthPredictorRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return length_prediction.LengthPredictorRecipe(
    policy="thinking_lm",
    mix=length_prediction.TraceMix(questions=thinking.DigitSumMix()),
    head="lowrank",
    bins=48,
    longest=48,
    train=loop.TrainConfig(
      steps=1200,
      batch_size=18,
      length=144,
      learning_rate=4e-3,
      warmup_steps=40,
      weight_decay=0.0,
      log_every=20,
      evaluate_every=200,
      checkpoint_every=400,
    ),
  )
