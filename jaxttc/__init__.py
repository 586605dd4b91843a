# SPDX-License-Identifier: Apache-2.0
"""jaxttc: compute budgets as values.

The rooms of the library are loaded when they are first used, so `import jaxttc`
is quick and does not import JAX:

    import jaxttc
    jaxttc.cost.Budget(generated_tokens=500)   # loads jaxttc.cost
"""

import difflib
import importlib
import types

__version__ = "0.1.0"

__all__ = [
  "agents",
  "allocators",
  "arguments",
  "checkpoints",
  "cost",
  "decoders",
  "evaluation",
  "host_memory",
  "inference",
  "mesh",
  "models",
  "page",
  "predictors",
  "results",
  "runtime",
  "script",
  "serving",
  "simulation",
  "solving",
  "studies",
  "tasks",
  "testing",
  "training",
  "verifiers",
]


def __getattr__(name: str) -> types.ModuleType:
  if name in __all__:
    return importlib.import_module(f"{__name__}.{name}")
  near = difflib.get_close_matches(name, __all__, n=1)
  hint = f"; did you mean {near[0]!r}?" if near else ""
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
  return [*__all__, "__version__"]
