# SPDX-License-Identifier: Apache-2.0
r"""The embedded generative verifier: it writes checks, then yes or no.

The embedded policy solves modular problems tersely, and goes on training on
gold verifications of what it wrote. About 40 minutes on one CPU core.

    python scripts/train.py --config=configs/arithmetic_verifier.py \
      --workdir=runs/arithmetic_verifier \
      --export=jaxttc/pretrained/arithmetic_verifier.safetensors
"""

from jaxttc.training import loop, verifier_recipes


def get_config() -> verifier_recipes.GenerativeVerifierRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return verifier_recipes.GenerativeVerifierRecipe(
    problems=4096,
    samples=4,
    train=loop.TrainConfig(
      seed=11,
      steps=1200,
      decay_steps=1200,
      batch_size=16,
      length=384,
      learning_rate=3e-3,
      warmup_steps=40,
      weight_decay=0.02,
      log_every=10,
      evaluate_every=200,
      checkpoint_every=100,
    ),
  )
