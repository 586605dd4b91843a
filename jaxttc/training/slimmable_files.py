# SPDX-License-Identifier: Apache-2.0
"""Slimmable networks as files: weights, and in their metadata what they are."""

import json
from typing import Any, NamedTuple

import jax

from jaxttc.inference import weights
from jaxttc.models import slimmable

_KIND = "slimmable"


class Stored(NamedTuple):
  """A network read from a file.

  Attributes:
    spec: the network.
    params: its parameters.
    recipe: how it was trained; empty if nobody said.
    statistics: {"batch_stats": ..} of a network with batch norms and one
      width, if they lie in the file; else empty. `network.apply` takes them
      beside "params".
  """

  spec: slimmable.NetworkSpec
  params: Any
  recipe: dict[str, Any]
  statistics: dict[str, Any]


def save(
  path: str,
  spec: slimmable.NetworkSpec,
  params: Any,
  recipe: dict[str, Any] | None = None,
  statistics: dict[str, Any] | None = None,
) -> None:
  """Writes one .safetensors file that explains itself.

  Args:
    path: the file.
    spec: the network.
    params: its parameters.
    recipe: how it was trained.
    statistics: {"batch_stats": ..}, measured at its one width; see
      `slimmable.recalibrate`.

  Raises:
    ValueError: if it cannot be written.
  """
  weights.save_safetensors(
    path,
    params | (statistics or {}),
    {
      "kind": _KIND,
      "statistics": json.dumps(sorted(statistics or {})),
      "network": json.dumps(spec.to_dict()),
      "recipe": json.dumps(recipe or {}),
    },
  )


def load(path: str) -> Stored:
  """Reads what `save` wrote.

  Raises:
    ValueError: naming the file, if it is missing or damaged, holds something
      else, or its tensors do not fit the network it describes.
  """
  _, metadata = weights.load_safetensors(path)
  if metadata.get("kind") != _KIND:
    raise ValueError(
      f"{path}: expected a slimmable network (scripts/train.py "
      f"--config=configs/slimmable_*.py --export), got kind "
      f"{metadata.get('kind')!r}"
    )
  try:
    spec = slimmable.NetworkSpec.from_dict(json.loads(metadata["network"]))
    network = spec.build()
    recipe = json.loads(metadata.get("recipe", "{}"))
    collections = json.loads(metadata.get("statistics", "[]"))
  except (KeyError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from None
  expected = jax.eval_shape(
    lambda key: slimmable.init(network, key), jax.random.key(0)
  )
  if collections:
    expected = expected | _statistics(network, expected)
  found, _ = weights.load_safetensors(path, expected)
  statistics = {name: found[name] for name in collections}
  params = {k: v for k, v in found.items() if k not in statistics}
  return Stored(spec, params, recipe, statistics)


def _statistics(network: slimmable.MultiTaskNetwork, params: Any) -> Any:
  """Shapes of the statistics of batch norms at full width."""
  counts = network.space.counts(network.space.uniform())
  inputs = jax.ShapeDtypeStruct((1, *network.input_shape), "float32")
  return jax.eval_shape(
    lambda params, inputs: network.apply(
      {"params": params}, inputs, counts, train=True, mutable=["batch_stats"]
    )[1],
    params,
    inputs,
  )
