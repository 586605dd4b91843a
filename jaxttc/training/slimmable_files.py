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
  """

  spec: slimmable.NetworkSpec
  params: Any
  recipe: dict[str, Any]


def save(
  path: str,
  spec: slimmable.NetworkSpec,
  params: Any,
  recipe: dict[str, Any] | None = None,
) -> None:
  """Writes one .safetensors file that explains itself.

  Raises:
    ValueError: if it cannot be written.
  """
  weights.save_safetensors(
    path,
    params,
    {
      "kind": _KIND,
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
  except (KeyError, ValueError) as error:
    raise ValueError(f"{path}: {error}") from None
  expected = jax.eval_shape(
    lambda key: slimmable.init(network, key), jax.random.key(0)
  )
  params, _ = weights.load_safetensors(path, expected)
  return Stored(spec, params, recipe)
