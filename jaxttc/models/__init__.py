# SPDX-License-Identifier: Apache-2.0
"""Flax (linen) modules only; pure functions of (params, inputs)."""

from jaxttc.models.config import TransformerConfig
from jaxttc.models.reward_model import ProcessRewardModel
from jaxttc.models.transformer import Transformer

__all__ = ("ProcessRewardModel", "Transformer", "TransformerConfig")
