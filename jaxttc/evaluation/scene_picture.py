# SPDX-License-Identifier: Apache-2.0
"""Pictures of multi-task examples: a row each, label beside prediction.

The input comes first, then two panels for every dense task; what is said of a
whole picture stands in words at the end of the row.
"""

from collections.abc import Mapping, Sequence
import os
from typing import Any, NamedTuple

import numpy as np

from jaxttc import page
from jaxttc.tasks.multitask import base

# matplotlib is optional, so its types cannot be named at import time.
Figure = Any
Axes = Any

# Close to Okabe and Ito's colours, which stay apart for colour-blind readers.
_CLASSES = (
  *("#4C4C4C", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2"),
  *("#D55E00", "#CC79A7", "#999999", "#882255", "#44AA99", "#DDCC77"),
)
_UNKNOWN = 0.88  # grey of places without a label
_RIGHT, _WRONG, _QUIET = "#222222", "#B3261E", "#666666"
_WORDS_WIDTH = 1.7  # panels
_PANEL = 1.7  # inches that a panel is wide at most, where examples fit a row


def write(
  tasks: Sequence[base.Task],
  examples: base.Examples,
  predictions: Mapping[str, Any] | None,
  path: str | os.PathLike[str],
  *,
  count: int = 4,
  title: str = "",
) -> None:
  """Draws a few examples: input, and label beside prediction of every task.

  Classes keep their colours in every picture, what is near is bright, and
  places without a label are grey. Answers about a whole picture are written
  beside it, wrong ones in red.

  Args:
    tasks: what to show, in this order.
    examples: a batch whose inputs are f32[B, H, W, 1 or 3].
    predictions: what the network's heads returned, by task; None for labels
      alone.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).
    count: examples to show; fewer if there are fewer.
    title: title of the picture.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if the inputs are no pictures, `count` is not positive, or a
      task has no label or no prediction of the right shape.
  """
  with page.style():
    rows = layout(tasks, examples, predictions, count)
    figure = page.figure(_height(rows))
    _draw(figure, rows)
    if title:
      figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    page.save(figure, path)


class Row(NamedTuple):
  """One example, ready to be drawn.

  Attributes:
    panels: (title, picture f32[H, W, 3] in 0..1) each.
    words: (line, whether the prediction in it is right) each.
  """

  panels: list[tuple[str, np.ndarray]]
  words: list[tuple[str, bool]]


def layout(
  tasks: Sequence[base.Task],
  examples: base.Examples,
  predictions: Mapping[str, Any] | None,
  count: int,
) -> list[Row]:
  """Turns the first `count` examples into pictures and words, a row each.

  Takes and raises what `write` does; needs matplotlib for its colours.
  """
  inputs = np.asarray(examples.inputs)[:count]
  if inputs.ndim != 4 or inputs.shape[-1] not in (1, 3):
    raise ValueError(
      "inputs must be pictures [B, H, W, 1 or 3], got shape "
      f"{np.shape(examples.inputs)}"
    )
  if count < 1 or not len(inputs):
    raise ValueError(f"there must be an example to draw, got count={count}")
  rows = [Row([("input", _stretched(image))], []) for image in inputs]
  for task in tasks:
    value, valid, said = _taken(task, examples, predictions, len(inputs))
    add = _add_panels if task.dense else _add_words
    add(rows, task, value, valid, said)
  return rows


def _taken(task, examples, predictions, count):
  """A task's labels, their validity and predictions, checked."""
  if task.name not in examples.labels:
    raise ValueError(
      f"task {task.name!r} has no labels; there are "
      f"{', '.join(sorted(examples.labels)) or 'none'}"
    )
  value, valid = (np.asarray(x) for x in examples.labels[task.name])
  if predictions is None:
    return value[:count], valid[:count], None
  if task.name not in predictions:
    raise ValueError(
      f"task {task.name!r} has no predictions; there are "
      f"{', '.join(sorted(predictions)) or 'none'}"
    )
  said = np.asarray(predictions[task.name])
  if said.shape != (*valid.shape, task.outputs):
    raise ValueError(
      f"predictions of task {task.name!r} must have shape "
      f"{(*valid.shape, task.outputs)}, got {said.shape}"
    )
  return value[:count], valid[:count], said[:count]


def _add_panels(rows, task, value, valid, said) -> None:
  limits = (0.0, 1.0)
  if task.kind == "depth" and valid.any():
    limits = (float(value[valid].min()), float(value[valid].max()))
  shown = _coloured(task.kind, value, limits)
  shown = np.where(valid[..., None], shown, _UNKNOWN)
  for row, image in zip(rows, shown, strict=True):
    row.panels.append((task.name, image))
  if said is None:
    return
  shown = _coloured(task.kind, _as_label(task.kind, said), limits)
  for row, image in zip(rows, shown, strict=True):
    row.panels.append(("predicted", image))


def _as_label(kind: str, said: np.ndarray) -> np.ndarray:
  """Predictions in the form of labels."""
  if kind in ("classes", "segmentation"):
    return said.argmax(-1)
  if kind in ("edges", "saliency"):
    return 1 / (1 + np.exp(-np.clip(said, -30, 30)))
  if kind == "normals":
    length = np.linalg.norm(said, axis=-1, keepdims=True)
    return said / np.maximum(length, 1e-6)
  return said


def _coloured(kind: str, value: np.ndarray, limits) -> np.ndarray:
  """Labels [B, H, W, ...] as colours f32[B, H, W, 3]."""
  from matplotlib import colormaps, colors

  if kind == "segmentation":
    palette = np.array([colors.to_rgb(c) for c in _CLASSES])
    return palette[value % len(palette)]
  if kind == "normals":  # as usual: red right, green up, blue to the viewer
    return np.clip((value * [1, -1, -1] + 1) / 2, 0, 1)
  if kind == "depth":  # what is near is bright
    low, high = limits
    far = (value[..., 0] - low) / max(high - low, 1e-6)
    return colormaps["viridis"](1 - np.clip(far, 0, 1))[..., :3]
  return colormaps["Greys"](np.clip(value[..., 0], 0, 1))[..., :3]


def _stretched(image: np.ndarray) -> np.ndarray:
  """A picture of any scale as colours; its hues stay."""
  low, high = np.percentile(image, (0.5, 99.5))
  shown = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
  return np.broadcast_to(shown, (*shown.shape[:2], 3))


def _add_words(rows, task, value, valid, said) -> None:
  guesses = value if said is None else _as_label(task.kind, said)
  for i, row in enumerate(rows):
    line = f"{task.name} {_number(value[i]) if valid[i] else 'unknown'}"
    if said is not None:
      line += f", predicted {_number(guesses[i])}"
    wrong = task.kind == "classes" and valid[i] and guesses[i] != value[i]
    row.words.append((line, not wrong))


def _number(value: Any) -> str:
  """Class ids as they are, other numbers to two digits."""
  values = np.ravel(value)
  if np.issubdtype(values.dtype, np.integer):
    return " ".join(map(str, values))
  return " ".join(f"{x:.2g}" for x in values)


def _ratios(row: Row) -> list[float]:
  """Widths of a row's columns."""
  return [1.0] * len(row.panels) + ([_WORDS_WIDTH] if row.words else [])


def _side_by_side(rows: Sequence[Row]) -> int:
  """How many examples stand beside each other."""
  most = round(page.WIDTH / (_PANEL * sum(_ratios(rows[0]))))
  return min(max(most, 1), len(rows))


def _height(rows: Sequence[Row]) -> float:
  """Inches that the rows need."""
  beside = _side_by_side(rows)
  lines = -(-len(rows) // beside)
  return 0.5 + lines * page.WIDTH / (beside * sum(_ratios(rows[0])))


def _draw(figure: Figure, rows: Sequence[Row]) -> None:
  """Fills an empty figure; titles stand above the first examples."""
  beside, ratios = _side_by_side(rows), _ratios(rows[0])
  lines = -(-len(rows) // beside)
  grid = figure.subplots(
    lines, beside * len(ratios), squeeze=False, width_ratios=beside * ratios
  )
  for axes in grid.flat:
    axes.set_axis_off()
  places = grid.reshape(lines * beside, len(ratios))
  for i, row in enumerate(rows):
    for axes, (title, image) in zip(places[i], row.panels, strict=False):
      axes.imshow(image, interpolation="nearest")
      if i < beside:
        colour = _QUIET if title == "predicted" else _RIGHT
        axes.set_title(title, fontsize=9, color=colour, pad=4)
    if row.words:
      _write(places[i, -1], row.words)


def _write(axes: Axes, words: Sequence[tuple[str, bool]]) -> None:
  for i, (line, right) in enumerate(words):
    axes.text(
      0.02,
      1 - (i + 0.5) / len(words),
      line,
      transform=axes.transAxes,
      va="center",
      fontsize=9,
      color=_RIGHT if right else _WRONG,
      weight="normal" if right else "bold",
    )
