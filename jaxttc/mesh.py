# SPDX-License-Identifier: Apache-2.0
"""The one place that knows devices: meshes, and data parallelism over them.

A mesh has two axes: "data", over which independent rows (problems, requests,
training examples) are split, and "tensor", over which one row's matrices may
be split. Both are Auto axes: inside `jit` the compiler places what carries no
sharding of its own. (Explicit axes do not serve Flax's `Embed`.)
"""

from collections.abc import Callable, Sequence
import functools
import json
import re
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

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


def parse(text: str) -> jax.sharding.Mesh | None:
  """The mesh that a flag such as "data=4,tensor=2" asks for.

  Args:
    text: sizes of axes, in any order; "tensor" is 1 if it is not named, and
      "data" takes all devices that "tensor" leaves. "" asks for one device,
      or, if there are several processes, for all along "data".

  Returns:
    A mesh over all devices of all processes; None for one device.

  Raises:
    ValueError: for an axis that is unknown or named twice, a size that is no
      whole number above 0, or sizes that do not multiply to the devices.
  """
  if not text:
    return make_mesh() if jax.process_count() > 1 else None
  sizes: dict[str, int] = {}
  for part in text.split(","):
    name, equals, size = (word.strip() for word in part.partition("="))
    if name not in (DATA, TENSOR) or not equals:
      raise ValueError(
        f"mesh {text!r}: {part.strip()!r} is no axis; expected data=N, "
        "tensor=N, or both with a comma between"
      )
    if name in sizes:
      raise ValueError(f"mesh {text!r}: {name} is given twice")
    if not size.isdecimal() or int(size) < 1:
      raise ValueError(
        f"mesh {text!r}: {name}={size}; expected a whole number above 0"
      )
    sizes[name] = int(size)
  return make_mesh(sizes.get(DATA), sizes.get(TENSOR, 1))


