# SPDX-License-Identifier: Apache-2.0
"""The step at which training diverged, kept in a file to be looked into.

The file holds what the step was given, which is all that it depends on: the
parameters before it, its batch and its random key. `replay` takes the step's
gradient again and says which figures and which parameters it is not finite for.
"""

from collections.abc import Callable
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from jaxttc import mesh as mesh_lib
from jaxttc.training import accumulation

_PARTS = ("params", "batch")


class Diverged(NamedTuple):
  """A step whose figures were not finite.

  Attributes:
    step: its number, from 1, as in the metrics.
    figures: what it computed, by name; some are not finite.
    params: the parameters before it.
    batch: what it was trained on.
    key: its random key.
    accumulate: parts that its batch was taken in.
  """

  step: int
  figures: dict[str, float]
  params: Any
  batch: Any
  key: jax.Array
  accumulate: int = 1


def save(workdir: str | os.PathLike[str], found: Diverged) -> pathlib.Path:
  """Writes `workdir/diverged-<step>.safetensors`, and returns its path.

  If arrays span processes, all must call it; the first one writes.
  """
  path = pathlib.Path(workdir) / f"diverged-{found.step}.safetensors"
  arrays = {"key": jax.random.key_data(found.key)}
  for part in _PARTS:
    for place, leaf in jax.tree.leaves_with_path(getattr(found, part)):
      arrays[part + jax.tree_util.keystr(place)] = leaf
  arrays = {
    name: np.ascontiguousarray(x) for name, x in mesh_lib.fetch(arrays).items()
  }
  about = {
    "step": found.step,
    "figures": {name: str(value) for name, value in found.figures.items()},
    "key": str(jax.random.key_impl(found.key)),
    "accumulate": found.accumulate,
  }
  if mesh_lib.is_first():
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    safetensors.numpy.save_file(
      arrays, partial, metadata={"diverged": json.dumps(about)}
    )
    os.replace(partial, path)
  return path


def read(path: str | os.PathLike[str], params: Any, batch: Any) -> Diverged:
  """Reads back what `save` wrote.

  Args:
    path: the file.
    params: a tree like the parameters, of arrays or of shapes
      (`jax.eval_shape(init_params, key)`).
    batch: a tree like the batch, such as `batches(0)`.

  Raises:
    ValueError: if the file is missing or no such file, or holds other arrays.
  """
  try:
    with safetensors.safe_open(path, framework="np") as file:
      about = json.loads((file.metadata() or {})["diverged"])
      arrays = {name: file.get_tensor(name) for name in file.keys()}
  except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
    raise ValueError(
      f"{path}: expected the file of a step that diverged: {error}"
    ) from None
  trees = [
    _filled(path, arrays, part, tree)
    for part, tree in zip(_PARTS, (params, batch), strict=True)
  ]
  return Diverged(
    step=about["step"],
    figures={name: float(text) for name, text in about["figures"].items()},
    params=trees[0],
    batch=trees[1],
    key=jax.random.wrap_key_data(arrays["key"], impl=about["key"]),
    accumulate=about["accumulate"],
  )


def replay(
  objective: Callable[[Any, Any, jax.Array], tuple[jax.Array, dict]],
  found: Diverged,
) -> tuple[dict[str, float], dict[str, int]]:
  """Takes the gradient of the step again.

  Args:
    objective: that of the run, or one that is to do better.
    found: from `read`.

  Returns:
    Its metrics, and for each parameter whose gradient is not finite how many
    of its numbers are not, by path.
  """
  descend = accumulation.gradients(objective, found.accumulate)
  grads, metrics = jax.jit(descend)(found.params, found.batch, found.key)
  bad = jax.tree.map(lambda x: (~jnp.isfinite(x)).sum(), grads)
  counts = {
    jax.tree_util.keystr(place, simple=True, separator="/"): int(count)
    for place, count in jax.tree.leaves_with_path(bad)
  }
  return (
    {name: float(value) for name, value in metrics.items()},
    {name: count for name, count in counts.items() if count},
  )


def _filled(path, arrays, part, tree):
  leaves, shape = jax.tree_util.tree_flatten_with_path(tree)
  filled = []
  for place, leaf in leaves:
    name = part + jax.tree_util.keystr(place)
    array = arrays.get(name)
    wanted = f"{leaf.dtype}{list(leaf.shape)}"
    held = "nothing"
    if array is not None:
      held = f"{array.dtype}{list(array.shape)}"
    if held != wanted:
      raise ValueError(f"{path}: {name} is {held}, expected {wanted}")
    filled.append(array)
  return jax.tree.unflatten(shape, filled)
