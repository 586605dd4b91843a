# SPDX-License-Identifier: Apache-2.0
"""What more compute would buy, told before it is spent."""

from jaxttc.predictors.width_scores import WidthScorePredictor, draw, fit

__all__ = ["WidthScorePredictor", "draw", "fit"]
