# SPDX-License-Identifier: Apache-2.0
"""Pickled data frames, read without letting the pickle name any other code.

A pickle names functions that reading it calls. Here it may name what a data
frame of numbers and of texts as Python objects is made of, and nothing else;
RouterBench's is one. Frames whose texts are kept by Arrow are refused, as its
buffers could point anywhere.
"""

import pathlib
import pickle
from typing import Any

_ALLOWED = {
  ("__builtin__", "slice"),  # of protocols below 3
  ("_codecs", "encode"),
  ("builtins", "slice"),
  ("numpy", "dtype"),
  ("numpy", "ndarray"),
  ("numpy._core.multiarray", "_reconstruct"),
  ("numpy._core.multiarray", "scalar"),
  ("numpy._core.numeric", "_frombuffer"),
  ("pandas._libs.internals", "_unpickle_block"),
  ("pandas", "DataFrame"),
  ("pandas", "Index"),
  ("pandas", "RangeIndex"),
  ("pandas.core.frame", "DataFrame"),  # the names that pandas before 3 wrote
  ("pandas.core.indexes.base", "Index"),
  ("pandas.core.indexes.base", "_new_Index"),
  ("pandas.core.indexes.range", "RangeIndex"),
  ("pandas.core.internals.managers", "BlockManager"),
}


class _Unpickler(pickle.Unpickler):
  def find_class(self, module: str, name: str) -> Any:
    # NumPy before 2 had the same functions under another name.
    module = module.replace("numpy.core.", "numpy._core.")
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(
        f"names {module}.{name}, which is not allowed; where you trust it, "
        "save it as .csv or .parquet"
      )
    return super().find_class(module, name)


def load(path: pathlib.Path) -> Any:
  """The data frame of a pickle file; needs pandas.

  Raises:
    ValueError: naming the file, if it is missing, damaged, names anything that
      a data frame of numbers and text is not made of, or holds no data frame.
  """
  import pandas

  try:
    with open(path, "rb") as file:
      frame = _Unpickler(file).load()
  except Exception as error:  # a damaged pickle raises almost anything
    line = " ".join(str(error).split()) or type(error).__name__
    raise ValueError(f"{path}: cannot be read: {line}") from None
  if not isinstance(frame, pandas.DataFrame):
    raise ValueError(f"{path}: holds no data frame")
  return frame
