# SPDX-License-Identifier: Apache-2.0
"""Fitted heads as plain arrays and a description, for files without pickle."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxttc.predictors.routing import (
  base,
  familiar,
  linear,
  neighbours,
  networks,
  trees,
)

_KINDS: dict[str, type] = {
  kind.__name__: kind
  for kind in (
    base.AtLeast,
    base.Constant,
    familiar.Familiar,
    linear.Linear,
    neighbours.Clusters,
    neighbours.Neighbours,
    networks.Perceptron,
    trees.Trees,
  )
}


def pack(head: base.Head) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What a head is, for JSON, and its arrays by name.

  Raises:
    ValueError: if it is of a kind that cannot be saved.
  """
  if type(head).__name__ not in _KINDS:
    raise ValueError(
      f"a head of kind {type(head).__name__} cannot be saved; expected one of "
      f"{', '.join(sorted(_KINDS))}"
    )
  described: dict[str, Any] = {"kind": type(head).__name__}
  arrays: dict[str, np.ndarray] = {}
  for field in dataclasses.fields(head):
    value = getattr(head, field.name)
    if type(value).__name__ in _KINDS:
      described[field.name], inner = pack(value)
      arrays |= {f"{field.name}.{name}": array for name, array in inner.items()}
    elif isinstance(value, int | float):
      described[field.name] = value
    elif isinstance(value, tuple):  # of layers, each of several arrays
      described[field.name] = [len(layer) for layer in value]
      for number, layer in enumerate(value):
        for place, array in enumerate(layer):
          arrays[f"{field.name}.{number}.{place}"] = np.asarray(array)
    else:
      arrays[field.name] = np.asarray(value)
  return described, arrays


def unpack(
  described: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> base.Head:
  """The head that `pack` described.

  Raises:
    ValueError: if its kind is unknown, or something of it is missing.
  """
  kind = _KINDS.get(str(described.get("kind")))
  if kind is None:
    raise ValueError(
      f"unknown head {described.get('kind')!r}, expected one of "
      f"{', '.join(sorted(_KINDS))}"
    )
  fields: dict[str, Any] = {}
  for field in dataclasses.fields(kind):
    name = field.name
    if name in arrays:
      fields[name] = jnp.asarray(arrays[name])
    elif isinstance(described.get(name), Mapping):
      start = f"{name}."
      inner = {
        key.removeprefix(start): array
        for key, array in arrays.items()
        if key.startswith(start)
      }
      fields[name] = unpack(described[name], inner)
    elif isinstance(described.get(name), list):
      fields[name] = _layers(name, described[name], arrays, kind.__name__)
    elif name in described:
      fields[name] = described[name]
    else:
      raise ValueError(f"a head of kind {kind.__name__} lacks its {name}")
  return kind(**fields)


def _layers(name, sizes, arrays, kind) -> tuple[tuple[Any, ...], ...]:
  """A field of several layers, each of so many arrays."""
  try:
    return tuple(
      tuple(jnp.asarray(arrays[f"{name}.{n}.{i}"]) for i in range(size))
      for n, size in enumerate(sizes)
    )
  except KeyError as missing:
    raise ValueError(f"a head of kind {kind} lacks its {missing}") from None
