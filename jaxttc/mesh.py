# SPDX-License-Identifier: Apache-2.0
"""The one place that knows devices: meshes, and data parallelism over them.

A mesh has two axes: "data", over which independent rows (problems, requests,
training examples) are split, and "tensor", over which one row's matrices may
be split. Both are Auto axes: inside `jit` the compiler places what carries no
sharding of its own. (Explicit axes do not serve Flax's `Embed`.)
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax

DATA = "data"
TENSOR = "tensor"
BATCH = jax.P(DATA)
REPLICATED = jax.P()


def make_mesh(
  data: int | None = None,
  tensor: int = 1,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """Returns a mesh with Auto axes "data" and "tensor".

  Args:
    data: devices along "data"; None takes all that `tensor` leaves.
    tensor: devices along "tensor".
    devices: the devices to use; all devices of all processes if None.

  Raises:
    ValueError: if the sizes do not multiply to the number of devices.
  """
  devices = jax.devices() if devices is None else list(devices)
  if data is None:
    data = len(devices) // tensor if tensor > 0 else 0
  if data < 1 or tensor < 1 or data * tensor != len(devices):
    raise ValueError(
      f"mesh of data={data} x tensor={tensor} does not fit {len(devices)} "
      "devices: the sizes must be at least 1 and multiply to their number"
    )
  auto = jax.sharding.AxisType.Auto
  return jax.make_mesh(
    (data, tensor), (DATA, TENSOR), axis_types=(auto, auto), devices=devices
  )


def data_parallel(
  fn: Callable[..., Any],
  mesh: jax.sharding.Mesh,
  *,
  replicated_argnums: Sequence[int] = (),
  out_specs: Any = BATCH,
) -> Callable[..., Any]:
  """Compiles `fn` to run on each device's share of a batch.

  `fn` is called on every device along "data" with its block `[B / data, ...]`
  of each batch argument and the whole of each replicated one. It may use
  collectives over the axis "data", such as `jax.lax.pmean(loss, "data")`. A
  mesh's "tensor" axis stays with the compiler.

  Args:
    fn: a function of positional pytrees of arrays.
    mesh: a mesh of `make_mesh`.
    replicated_argnums: positions of the arguments that every device gets
      whole; every leaf of the others is split along its leading axis.
    out_specs: a pytree prefix of the result: `BATCH` for outputs that are
      blocks of a batch, `REPLICATED` for outputs that are equal on all devices
      (which is the caller's word: a sum that was not reduced over "data" is
      not noticed).

  Returns:
    A jitted function of whole arguments to whole results.

  Raises:
    ValueError: from the returned function, if the leading axis of a batch
      argument is missing or is not a multiple of the size of "data"; if a
      replicated position is beyond the arguments.
  """
  whole = frozenset(replicated_argnums)

  @jax.jit
  def run(*args: Any) -> Any:
    specs = tuple(REPLICATED if i in whole else BATCH for i in range(len(args)))
    # Off: with it, every loop in `fn` would have to mark what its carry starts
    # from as varying over "data".
    mapped = jax.shard_map(
      fn,
      mesh=mesh,
      in_specs=specs,
      out_specs=out_specs,
      axis_names={DATA},
      check_vma=False,
    )
    return mapped(*args)

  @functools.wraps(fn)
  def checked(*args: Any) -> Any:
    if whole and not 0 <= min(whole) <= max(whole) < len(args):
      raise ValueError(
        f"replicated_argnums {sorted(whole)} with {len(args)} arguments: "
        "positions count from 0"
      )
    for i, argument in enumerate(args):
      if i not in whole:
        _check_rows(argument, mesh.shape[DATA], f"argument {i}")
    return run(*args)

  return checked


def shard_batch(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Splits the leading axis of every leaf over the "data" axis of the mesh.

  With several processes, each gives the rows of its own devices, and gets the
  global array of them all.

  Args:
    tree: a pytree of arrays `[B, ...]`.
    mesh: a mesh of `make_mesh`.

  Returns:
    The tree, of arrays sharded over `mesh`.

  Raises:
    ValueError: if a leaf has no leading axis, or one that is not a multiple of
      this process's share of "data".
  """
  sharding = jax.NamedSharding(mesh, BATCH)
  processes = jax.process_count()
  _check_rows(tree, max(mesh.shape[DATA] // processes, 1), "batch")
  if processes == 1:
    return jax.device_put(tree, sharding)
  return jax.tree.map(
    lambda leaf: jax.make_array_from_process_local_data(sharding, leaf), tree
  )


def replicate(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Puts the whole of every leaf on every device of the mesh.

  With several processes, all must give equal trees.

  Args:
    tree: a pytree of arrays.
    mesh: a mesh of `make_mesh`.
  """
  return jax.device_put(tree, jax.NamedSharding(mesh, REPLICATED))


def _check_rows(tree: Any, parts: int, what: str) -> None:
  for path, leaf in jax.tree.leaves_with_path(tree):
    shape = getattr(leaf, "shape", ())
    if not shape or shape[0] % parts:
      raise ValueError(
        f"{what}{jax.tree_util.keystr(path)} has shape {tuple(shape)}: "
        f"expected a leading axis that is a multiple of {parts}, the devices "
        "along 'data'"
      )
