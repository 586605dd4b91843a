# SPDX-License-Identifier: Apache-2.0
r"""Reinforcement learning with rewards for progress, on a small language model.

A model learns to look for hidden numbers from traces that try them in any
order, many numbers first, then those that are hidden:

    for part in warm base; do python scripts/train.py \
      --config=configs/mrt_lm.py:$part --workdir=runs/mrt_lm_$part \
      --export=runs/mrt_lm_$part.safetensors; done

From there it goes on by rewards of right answers and of progress (`:outcome`
leaves the latter out, and `:filtered` imitates its own best traces instead):

    python scripts/train.py --config=configs/mrt_lm.py --workdir=runs/mrt_lm \
      --export=runs/mrt_lm.safetensors

Side by side, over seeds; about ten minutes on one CPU core:

    python scripts/study_progress_lm.py --config=configs/mrt_lm.py:study \
      --workdir=runs/mrt_lm_study --out=docs/results/mrt_lm
"""

import dataclasses

from jaxttc.models import config as config_lib
from jaxttc.studies import progress_language_study
from jaxttc.tasks import hidden_numbers
from jaxttc.training import (
  filtered_traces,
  loop,
  policy_losses,
  recipes,
  rollout_config,
  rollout_progress,
  rollout_recipes,
)

_MODULUS, _NUMBERS, _ATTEMPTS = 19, 7, 12
_WARM_NUMBERS = 13
_RATIO = 0.6


def get_config(
  what: str = "progress",
) -> (
  rollout_recipes.RolloutRecipe
  | recipes.LanguageModelRecipe
  | filtered_traces.FilteredRecipe
  | progress_language_study.StudyRecipe
):
  """A run, or the study; fields can be overridden with `--config.a.b=value`."""
  kinds = {
    "progress": _arm,
    "outcome": lambda: dataclasses.replace(_arm(), progress=None),
    "warm": _warm,
    "base": _base,
    "filtered": _filtered,
    "study": _study,
  }
  if what not in kinds:
    raise ValueError(
      f"configs/mrt_lm.py:{what}: expected one of {', '.join(kinds)}"
    )
  return kinds[what]()


def _study() -> progress_language_study.StudyRecipe:
  # Sizes, weights and rates were chosen on the tuning seed alone.
  return progress_language_study.StudyRecipe(
    arm=_arm(),
    methods=("outcome", "progress"),
    times=1.5,
    rates=(7e-4, 1e-3),
  )


def _warm() -> recipes.LanguageModelRecipe:
  return recipes.LanguageModelRecipe(
    model=config_lib.TransformerConfig(
      vocab_size=704,
      width=64,
      layers=2,
      heads=4,
      kv_heads=2,
      head_dim=16,
      mlp_width=192,
      max_length=128,
    ),
    mix=hidden_numbers.TrialMix(
      modulus=_MODULUS, numbers=_WARM_NUMBERS, most=_ATTEMPTS
    ),
    train=loop.TrainConfig(
      seed=7,
      steps=800,
      decay_steps=1600,
      batch_size=16,
      length=192,
      learning_rate=6e-3,
      warmup_steps=30,
      checkpoint_every=400,
    ),
  )


def _base() -> recipes.LanguageModelRecipe:
  made = _warm()
  return dataclasses.replace(
    made,
    start="runs/mrt_lm_warm.safetensors",
    mix=dataclasses.replace(
      made.mix, numbers=_NUMBERS, repeats=0.1, stops=0.01
    ),
    train=dataclasses.replace(
      made.train,
      seed=8,
      steps=150,
      decay_steps=None,
      learning_rate=2e-3,
      warmup_steps=10,
      checkpoint_every=150,
    ),
  )


def _progress() -> rollout_progress.ProgressConfig:
  return rollout_progress.ProgressConfig(
    alpha=3.0, episodes=_ATTEMPTS, branches=0
  )


def _filtered() -> filtered_traces.FilteredRecipe:
  return filtered_traces.FilteredRecipe(
    start="runs/mrt_lm_base.safetensors",
    task=hidden_numbers.HiddenTask(
      modulus=_MODULUS, numbers=_NUMBERS, ratio=_RATIO
    ),
    problems=512,
    samples=8,
    max_tokens=5 * _ATTEMPTS + 3,
    progress=_progress(),
    train=loop.TrainConfig(
      steps=48,
      batch_size=16,
      length=192,
      learning_rate=1e-3,
      warmup_steps=4,
      checkpoint_every=48,
    ),
  )


def _arm() -> rollout_recipes.RolloutRecipe:
  return rollout_recipes.RolloutRecipe(
    start="runs/mrt_lm_base.safetensors",
    task=hidden_numbers.HiddenTask(
      modulus=_MODULUS, numbers=_NUMBERS, ratio=_RATIO
    ),
    check_steps=False,
    problems=512,
    held_out=128,
    samples=1,
    rollouts=rollout_config.RolloutConfig(
      strategy="uniform",
      tasks=16,
      group=12,
      n_max=12,
      max_tokens=5 * _ATTEMPTS + 3,
    ),
    progress=_progress(),
    # Without it the attempts' sums are forgotten within fifty steps.
    loss=policy_losses.PolicyLossConfig(kl="k3", kl_weight=0.04),
    train=loop.TrainConfig(
      steps=48,
      decay_steps=100_000,
      batch_size=32,
      length=78,
      learning_rate=1e-3,
      warmup_steps=4,
      weight_decay=0.0,
      log_every=1,
      evaluate_every=48,
      checkpoint_every=48,
    ),
  )
