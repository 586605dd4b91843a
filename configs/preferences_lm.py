# SPDX-License-Identifier: Apache-2.0
r"""How to split one budget between demonstrations and pairs: a language model.

    python scripts/study_preferences.py --config=configs/preferences_lm.py \
      --workdir=runs/preferences_lm --out=docs/results/preferences_lm

A small model of modular arithmetic, stopped early; about eight minutes on one
CPU core. Any field can be overridden, for example --config.seeds=5.
"""

from jaxttc.models import config as config_lib
from jaxttc.studies import split_language_study
from jaxttc.tasks import prompt_sets
from jaxttc.training import loop, modular_model, preference_losses

PRIMES = (11, 13, 17)


def get_config() -> split_language_study.LanguageSplitRecipe:
  """The study."""
  stage = loop.TrainConfig(
    batch_size=8,
    length=192,
    warmup_steps=2,
    weight_decay=0.0,
  )
  return split_language_study.LanguageSplitRecipe(
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
        primes=PRIMES, shares=(1.0, 0.5, 0.25), max_steps=5
      ),
      train=loop.TrainConfig(
        seed=7,
        steps=500,
        decay_steps=600,
        batch_size=12,
        length=192,
        learning_rate=8e-3,
        warmup_steps=30,
        checkpoint_every=250,
      ),
    ),
    task=prompt_sets.ModularTask(primes=PRIMES, max_steps=4),
    demonstrations=split_language_study.StageRecipe(
      train=stage, epochs=4, rates=(1e-3, 4e-3, 8e-3)
    ),
    pairs=split_language_study.StageRecipe(
      train=loop.TrainConfig(
        batch_size=16,
        length=50,
        warmup_steps=2,
        weight_decay=0.0,
      ),
      epochs=2,
      rates=(5e-5, 2e-4, 8e-4),
    ),
    loss=preference_losses.PreferenceLossConfig(),
  )
