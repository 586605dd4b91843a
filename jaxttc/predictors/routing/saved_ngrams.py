# SPDX-License-Identifier: Apache-2.0
"""Fitted hashed n-grams as plain arrays and sizes, for files without pickle."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxttc.predictors.routing import hashed_ngrams

_SIZES = ("words", "characters", "bits")
_ARRAYS = ("rarity", "projection", "centre", "scale")


def pack(
  embed: hashed_ngrams.HashedNgrams,
) -> tuple[dict[str, int], dict[str, np.ndarray]]:
  """Its sizes, for JSON, and its arrays by name, in float32."""
  found = {name: getattr(embed, name) for name in _ARRAYS}
  return {name: getattr(embed, name) for name in _SIZES}, {
    name: np.asarray(values, np.float32)
    for name, values in found.items()
    if values is not None
  }


def unpack(
  sizes: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> hashed_ngrams.HashedNgrams:
  """What `pack` took apart.

  Raises:
    KeyError: if a size is missing.
  """
  return hashed_ngrams.HashedNgrams(
    **{name: int(sizes[name]) for name in _SIZES},
    **{name: arrays.get(name) for name in _ARRAYS},
  )
