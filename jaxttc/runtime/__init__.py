# SPDX-License-Identifier: Apache-2.0
"""The driver: takes requests from decoders, batches them, charges the meter."""

from jaxttc.runtime.compiled import CompiledSearch, compiled_search
from jaxttc.runtime.search import SearchResult, solve
from jaxttc.runtime.settings import SearchSettings

__all__ = (
  "CompiledSearch",
  "SearchResult",
  "SearchSettings",
  "compiled_search",
  "solve",
)
