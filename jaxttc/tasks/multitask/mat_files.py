# SPDX-License-Identifier: Apache-2.0
"""MATLAB's .mat files of version 5 to 7: numbers, text and structs.

SciPy writes them. It is not asked to read them, since one wrong byte in a file
can make its reader crash the process; the part of the format that annotations
need is small. A file is a header and elements, each a type, a length in bytes
and data, which is padded to a multiple of eight bytes; an array is an element
of elements: flags, sizes, name and values (MathWorks, "MAT-File Format").
"""

from collections.abc import Iterator
import math
import pathlib
import struct
from typing import Any
import zlib

import numpy as np

from jaxttc.tasks.multitask import image_files

_HEADER = 128  # text, version, and the order of bytes
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
  1: "i1",
  2: "u1",
  3: "i2",
  4: "u2",
  5: "i4",
  6: "u4",
  7: "f4",
  9: "f8",
  12: "i8",
  13: "u8",
}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_STRUCT, _CHARACTERS, _NUMERIC = 2, 4, range(6, 16)
_COMPLEX = 0x0800
# An annotation of an image has no more than this in one variable.
_LARGEST = 1 << 30
_DEEPEST = 8


def read(path: pathlib.Path, variable: str) -> Any:
  """One variable of a file.

  Returns:
    An array of numbers, of the file's dtype; text as a str; structs as a list
    of dicts, in the order of columns.

  Raises:
    ValueError: naming the file and the byte, if it is missing, damaged or cut
      short, of version 7.3 (HDF5), lacks the variable, or holds something
      else in it.
  """
  found = []
  for array in _arrays(path, image_files.read_bytes(path)):
    name, kind, shape = _head(array)
    if name == variable:
      return _value(array, kind, shape)
    found.append(name)
  raise ValueError(
    f"{path}: no variable {variable!r}; variables found: "
    f"{', '.join(found) or 'none'}"
  )


def write(path: pathlib.Path, variable: str, value: Any) -> None:
  """Writes one variable, compressed.

  Args:
    path: the file.
    variable: its name.
    value: an array, text, or a dict for a struct; structured arrays of objects
      are arrays of structs.
  """
  import scipy.io

  path.parent.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(path, {variable: value}, do_compression=True)


def _arrays(path: pathlib.Path, data: bytes) -> Iterator["_Elements"]:
  """Yields the elements of each array."""
  if data.startswith(b"\x89HDF") or b"MATLAB 7.3" in data[:_HEADER]:
    raise ValueError(
      f"{path}: a .mat file of version 7.3 (HDF5); expected version 5 to 7, "
      "which MATLAB writes with save(.., '-v7')"
    )
  order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
  if order is None:
    raise ValueError(
      f"{path}, byte {min(len(data), 126)}: not a .mat file; expected a "
      "header of version 5"
    )
  file = _Elements(str(path), data, order, _HEADER)
  while not file.is_done() or file.at == _HEADER:
    at = file.at
    kind, content = file.take(is_padded=False)
    where = f"{path}, byte {at}"
    if kind == _COMPRESSED:
      content = _unpacked(where, content)
      kind, content = _Elements(f"{where}, unpacked", content, order).take()
    if kind != _MATRIX:
      raise ValueError(f"{where}: element of type {kind}; expected an array")
    yield _Elements(where, content, order)


def _unpacked(where: str, packed: bytes) -> bytes:
  unpacker = zlib.decompressobj()
  try:
    content = unpacker.decompress(packed, _LARGEST)
  except zlib.error as error:
    raise ValueError(f"{where}: the .mat file is damaged: {error}") from None
  if not unpacker.eof:
    why = "too large" if len(content) >= _LARGEST else "cut short"
    raise ValueError(
      f"{where}: a compressed variable is {why} ({len(content)} bytes "
      f"unpacked; at most {_LARGEST} are read)"
    )
  return content


