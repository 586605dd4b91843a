# SPDX-License-Identifier: Apache-2.0
"""How every picture of the project is set up and written.

Drawn at 9 inches, for a page about 900 pixels wide. Nothing here touches
pyplot or a display: figures are made and written, and the caller's matplotlib
stays as it was.
"""

from collections.abc import Iterator
import contextlib
import os
from typing import Any

# matplotlib is optional, so its types cannot be named at import time.
Figure = Any

WIDTH = 9.0  # inches

_RC = {
  "font.size": 10,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.edgecolor": "#666666",
  "axes.labelcolor": "#222222",
  "axes.titlesize": 11,
  "axes.titlelocation": "left",
  "xtick.color": "#666666",
  "ytick.color": "#666666",
  "xtick.labelcolor": "#222222",
  "ytick.labelcolor": "#222222",
  "legend.frameon": False,
  "legend.fontsize": 9.5,
  "svg.hashsalt": "jaxttc",
}
_DPI = 200


@contextlib.contextmanager
def style() -> Iterator[None]:
  """Draws in the project's style while the context lasts.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  try:
    import matplotlib
  except ImportError as error:
    raise ImportError(
      "pictures need matplotlib; install it with: pip install 'jaxttc[plot]'"
    ) from error
  with matplotlib.rc_context(_RC):
    yield


def figure(height: float) -> Figure:
  """An empty figure, `WIDTH` wide and so many inches high."""
  from matplotlib import figure as figure_lib
  from matplotlib.backends import backend_agg

  made = figure_lib.Figure(figsize=(WIDTH, height), layout="constrained")
  backend_agg.FigureCanvasAgg(made)
  return made


def check(path: str | os.PathLike[str]) -> None:
  """Refuses a picture that could not be written, before it is worked for.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if the suffix is of no format that can be written.
  """
  with style():
    known = sorted(figure(1.0).canvas.get_supported_filetypes())
  suffix = os.path.splitext(os.fspath(path))[1].removeprefix(".").lower()
  if suffix not in known:
    raise ValueError(
      f"{os.fspath(path)}: expected a picture of one of the formats "
      f"{', '.join(known)}"
    )


def save(drawn: Figure, path: str | os.PathLike[str]) -> None:
  """Writes a figure; the suffix names the format (.png, .svg, .pdf)."""
  folder = os.path.dirname(os.fspath(path))
  if folder:
    os.makedirs(folder, exist_ok=True)
  drawn.savefig(path, dpi=_DPI, facecolor="white")
