# SPDX-License-Identifier: Apache-2.0
"""The numbers of a graph by path: read, replaced, and checked.

A path is the name of a stage or link and the field, as in `Level-1.reduction`,
`Level-1.classifier.skill` or `Level-1->Store.energy`; the graph's own numbers
have their bare names, as `year`.
"""

from collections.abc import Mapping
import difflib
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Ranges by field: least, most, whether each end itself is allowed.
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
  "sample_rate": (0, math.inf, False, False),
  "reduction": (1, math.inf, True, False),
  "compression": (0, 1, True, False),
  "parallelism": (0, math.inf, False, False),
  "variance": (0, math.inf, False, False),
  "prevalence": (0, 1, False, False),
  "lifetime_s": (0, math.inf, False, False),
  "scale": (0, math.inf, False, False),
  "loading": (-1, 1, False, False),
}
# These may have any finite value.
_FREE = frozenset(
  {
    "skill",
    "skill_boost",
    "year",
    "coefficients",
    "scores",
    "irrelevant",
    "relevant",
  }
)


def read(graph: Any) -> dict[str, Any]:
  """All numbers of a graph by path."""
  leaves = jax.tree_util.tree_leaves_with_path(graph)
  return {_path(graph, keys): leaf for keys, leaf in leaves}


def replace(graph: Any, values: Mapping[str, Any]) -> Any:
  """The graph with the numbers at some paths replaced; unchecked.

  Raises:
    ValueError: if a path is not in the graph.
  """
  known = read(graph)
  for path in values:
    require(known, path)
  return jax.tree_util.tree_map_with_path(
    lambda keys, leaf: values.get(_path(graph, keys), leaf), graph
  )


def require(known: Mapping[str, Any], path: str) -> None:
  """Raises ValueError, with the nearest name, if a path is not known."""
  if path not in known:
    near = difflib.get_close_matches(path, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"the graph has no number {path!r}{hint}")


def check(graph: Any) -> None:
  """Checks that every number is in its range.

  Raises:
    ValueError: naming the path, the number and what was expected.
  """
  for path, value in read(graph).items():
    check_values(path, value)


def check_values(path: str, values: Any) -> None:
  """Checks one or more values of the number at a path.

  Raises:
    ValueError: naming the path, the number and what was expected.
  """
  column = np.atleast_1d(np.asarray(values, np.float64))
  field = path.rsplit(".", 1)[-1].split("[")[0]
  if field in _FREE:
    low, high, closed_low, closed_high = -math.inf, math.inf, False, False
  else:
    default = (0, math.inf, True, False)
    low, high, closed_low, closed_high = _RANGES.get(field, default)
  good = (column >= low) if closed_low else (column > low)
  good &= (column <= high) if closed_high else (column < high)
  if not good.all():
    ends = f"{'[' if closed_low else '('}{low:g}, {high:g}"
    raise ValueError(
      f"{path} is {column[~good][0]:g}, expected a number in {ends}"
      f"{']' if closed_high else ')'}"
    )


def as_floats(graph: Any) -> Any:
  """The graph with every number an array of the default float type."""
  return jax.tree.map(lambda x: jnp.asarray(x, float), graph)


def _path(graph: Any, keys: tuple[Any, ...]) -> str:
  """Names a leaf by its keys: .stages[3].classifier.skill and so on."""
  first = keys[0].name
  if first not in ("stages", "links"):
    return first
  owner = getattr(graph, first)[keys[1].idx].name
  field = jax.tree_util.keystr(keys[2:])
  return f"{owner}{field}"
