# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npy and MATLAB's .mat (version 5 to 7) files, read or refused.

Both formats say how long they are, and compressed .mat data has a checksum;
what does not agree is refused with the file and the byte. Nothing that is
read can run code: pickled arrays are refused, and .mat files hold none.
"""

import io
import math
import pathlib
from typing import Any
import zlib

import numpy as np

from jaxttc.tasks.multitask import image_files

_MAT_HEADER = 128  # text, version, and the order of bytes
_MAT_COMPRESSED = 15
# A MATLAB file with more in one variable is not an annotation of an image.
_MAT_LIMIT = 1 << 30


def read_npy(path: pathlib.Path) -> np.ndarray:
  """The array of numbers in a .npy file.

  Raises:
    ValueError: naming the file, and the byte where it is known, if it is
      missing, damaged, cut short, longer than it says, or holds objects.
  """
  data = image_files.read_bytes(path)
  file = io.BytesIO(data)
  try:
    version = np.lib.format.read_magic(file)
    read_header = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, is_fortran, dtype = read_header(file)
  except Exception as error:  # a damaged header raises almost anything
    raise ValueError(
      f"{path}, byte {file.tell()}: not a .npy header: {_line(error)}"
    ) from None
  if dtype.kind not in "biuf":
    raise ValueError(
      f"{path}: an array of dtype {dtype}; expected numbers (a pickled array "
      "can run any code, and is not read)"
    )
  start = file.tell()
  expected = start + math.prod(shape) * dtype.itemsize
  if len(data) != expected or min(shape, default=0) < 0:
    raise ValueError(
      f"{path}, byte {min(len(data), expected)}: {len(data)} bytes; expected "
      f"{expected} for an array {dtype}{list(shape)}"
    )
  values = np.frombuffer(data, dtype, offset=start)
  if is_fortran:
    return values.reshape(shape[::-1]).T
  return values.reshape(shape)


def write_npy(path: pathlib.Path, values: np.ndarray) -> None:
  """Writes an array of numbers."""
  path.parent.mkdir(parents=True, exist_ok=True)
  np.save(path, values, allow_pickle=False)


def read_mat(path: pathlib.Path, variable: str) -> Any:
  """One variable of a .mat file, as `scipy.io.loadmat` gives it.

  Structs are NumPy records and cells object arrays, both two-dimensional.

  Raises:
    ValueError: naming the file, and the byte where it is known, if it is
      missing, damaged or cut short, of version 7.3 (HDF5), or lacks the
      variable.
  """
  import scipy.io

  data = image_files.read_bytes(path)
  _check_mat(path, data)
  try:
    variables = scipy.io.loadmat(io.BytesIO(data))
  except Exception as error:  # damaged data raises almost anything
    raise ValueError(f"{path}: not a whole .mat file: {_line(error)}") from None
  if variable not in variables:
    found = sorted(name for name in variables if not name.startswith("__"))
    raise ValueError(
      f"{path}: no variable {variable!r}; variables found: "
      f"{', '.join(found) or 'none'}"
    )
  return variables[variable]


def write_mat(path: pathlib.Path, variable: str, value: Any) -> None:
  """Writes one variable, compressed: a dict becomes a struct."""
  import scipy.io

  path.parent.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(path, {variable: value}, do_compression=True, oned_as="row")


def _check_mat(path: pathlib.Path, data: bytes) -> None:
  """Walks the variables: type, length, data; compressed data is unpacked."""
  if data.startswith(b"\x89HDF") or b"MATLAB 7.3" in data[:_MAT_HEADER]:
    raise ValueError(
      f"{path}: a .mat file of version 7.3 (HDF5); expected version 5 to 7, "
      "which MATLAB writes with save(.., '-v7')"
    )
  order = {b"IM": "little", b"MI": "big"}.get(data[126:_MAT_HEADER])
  if order is None:
    raise ValueError(
      f"{path}, byte {min(len(data), 126)}: not a .mat file; expected a "
      "header of version 5"
    )
  at = _MAT_HEADER
  while at < len(data) or at == _MAT_HEADER:
    tag = data[at : at + 8]
    end = at + 8 + int.from_bytes(tag[4:], order)
    if len(tag) < 8 or end > len(data):
      raise ValueError(
        f"{path}, byte {at}: the .mat file is cut short at {len(data)} bytes"
      )
    if int.from_bytes(tag[:4], order) == _MAT_COMPRESSED:
      _check_compressed(path, at, data[at + 8 : end])
    at = end


def _check_compressed(path: pathlib.Path, at: int, packed: bytes) -> None:
  unpacker = zlib.decompressobj()
  try:
    size = len(unpacker.decompress(packed, _MAT_LIMIT))
  except zlib.error as error:
    raise ValueError(
      f"{path}, byte {at}: the .mat file is damaged: {error}"
    ) from None
  if not unpacker.eof:
    why = "too large" if size >= _MAT_LIMIT else "cut short"
    raise ValueError(
      f"{path}, byte {at}: a compressed variable is {why} ({size} bytes "
      f"unpacked; expected its end within {_MAT_LIMIT})"
    )


def _line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
