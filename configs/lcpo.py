# SPDX-License-Identifier: Apache-2.0
r"""Length-controlled policy optimisation (L1) of the embedded thinker.

    python scripts/train.py --config=configs/lcpo.py \
      --workdir=runs/lcpo --export=runs/lcpo.safetensors

First the embedded model reads prompts that name a length, where three texts of
ten keep it and the others know nothing of it; then it is rewarded for right
answers of that length.

    python scripts/study_lcpo.py --config=configs/lcpo.py:study \
      --workdir=runs/lcpo_study --out=docs/results/lcpo

measures how lengths are kept before and after, on targets trained on and not.
"""

import dataclasses

from jaxttc.models import config as config_lib
from jaxttc.studies import lcpo_study
from jaxttc.tasks import length_prompts
from jaxttc.training import (
  loop,
  policy_losses,
  rollout_config,
  rollout_recipes,
  rollout_rewards,
  thinking,
)

_TASK = length_prompts.TargetedSums(
  targets=(16, 36), unseen=(18, 23, 27, 31, 34)
)
_LONGEST = 56


def get_config(
  what: str = "train",
) -> rollout_recipes.RolloutRecipe | lcpo_study.LcpoRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`.

  Args:
    what: "train" for one run, "study" for the study.

  Raises:
    ValueError: for another.
  """
  if what == "study":
    return lcpo_study.LcpoRecipe(arm=_arm())
  if what != "train":
    raise ValueError(f"configs/lcpo.py:{what}: expected :study, or none")
  return _arm()


def _arm() -> rollout_recipes.RolloutRecipe:
  return rollout_recipes.RolloutRecipe(
    base=thinking.ThinkingModelRecipe(
      start="thinking_lm",
      model=config_lib.TransformerConfig(
        vocab_size=704,
        width=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        mlp_width=128,
        max_length=256,
      ),
      mix=thinking.DigitSumMix(
        least_digits=3,
        concise_share=0.35,
        asked=0.0,
        at_once=0.0,
        targets=tuple(_TASK.drawn),  # none of the unseen here, either
        kept=0.3,
      ),
      train=loop.TrainConfig(
        steps=600,
        batch_size=18,
        length=144,
        learning_rate=1e-2,
        warmup_steps=10,
        weight_decay=0.02,
        log_every=50,
        evaluate_every=600,
        checkpoint_every=600,
      ),
    ),
    task=dataclasses.replace(_TASK),
    problems=2048,
    held_out=128,
    samples=2,
    check_steps=False,
    rollouts=rollout_config.RolloutConfig(
      strategy="uniform",
      tasks=32,
      group=8,
      max_tokens=_LONGEST,
      updates=2,
      minibatches=2,
    ),
    # A token is worth more than in the paper, whose responses have thousands.
    rewards=rollout_rewards.RewardConfig(
      parts=("lcpo_exact",), weights=(1.0,), alpha=0.05
    ),
    loss=policy_losses.PolicyLossConfig(clip_low=0.2, clip_high=0.28),
    train=loop.TrainConfig(
      steps=250,
      decay_steps=250,
      batch_size=128,
      length=_LONGEST + 24,
      learning_rate=5e-4,
      warmup_steps=10,
      weight_decay=0.0,
      log_every=10,
      evaluate_every=250,
      checkpoint_every=250,
    ),
  )
