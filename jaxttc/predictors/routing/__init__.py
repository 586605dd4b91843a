# SPDX-License-Identifier: Apache-2.0
"""Which model a question needs: expected score and cost of each."""

from jaxttc.predictors.routing import (
  blend,
  contrastive,
  embedders,
  familiar,
  graph,
  hashed_ngrams,
  linear,
  neighbours,
  networks,
  preferences,
  ratings,
  saved_heads,
  saved_ngrams,
  trees,
)
from jaxttc.predictors.routing.base import (
  Constant,
  FitHead,
  Forecast,
  Head,
  Router,
  fit,
  predict,
)
from jaxttc.predictors.routing.registry import head, names

__all__ = (
  "Constant",
  "FitHead",
  "Forecast",
  "Head",
  "Router",
  "blend",
  "contrastive",
  "embedders",
  "familiar",
  "fit",
  "graph",
  "hashed_ngrams",
  "head",
  "linear",
  "names",
  "neighbours",
  "networks",
  "predict",
  "preferences",
  "ratings",
  "saved_heads",
  "saved_ngrams",
  "trees",
)
