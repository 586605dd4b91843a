# SPDX-License-Identifier: Apache-2.0
"""What more compute would buy, told before it is spent."""

from jaxttc.predictors import success_rate
from jaxttc.predictors.width_scores import WidthScorePredictor, draw, fit

__all__ = ["WidthScorePredictor", "draw", "fit", "success_rate"]
