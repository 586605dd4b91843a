# SPDX-License-Identifier: Apache-2.0
"""A server that speaks OpenAI's dialect, and takes budgets; see `server`."""

from jaxttc.serving.recipe import Limits, ServeRecipe
from jaxttc.serving.service import Service

__all__ = ("Limits", "ServeRecipe", "Service")
