# SPDX-License-Identifier: Apache-2.0
"""Pickles of plain containers and arrays of numbers, and of nothing else.

A pickle names functions that reading it calls, so an unknown one can run any
code. Here the few names that NumPy's own pickles use stand for constructors
below, which build arrays of numbers and can do nothing else; any other name
is refused. So are the instructions that only objects need.

It is built on the pure Python unpickler: unlike the C one it keeps its table
of seen values in a dict, so that a file of a few bytes cannot ask for
gigabytes, and it knows at which byte it stopped.
"""

import io
import pathlib
import pickle
from typing import Any

import numpy as np

from jaxttc.tasks.multitask import image_files

_REFUSED = (
  pickle.PERSID,
  pickle.BINPERSID,
  pickle.INST,
  pickle.OBJ,
  pickle.NEWOBJ,
  pickle.NEWOBJ_EX,
  pickle.EXT1,
  pickle.EXT2,
  pickle.EXT4,
  pickle.EMPTY_SET,
  pickle.ADDITEMS,
  pickle.FROZENSET,
  pickle.NEXT_BUFFER,
  pickle.READONLY_BUFFER,
)


def load(path: pathlib.Path) -> dict[Any, Any]:
  """The dict that a pickle file holds, text of Python 2 as bytes.

  Args:
    path: a file of any protocol.

  Returns:
    The dict, keyed by text, bytes and numbers. Its values are lists, tuples,
    dicts, text, bytes, numbers, and, as values of the outermost dict only,
    arrays of numbers.

  Raises:
    ValueError: naming the file and the byte, if it is missing, damaged or cut
      short, holds no dict, or names anything but NumPy's arrays.
  """
  data = image_files.read_bytes(path)
  file = _Strict(data)
  try:
    value = _Unpickler(file, encoding="bytes").load()
  except Exception as error:  # a damaged pickle raises almost anything
    line = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"{path}, byte {file.tell()}: {line}") from None
  if file.tell() != len(data):
    raise ValueError(
      f"{path}, byte {file.tell()}: {len(data) - file.tell()} bytes follow the "
      "end of the pickle"
    )
  if type(value) is not dict:
    kind = type(value).__name__.strip("_")
    raise ValueError(f"{path}: a pickled {kind}; expected a dict")
  return {
    key: item.finished(path) if isinstance(item, _Array) else item
    for key, item in value.items()
  }


class _Strict(io.BytesIO):
  """Reads all that is asked for, or raises."""

  def read(self, size: int | None = -1, /) -> bytes:
    data = super().read(size)
    if size is not None and len(data) < size:
      raise EOFError(f"the pickle is cut short; expected {size} more bytes")
    return data

  def readline(self, size: int | None = -1, /) -> bytes:
    line = super().readline(size)
    if not line.endswith(b"\n"):
      raise EOFError("the pickle is cut short; expected the end of a line")
    return line


class _Array:
  """What becomes an array: built by its state, as NumPy's are."""

  __slots__ = ("_values",)

  def __init__(self) -> None:
    self._values: np.ndarray | None = None

  def __setstate__(self, state: tuple) -> None:
    version, shape, dtype, is_fortran, data = state
    if version != 1 or type(data) is not bytes:
      raise ValueError(
        f"a pickled array with {type(data).__name__} elements; expected the "
        "bytes of numbers"
      )
    self.fill(data, dtype, shape, "F" if is_fortran else "C")

  def fill(self, data: bytes, dtype: Any, shape: Any, order: str) -> None:
    if not isinstance(dtype, _DType):
      raise ValueError("a pickled array without a dtype")
    if any(type(size) is not int or size < 0 for size in shape):
      raise ValueError("a pickled array with sizes that are no numbers")
    values = np.frombuffer(data, dtype.value)
    if order == "F":
      self._values = values.reshape(tuple(shape)[::-1]).T
    else:
      self._values = values.reshape(tuple(shape))

  def finished(self, path: pathlib.Path) -> np.ndarray:
    if self._values is None:
      raise ValueError(f"{path}: a pickled array without values")
    return self._values


