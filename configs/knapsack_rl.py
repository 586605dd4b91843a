# SPDX-License-Identifier: Apache-2.0
r"""Reinforcement learning with rollouts allocated by a knapsack, and its study.

A small model learns modular arithmetic from text in which some moduli are rare,
then goes on from rewards of right and wrong. Any strategy by a flag, such as
--config.rollouts.strategy=uniform:

    python scripts/train.py --config=configs/knapsack_rl.py \
      --workdir=runs/knapsack_rl

So is a policy gradient by its name, `--config=configs/knapsack_rl.py:gspo`
(grpo, dapo, dr_grpo, rloo, gspo, cispo).

The strategies side by side, over seeds; about half an hour on one CPU core:

    python scripts/study_rollouts.py --config=configs/knapsack_rl.py:study \
      --workdir=runs/knapsack_study --out=docs/results/knapsack_rl
"""

from jaxttc.models import config as config_lib
from jaxttc.studies import rollout_study
from jaxttc.tasks import prompt_sets
from jaxttc.training import (
  loop,
  modular_model,
  policy_losses,
  policy_variants,
  rollout_config,
  rollout_recipes,
)

PRIMES = (11, 13, 17, 19)


def get_config(
  what: str = "train",
) -> rollout_recipes.RolloutRecipe | rollout_study.StudyRecipe:
  """A run ("train", or a variant), or the study; fields are flags."""
  if what == "study":
    # Seeds that no setting was chosen on.
    return rollout_study.StudyRecipe(
      arm=_arm(), first_seed=10, seeds=6, rates=(3e-4, 1e-3), tuning_steps=48
    )
  made = _arm()
  if what == "train":
    return made
  if what not in policy_variants.NAMES:
    raise ValueError(
      f"configs/knapsack_rl.py:{what}: expected :study, one of "
      f"{', '.join(policy_variants.NAMES)}, or none"
    )
  variant = policy_variants.make(what, made.rollouts.max_tokens)
  made.rollouts.advantage, made.loss = variant
  return made


def _arm() -> rollout_recipes.RolloutRecipe:
  return rollout_recipes.RolloutRecipe(
    base=modular_model.ModularModelRecipe(
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
      task=prompt_sets.ModularTask(
        primes=PRIMES, shares=(1.0, 0.6, 0.35, 0.2), max_steps=6
      ),
      train=loop.TrainConfig(
        seed=7,
        steps=600,
        decay_steps=1200,
        batch_size=12,
        length=192,
        learning_rate=6e-3,
        warmup_steps=30,
        checkpoint_every=320,
      ),
    ),
    task=prompt_sets.ModularTask(primes=PRIMES[:3], max_steps=4),
    problems=128,
    held_out=128,
    samples=8,
    rollouts=rollout_config.RolloutConfig(
      strategy="knapsack",
      tasks=16,
      group=8,
      n_max=32,
      max_tokens=28,
    ),
    loss=policy_losses.PolicyLossConfig(clip_low=0.2, clip_high=0.28),
    train=loop.TrainConfig(
      steps=48,
      decay_steps=100_000,
      batch_size=32,
      length=50,
      learning_rate=1e-3,
      warmup_steps=4,
      weight_decay=0.0,
      log_every=1,
      evaluate_every=16,
      checkpoint_every=32,
    ),
  )
