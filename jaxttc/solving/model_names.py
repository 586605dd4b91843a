# SPDX-License-Identifier: Apache-2.0
"""Models by name, with a width behind it: "nested_lm@0.5"."""

from jaxttc.inference import bundle as bundle_lib


def split(name: str) -> tuple[str, float]:
  """A model's file and width: ("nested_lm", 0.5) of "nested_lm@0.5".

  Raises:
    ValueError: if what is behind the last @ is no number.
  """
  file, at, width = name.rpartition("@")
  if not at:
    return name, 1.0
  try:
    return file, float(width)
  except ValueError:
    raise ValueError(
      f"router: {name!r} has the width {width!r}; expected a number, as in "
      "'nested_lm@0.5'"
    ) from None


def read(
  name: str, dtype: str = "float32", attention: str = "auto"
) -> bundle_lib.Bundle:
  """A language model of this process, cut to its width.

  Args:
    name: a model file or the name of one that ships, maybe with a width.
    dtype: one of `models.precision.NAMES`.
    attention: one of `models.attention_backend.NAMES`.

  Raises:
    ValueError: if the file is missing or damaged, or has no such width.
  """
  file, width = split(name)
  found = bundle_lib.load(file, dtype, attention=attention)
  return found if width == 1 else bundle_lib.narrowed(found, width)
