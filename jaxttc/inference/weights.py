# SPDX-License-Identifier: Apache-2.0
"""Model weights in safetensors files: nested parameters in, the same out.

A parameter's name in the file is its path joined with dots
(`layers_0.attention.query.kernel`). Nothing is ever pickled. The same
parameters and metadata give the same bytes.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import struct
from typing import Any
import uuid

from flax import traverse_util
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

Params = Mapping[str, Any]  # nested; the leaves are arrays

_FLOATS = tuple(
  map(np.dtype, (np.float16, np.float32, np.float64, ml_dtypes.bfloat16))
)
_INTEGERS = tuple(
  np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)
)


def save_safetensors(
  path: str | os.PathLike[str],
  params: Params,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes parameters and metadata to one file, all or nothing.

  The file appears under its name when it is complete; a crash leaves what was
  there before.

  Args:
    path: the file; its folder must exist.
    params: nested dict of arrays of any shape: booleans, integers, floats
      (bfloat16 included).
    metadata: any text by any name.

  Raises:
    ValueError: if a name is empty or holds a dot, a branch is empty, a leaf is
      no array that safetensors can hold, or the folder is missing.
    TypeError: if metadata holds anything but text.
  """
  tensors = _flatten(params)
  for name, text in (metadata or {}).items():
    if not isinstance(name, str) or not isinstance(text, str):
      raise TypeError(f"metadata {name!r}: {text!r}; expected text by text")
  save_tensors(pathlib.Path(path), tensors, dict(metadata or {}))


def save_tensors(
  path: pathlib.Path, tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
  """Writes named tensors to one file, all or nothing.

  Args:
    path: the file; its folder must exist.
    tensors: contiguous arrays by name.
    metadata: any text by any name.

  Raises:
    ValueError: if the folder is missing, or the file cannot be written.
  """
  if not path.parent.is_dir():
    raise ValueError(f"{path}: no such folder {path.parent}")
  partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
  try:
    safetensors.numpy.save_file(tensors, partial, metadata or None)
    _settle(partial)
    os.replace(partial, path)
  except safetensors.SafetensorError as error:
    raise ValueError(f"{path}: cannot be written: {_line(error)}") from error
  finally:
    partial.unlink(missing_ok=True)


def load_safetensors(
  path: str | os.PathLike[str], abstract_params: Params | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
  """Reads parameters and metadata.

  Args:
    path: the file.
    abstract_params: nested dict of anything with `shape` and `dtype`, as
      `jax.eval_shape(model.init, ...)["params"]` gives. The file must hold
      these tensors, in these shapes, and no others; a floating tensor is cast
      to the floating dtype asked for, other dtypes must agree. None takes
      what there is.

  Returns:
    The nested params, as NumPy arrays on the host (put them on a device, with
    a sharding if need be, before decoding), and the metadata.

  Raises:
    ValueError: if the file is missing, is no complete safetensors file, or
      does not hold what `abstract_params` asks for.
  """
  path = pathlib.Path(path)
  tensors, metadata = _read(path)
  if abstract_params is not None:
    tensors = _conform(path, tensors, abstract_params)
  try:
    return traverse_util.unflatten_dict(tensors, sep="."), metadata
  except (TypeError, AttributeError, IndexError) as error:
    raise ValueError(
      f"{path}: a tensor's name is also the path to others; expected nested"
      " names joined with dots"
    ) from error


def _flatten(params: Params) -> dict[str, np.ndarray]:
  tensors = {}
  flat = traverse_util.flatten_dict(dict(params), keep_empty_nodes=True)
  for names, leaf in flat.items():
    path = "/".join(map(str, names))
    for name in names:
      if not isinstance(name, str) or not name or "." in name:
        raise ValueError(
          f"params {path}: name {name!r}; expected text without dots"
        )
    if leaf is traverse_util.empty_node:
      raise ValueError(f"params {path}: empty dict; expected arrays in it")
    tensors[".".join(names)] = _host(path, leaf)
  if not tensors:
    raise ValueError("params is empty; expected at least one array")
  return tensors


def _host(path: str, leaf: Any) -> np.ndarray:
  dtype = getattr(leaf, "dtype", None)
  # NumPy reads None as float64, so a missing dtype is told apart first.
  if dtype is None or dtype not in (np.dtype(bool), *_INTEGERS, *_FLOATS):
    raise ValueError(
      f"params {path}: {type(leaf).__name__} of dtype {dtype}; expected an"
      " array of booleans, integers, or floats of 16 bits or more"
    )
  # asarray keeps a scalar a scalar; ascontiguousarray would add an axis.
  return np.asarray(leaf, order="C")


def _settle(path: pathlib.Path) -> None:
  """Sorts the metadata, which the library writes in any order; and syncs.

  The header is the length of a JSON text (u64, little endian), then the text.
  Sorting leaves its length as it was, so the tensors stay where they are.
  """
  with path.open("r+b") as file:
    (size,) = struct.unpack("<Q", file.read(8))
    text = file.read(size)
    header = json.loads(text)
    if "__metadata__" in header:
      header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
      compact = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
      ordered = compact.encode().ljust(size)
      if len(ordered) == size:  # else escaped in some other way: leave it
        file.seek(8)
        file.write(ordered)
    file.flush()
    os.fsync(file.fileno())


def _read(path: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  if not path.is_file():
    what = "a folder" if path.is_dir() else "no such file"
    raise ValueError(f"{path}: {what}; expected a safetensors file")
  try:
    with safetensors.safe_open(path, framework="np") as file:
      metadata = dict(file.metadata() or {})
      return {name: file.get_tensor(name) for name in file.keys()}, metadata
  except (safetensors.SafetensorError, AttributeError, OSError) as error:
    raise ValueError(
      f"{path}: not a whole safetensors file ({path.stat().st_size} bytes):"
      f" {_line(error)}"
    ) from error


def _conform(
  path: pathlib.Path, tensors: dict[str, np.ndarray], abstract: Params
) -> dict[str, np.ndarray]:
  """The tensors, cast; or a ValueError that names up to three that differ."""
  wanted = traverse_util.flatten_dict(dict(abstract), sep=".")
  refuse(path, "missing tensors", sorted(wanted.keys() - tensors.keys()))
  refuse(path, "unexpected tensors", sorted(tensors.keys() - wanted.keys()))
  bad = [
    f"{name} is {tensors[name].shape}, expected {tuple(spec.shape)}"
    for name, spec in wanted.items()
    if tensors[name].shape != tuple(spec.shape)
  ]
  refuse(path, "ill-shaped tensors", bad)
  bad = [
    f"{name} is {tensors[name].dtype}, expected {np.dtype(spec.dtype)}"
    for name, spec in wanted.items()
    if not _castable(tensors[name].dtype, np.dtype(spec.dtype))
  ]
  refuse(path, "ill-typed tensors", bad)
  return {
    name: tensors[name].astype(spec.dtype, copy=False)
    for name, spec in wanted.items()
  }


def _castable(given: np.dtype, wanted: np.dtype) -> bool:
  return given == wanted or (given in _FLOATS and wanted in _FLOATS)


def refuse(path: pathlib.Path, what: str, found: list[str]) -> None:
  """Raises ValueError that names up to three of what was found, if any."""
  if found:
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    raise ValueError(f"{path}: {what}: {', '.join(found[:3])}{more}")


def _line(error: Exception) -> str:
  return " ".join(str(error).split())
