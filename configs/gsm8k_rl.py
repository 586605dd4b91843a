# SPDX-License-Identifier: Apache-2.0
r"""Reinforcement learning of a published model on problems of a file.

    python scripts/train.py --config=configs/gsm8k_rl.py \
      --workdir=runs/gsm8k_rl --export=runs/gsm8k_rl \
      --config.start=Qwen2.5-0.5B-Instruct \
      --config.task.path=gsm8k/train.jsonl \
      --config.task.held_out=gsm8k/test.jsonl

The files may be GSM8K's, MATH's or any that `tasks.jsonl` reads, or have the
columns that verl uses; answers are compared as mathematics. A variant by its
name: `--config=configs/gsm8k_rl.py:gspo` (grpo, dapo, dr_grpo, rloo, gspo,
cispo; ppo, with a critic). The sizes are meant for one accelerator; nothing was
measured with them.
"""

from jaxttc.training import (
  loop,
  policy_losses,
  policy_variants,
  prompt_files,
  rollout_config,
  rollout_recipes,
  rollout_rewards,
)

_LONGEST = 512


def get_config(variant: str = "dapo") -> rollout_recipes.RolloutRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  made = rollout_recipes.RolloutRecipe(
    start="Qwen2.5-0.5B-Instruct",
    task=prompt_files.PromptFile(
      path="gsm8k/train.jsonl",
      held_out="gsm8k/test.jsonl",
      instruction=(
        "Work in short steps. Put the final answer, and nothing else, into "
        "\\boxed{}."
      ),
      skip_long=True,
    ),
    check_steps=False,
    problems=7000,
    held_out=256,
    samples=1,
    rollouts=rollout_config.RolloutConfig(
      strategy="posterior",
      tasks=64,
      group=8,
      n_max=32,
      max_tokens=_LONGEST,
      updates=4,
      minibatches=4,
    ),
    rewards=rollout_rewards.RewardConfig(overlong=128),
    loss=policy_losses.PolicyLossConfig(),
    train=loop.TrainConfig(
      steps=400,
      batch_size=16,
      length=_LONGEST + 256,
      learning_rate=1e-6,
      warmup_steps=10,
      decay_steps=100_000,
      weight_decay=0.0,
      log_every=1,
      evaluate_every=40,
      checkpoint_every=40,
    ),
  )
  return policy_variants.make(variant, _LONGEST).of(made)
