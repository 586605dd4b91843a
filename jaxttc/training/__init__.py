# SPDX-License-Identifier: Apache-2.0
"""The train loop, and one file an objective."""

from jaxttc.training.loop import TrainConfig, TrainState, fit
from jaxttc.training.recipes import LanguageModelRecipe

__all__ = ("LanguageModelRecipe", "TrainConfig", "TrainState", "fit")
