# SPDX-License-Identifier: Apache-2.0
r"""A model trained on what SCALE wrote with it, beside its own right answers.

    python scripts/study_traces.py --config=configs/scale_sft.py \
      --workdir=runs/scale_sft --out=docs/results/scale_sft

800 steps of each kind of traces, 200 updates, three seeds: minutes on one CPU
core.
"""

from jaxttc.studies import trace_study, two_speed_recipe
from jaxttc.training import loop


def get_config() -> trace_study.TraceRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return trace_study.TraceRecipe(
    scale=two_speed_recipe.StudyRecipe(),
    train=loop.TrainConfig(
      steps=200,
      batch_size=8,
      length=128,
      learning_rate=1e-3,
      warmup_steps=10,
      weight_decay=0.0,
      log_every=50,
      evaluate_every=200,
      checkpoint_every=200,
    ),
  )
