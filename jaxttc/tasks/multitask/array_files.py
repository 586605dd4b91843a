# SPDX-License-Identifier: Apache-2.0
"""NumPy's .npy files of numbers, read whole or refused by one line.

What does not agree with the length that the header says is refused. Nothing
that is read can run code: pickled arrays are refused.
"""

import io
import math
import pathlib

import numpy as np

from jaxttc.tasks.multitask import image_files


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


def _line(error: Exception) -> str:
  return " ".join(str(error).split()) or type(error).__name__