class _Elements:
  """Elements one after the other; none reaches beyond the data."""

  def __init__(self, where: str, data: bytes, order: str, at: int = 0):
    self.where = where
    self.data = data
    self.order = order
    self.at = at

  def is_done(self) -> bool:
    return self.at >= len(self.data)

  def take(self, is_padded: bool = True) -> tuple[int, bytes]:
    """The next element's type and data."""
    start = self.at
    tag = self.data[start : start + 8]
    if len(tag) < 8:
      raise self.error("the .mat file is cut short; expected an element")
    kind, size = struct.unpack(f"{self.order}II", tag)
    begin = start + 8
    if kind >> 16:  # up to four bytes stay in the tag itself
      kind, size = kind & 0xFFFF, kind >> 16
      begin = start + 4
      if size > 4:
        raise self.error(f"{size} bytes in a tag; expected at most 4")
    end = begin + size
    if end > len(self.data):
      raise self.error(
        f"the .mat file is cut short; expected {size} bytes, found "
        f"{len(self.data) - begin}"
      )
    self.at = end + (-end % 8 if is_padded else 0)
    return kind, self.data[begin:end]

  def numbers(self) -> np.ndarray:
    """The next element, as numbers."""
    start = self.at
    kind, data = self.take()
    if kind not in _NUMBERS:
      self.at = start
      raise self.error(f"element of type {kind}; expected numbers")
    dtype = np.dtype(self.order + _NUMBERS[kind])
    if len(data) % dtype.itemsize:
      self.at = start
      raise self.error(f"{len(data)} bytes are no array of {dtype}")
    return np.frombuffer(data, dtype)

  def error(self, why: str) -> ValueError:
    return ValueError(f"{self.where}, byte {self.at}: {why}")


def _head(parts: _Elements) -> tuple[str, int, list[int]]:
  """An array's name, class and sizes; values follow."""
  flags = parts.numbers()
  shape = [int(size) for size in parts.numbers()]
  name = _text(parts, *parts.take())
  if len(flags) != 2 or len(shape) < 2 or min(shape) < 0:
    raise parts.error(f"no array has flags {flags.tolist()}, sizes {shape}")
  kind = int(flags[0]) & (0xFF | _COMPLEX)
  return name, kind, shape


def _value(
  parts: _Elements, kind: int, shape: list[int], depth: int = 0
) -> Any:
  """The value that the elements after an array's head make."""
  if depth > _DEEPEST:
    raise parts.error(f"structs within structs, more than {_DEEPEST} deep")
  if kind in _NUMERIC:
    values = parts.numbers()
    if len(values) != math.prod(shape):
      raise parts.error(f"{len(values)} numbers; expected an array {shape}")
    return values.reshape(shape, order="F")
  if kind == _CHARACTERS and shape[0] <= 1:
    return _text(parts, *parts.take()) if math.prod(shape) else ""
  if kind == _STRUCT:
    return _structs(parts, math.prod(shape), depth)
  raise parts.error(
    f"an array {shape} of class {kind & 0xFF}; expected real numbers, a line "
    "of text, or structs"
  )


def _structs(parts: _Elements, count: int, depth: int) -> list[dict[str, Any]]:
  width = int(parts.numbers().sum())
  kind, data = parts.take()
  # Every field takes at least eight bytes.
  if width < 1 or len(data) % width or count > len(parts.data):
    raise parts.error(f"{count} structs with field names of {width} bytes")
  fields = [
    _text(parts, kind, data[at : at + width].split(b"\0")[0])
    for at in range(0, len(data), width)
  ]
  structs = []
  for _ in range(count if fields else 0):
    values = {}
    for field in fields:
      kind, content = parts.take()
      if kind != _MATRIX:
        raise parts.error(f"element of type {kind}; expected field {field!r}")
      where = f"{parts.where}, field {field!r}"
      inner = _Elements(where, content, parts.order)
      if inner.is_done():  # an empty array may leave out everything
        values[field] = np.zeros((0, 0))
      else:
        _, kind, shape = _head(inner)
        values[field] = _value(inner, kind, shape, depth + 1)
    structs.append(values)
  return structs


def _text(parts: _Elements, kind: int, data: bytes) -> str:
  if kind not in _TEXT:
    raise parts.error(f"element of type {kind}; expected text")
  codec = _TEXT[kind]
  if codec == "utf-16":
    codec += "-le" if parts.order == "<" else "-be"
  try:
    return data.decode(codec)
  except UnicodeDecodeError as error:
    raise parts.error(f"no text in {codec}: {error.reason}") from None
