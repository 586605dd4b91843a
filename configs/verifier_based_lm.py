# SPDX-License-Identifier: Apache-2.0
r"""Training with and without a learned verifier: a language model.

    python scripts/study_planted.py --config=configs/verifier_based_lm.py \
      --workdir=runs/verifier_based_lm --out=docs/results/verifier_based_lm

A small model of modular arithmetic, stopped early; under half an hour on one
CPU core. Any field can be overridden, for example --config.seeds=5.
"""

from jaxttc.models import config as config_lib
from jaxttc.studies import verifier_language_recipe
from jaxttc.tasks import modular_mix, prompt_sets
from jaxttc.training import loop, recipes

_CLONING = (1e-4, 3e-4, 1e-3)


def get_config() -> verifier_language_recipe.LanguageVerifierRecipe:
  """The study."""
  return verifier_language_recipe.LanguageVerifierRecipe(
    base=recipes.LanguageModelRecipe(
      model=config_lib.TransformerConfig(
        vocab_size=704,
        width=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        mlp_width=192,
        max_length=192,
      ),
      mix=modular_mix.ModularMix(
        task=prompt_sets.ModularTask(primes=(11, 13), min_steps=2, max_steps=8),
      ),
      train=loop.TrainConfig(
        steps=600,
        batch_size=12,
        length=256,
        learning_rate=8e-3,
        warmup_steps=30,
        checkpoint_every=300,
      ),
    ),
    families={"heterogeneous": "free", "homogeneous": "terse"},
    rates={
      "clone_solved": _CLONING,
      "clone_charged": _CLONING,
      "clone_expert": _CLONING,
      "reweight": _CLONING,
      "policy_gradient": (3e-5, 1e-4, 3e-4),
    },
  )
