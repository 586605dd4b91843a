# SPDX-License-Identifier: Apache-2.0
"""Splitting one budget: over questions, stages, models and widths."""

from jaxttc.allocators import model_width

__all__ = ("model_width",)
