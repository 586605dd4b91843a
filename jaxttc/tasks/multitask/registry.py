# SPDX-License-Identifier: Apache-2.0
"""Multi-task data sets by name, as recipes say them."""

from collections.abc import Mapping
import inspect
from typing import Any

from jaxttc.tasks.multitask import digits, scenes, vectors

_GENERATORS = {
  "vectors": vectors.Vectors,
  "scenes": scenes.Scenes,
  "digits": digits.Digits,
}
NAMES = tuple(_GENERATORS)


def load(name: str, options: Mapping[str, Any]) -> Any:
  """Builds a data set.

  Args:
    name: one of `NAMES`.
    options: arguments of its constructor.

  Raises:
    ValueError: if the name or an option is unknown, or a value cannot be.
  """
  if name not in _GENERATORS:
    raise ValueError(f"data {name!r} is not one of {', '.join(NAMES)}")
  known = inspect.signature(_GENERATORS[name]).parameters
  unknown = sorted(set(options) - set(known))
  if unknown:
    raise ValueError(
      f"data {name!r} has no option {unknown[0]!r}; expected one of "
      f"{', '.join(known) or 'none'}"
    )
  return _GENERATORS[name](**options)