def data_parallel(
  fn: Callable[..., Any],
  mesh: jax.sharding.Mesh,
  *,
  replicated_argnums: Sequence[int] = (),
  donate_argnums: Sequence[int] = (),
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
    donate_argnums: positions of the arguments whose memory is given up.
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

  run = jax.jit(run, donate_argnums=tuple(donate_argnums))

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


def tensor_parts() -> int:
  """Devices that share each row in the `data_parallel` being traced, or 1."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.shape[TENSOR] if DATA in mesh.manual_axes else 1


def traced_devices() -> int:
  """All devices of the `data_parallel` being traced, or 1."""
  mesh = jax.sharding.get_abstract_mesh()
  return mesh.size if DATA in mesh.manual_axes else 1


def constrain(x: Any, spec: jax.sharding.PartitionSpec) -> Any:
  """Fixes how arrays are split over "tensor" within `data_parallel`.

  Does nothing where rows are not shared: with one device a row, or outside.

  Args:
    x: a pytree of arrays, as the function sees them: without the "data" axis.
    spec: of every leaf; may name "tensor" only.
  """
  return x if tensor_parts() == 1 else jax.lax.with_sharding_constraint(x, spec)


def place(tree: Any, shardings: Any) -> Any:
  """Puts whole arrays where shardings say, on one process or many.

  With several processes, all must give equal trees; nothing is sent between
  them, and nobody checks. An array that lies there already is not copied.

  Args:
    tree: a pytree of arrays, of NumPy or JAX; typed keys too.
    shardings: a sharding, or a pytree prefix of them.
  """
  if jax.process_count() == 1:
    return jax.device_put(tree, shardings)
  wide = jax.tree.broadcast(shardings, tree)
  return jax.tree.map(_place_one, tree, wide)


def _place_one(x, sharding):
  if isinstance(x, jax.Array):
    if x.sharding == sharding or not x.is_fully_addressable:
      return jax.device_put(x, sharding)
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      data = _place_one(jax.random.key_data(x), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  host = np.asarray(x)
  return jax.make_array_from_callback(host.shape, sharding, lambda i: host[i])


def fetch(tree: Any) -> Any:
  """Whole arrays on the host of every process, as NumPy arrays.

  If a mesh spans processes this is a collective: all must call it.

  Args:
    tree: a pytree of arrays, those that span processes all of one mesh.
  """
  leaves, shape = jax.tree.flatten(tree)
  far = [i for i, leaf in enumerate(leaves) if _is_far(leaf)]
  if far:
    gather = _gatherer(leaves[far[0]].sharding.mesh)
    near = gather([leaves[i] for i in far])
    for i, leaf in zip(far, near, strict=True):
      leaves[i] = leaf
  return jax.device_get(jax.tree.unflatten(shape, leaves))


def _is_far(leaf):
  if not isinstance(leaf, jax.Array):
    return False
  return not (leaf.is_fully_addressable or leaf.is_fully_replicated)


@functools.lru_cache(maxsize=8)
def _gatherer(mesh):
  return jax.jit(lambda x: x, out_shardings=jax.NamedSharding(mesh, REPLICATED))


def shard_batch(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Splits the leading axis of every leaf over the "data" axis of the mesh.

  Args:
    tree: a pytree of arrays `[B, ...]`; the whole batch in every process.
    mesh: a mesh of `make_mesh`.

  Returns:
    The tree, of arrays sharded over `mesh`.

  Raises:
    ValueError: if a leaf has no leading axis, or one that is not a multiple of
      the size of "data".
  """
  _check_rows(tree, mesh.shape[DATA], "batch")
  return place(tree, jax.NamedSharding(mesh, BATCH))


def replicate(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Puts the whole of every leaf on every device of the mesh.

  With several processes, all must give equal trees.

  Args:
    tree: a pytree of arrays.
    mesh: a mesh of `make_mesh`.
  """
  return place(tree, jax.NamedSharding(mesh, REPLICATED))


def split_shardings(tree: Any, mesh: jax.sharding.Mesh) -> Any:
  """Shardings under which each device along "data" holds a part of each leaf.

  A leaf is split along the longest of its axes that the devices divide, and is
  whole on all if they divide none.

  Args:
    tree: a pytree of arrays, or of anything with a `shape`.
    mesh: a mesh of `make_mesh`.

  Returns:
    A tree like `tree`, of `NamedSharding`.
  """
  parts = mesh.shape[DATA]

  def of(leaf):
    fits = [i for i, n in enumerate(leaf.shape) if n >= parts and not n % parts]
    if not fits:
      return jax.NamedSharding(mesh, REPLICATED)
    longest = max(fits, key=lambda i: (leaf.shape[i], -i))
    return jax.NamedSharding(mesh, jax.P(*[None] * longest, DATA))

  return jax.tree.map(of, tree)


def join(text: str) -> None:
  """Joins the other processes of a job; before anything else of JAX.

  Args:
    text: "" for a process of its own; "auto" where the launcher says who is
      who (TPU pods, Slurm, Open MPI, Kubernetes); else "HOST:PORT,COUNT,INDEX",
      with the address of process 0, which listens there.

  Raises:
    ValueError: if the text is none of these, or the others cannot be reached.
  """
  if not text:
    return
  found = re.fullmatch(r"([^,\s]+:\d+),(\d+),(\d+)", text)
  if not found and text != "auto":
    raise ValueError(
      f"processes {text!r}: expected 'auto', or HOST:PORT,COUNT,INDEX such as "
      "10.0.0.1:8476,2,0"
    )
  try:
    if text == "auto":
      jax.distributed.initialize()
    else:
      host, count, index = found.groups()
      if not int(index) < int(count):
        raise ValueError(f"index {index} is not below the count {count}")
      jax.distributed.initialize(host, int(count), int(index))
  except (ValueError, RuntimeError) as error:
    first = str(error).strip().splitlines()[0]
    raise ValueError(f"processes {text!r}: {first}") from None


def is_first() -> bool:
  """Whether this process is the one that writes files and speaks."""
  return jax.process_index() == 0


def from_first(make: Callable[[], Any]) -> Any:
  """What `make` returns on process 0, on all processes; a collective.

  So that processes agree on what only one of them can know, such as what is
  in a file.

  Args:
    make: called on process 0 only; returns what JSON can hold.

  Raises:
    ValueError: on all processes, if `make` raises one.
  """
  if jax.process_count() == 1:
    return make()
  said: dict[str, Any] = {}
  if is_first():
    try:
      said = {"value": make()}
    except ValueError as error:
      said = {"error": str(error)}
  text = np.frombuffer(json.dumps(said).encode(), np.uint8)
  share = multihost_utils.broadcast_one_to_all
  whole = np.zeros(int(share(np.int32(text.size))), np.uint8)
  said = json.loads(share(text if is_first() else whole).tobytes())
  if "error" in said:
    raise ValueError(said["error"])
  return said["value"]


def _check_rows(tree: Any, parts: int, what: str) -> None:
  for path, leaf in jax.tree.leaves_with_path(tree):
    shape = getattr(leaf, "shape", ())
    if not shape or shape[0] % parts:
      raise ValueError(
        f"{what}{jax.tree_util.keystr(path)} has shape {tuple(shape)}: "
        f"expected a leading axis that is a multiple of {parts}, the devices "
        "along 'data'"
      )