class _DType:
  """What becomes a dtype; its state holds the order of bytes."""

  __slots__ = ("value",)

  def __init__(self, code: Any):
    text = code.decode("ascii") if isinstance(code, bytes) else code
    name = text if isinstance(text, str) else type(text).__name__
    self.value = np.dtype(text if isinstance(text, str) else "O")
    if self.value.kind not in "biuf":
      raise ValueError(f"a pickled array of dtype {name:.40}; expected numbers")

  def __setstate__(self, state: tuple) -> None:
    order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    self.value = self.value.newbyteorder(order)


class _Constructor:
  """Stands for a name in a pickle; what it can make is below, and no more."""

  __slots__ = ("_name",)

  def __init__(self, name: str):
    self._name = name

  def __call__(self, *arguments: Any) -> Any:
    match self._name, arguments:
      case "_reconstruct", (_Constructor(), _, _):
        return _Array()
      case "_frombuffer", (bytes(data), dtype, shape, str(order), *_):
        array = _Array()
        array.fill(data, dtype, shape, order)
        return array
      case "dtype", (code, *_):
        return _DType(code)
      case "encode", (str(text), "latin1" | b"latin1"):
        return text.encode("latin1")
      case "bytes", ():
        return b""
    raise ValueError(f"{self._name} is called as NumPy's pickles do not")


_NAMES = {
  (module, name): name
  for modules, name in (
    (("numpy",), "ndarray"),
    (("numpy",), "dtype"),
    (("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct"),
    (("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer"),
    # How Python 3 writes bytes for Python 2.
    (("_codecs",), "encode"),
    (("__builtin__", "builtins"), "bytes"),
  )
  for module in modules
}


class _Unpickler(pickle._Unpickler):
  """Refuses instructions that build objects, and all names but `_NAMES`."""

  dispatch = {
    code: step
    for code, step in pickle._Unpickler.dispatch.items()
    if bytes([code]) not in _REFUSED
  }

  def find_class(self, module: str, name: str) -> _Constructor:
    if (module, name) not in _NAMES:
      raise ValueError(
        f"the pickle names {module}.{name}, which is not called; expected "
        "only containers and NumPy's arrays of numbers"
      )
    return _Constructor(name)

  def _refuse(self) -> None:
    raise ValueError(
      "the pickle builds objects; expected only containers and NumPy's arrays "
      "of numbers"
    )

  def _build(self) -> None:
    # Anywhere else, a state would set attributes.
    state = self.stack.pop()
    if not isinstance(self.stack[-1], _Array | _DType):
      self._refuse()
    self.stack[-1].__setstate__(state)

  def _set_items(self, target: Any, items: list[Any]) -> None:
    # Hashing tuples that are nested deep enough crashes the process.
    for key, value in zip(items[::2], items[1::2], strict=True):
      if not isinstance(key, str | bytes | int | float | None):
        raise ValueError(f"a {type(key).__name__} as key of a pickled dict")
      target[key] = value

  def _set_item(self) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    self._set_items(self.stack[-1], [key, value])

  def _set_marked_items(self) -> None:
    items = self.pop_mark()
    self._set_items(self.stack[-1], items)

  def _dict(self) -> None:
    items = self.pop_mark()
    self.append({})
    self._set_items(self.stack[-1], items)

  def _skip_frame(self) -> None:
    # Frames only say how far to read ahead.
    self.read(8)

  def _bytearray(self) -> None:
    size = int.from_bytes(self.read(8), "little")
    self.append(self.read(size))

  dispatch |= dict.fromkeys((code[0] for code in _REFUSED), _refuse)
  dispatch[pickle.BUILD[0]] = _build
  dispatch[pickle.SETITEM[0]] = _set_item
  dispatch[pickle.SETITEMS[0]] = _set_marked_items
  dispatch[pickle.DICT[0]] = _dict
  dispatch[pickle.FRAME[0]] = _skip_frame
  dispatch[pickle.BYTEARRAY8[0]] = _bytearray
