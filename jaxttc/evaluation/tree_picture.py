# SPDX-License-Identifier: Apache-2.0
"""Lays out a search tree from left to right, and draws it.

A column a depth, a row a leaf; an inner node stands in the middle between its
first and its last child. Subtrees own disjoint ranges of rows, so no two boxes
can meet.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

# Values of `decoders.tree.Status`, which this host-only room cannot import.
_EMPTY, _OPEN, _CLOSED, _FINISHED = range(4)

# All lengths are in points (1/72 inch) at full size.
_PAGE = 632.0
_FILL = 0.76  # share of a column that its box takes
_ROW = 20.5
_BOX = 15.0
_FONT = 8.0
_CHARACTER = 0.602 * _FONT  # advance of the monospaced font
_HEADER = 0.95  # inches for title, legend and colour bar


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
  """One box of the picture.

  Attributes:
    id: the node's id in the tree.
    parent: id of its parent; -1 for the root.
    column: its depth.
    row: its height from the top, in rows; leaves stand on whole numbers.
    reward: f32 in [0, 1].
    extended: rank of its extension, from 1; 0 if it was never extended.
    finished: whether it is a whole solution.
    chosen: whether it lies on the emphasised path.
    label: text of its step.
  """

  id: int
  parent: int
  column: int
  row: float
  reward: float
  extended: int
  finished: bool
  chosen: bool
  label: str


def layout(
  parent: Sequence[int] | np.ndarray,
  reward: Sequence[float] | np.ndarray,
  status: Sequence[int] | np.ndarray,
  order: Sequence[int] | np.ndarray,
  labels: Sequence[str] | None,
  highlight: int,
) -> list[Node]:
  """Places the nodes of a tree; see `plots.search_tree` for the arguments.

  Returns:
    The nodes in order of id, root first.

  Raises:
    ValueError: if lengths differ, a parent does not come before its child,
      or `highlight` is not a node.
  """
  state = np.asarray(status)
  count = int((state != _EMPTY).sum())
  columns = [np.asarray(x) for x in (parent, reward, order)]
  sizes = [column.shape for column in columns] + [state.shape]
  if len(set(sizes)) > 1 or state.ndim != 1:
    raise ValueError(f"search tree: arrays differ in shape: {sizes}")
  if labels is not None and len(labels) < count:
    raise ValueError(f"search tree: {len(labels)} labels for {count} nodes")
  parents, rewards, turns = (column[:count].tolist() for column in columns)
  _check_tree(parents, state[:count], highlight)
  depth, row = _places(parents)
  rank = {turn: i + 1 for i, turn in enumerate(sorted({*turns} - {-1}))}
  chosen = _path(parents, highlight)
  return [
    Node(
      id=i,
      parent=int(parents[i]),
      column=depth[i],
      row=row[i],
      reward=float(rewards[i]),
      extended=rank.get(turns[i], 0),
      finished=bool(state[i] == _FINISHED),
      chosen=i in chosen,
      label=labels[i] if labels is not None else "",
    )
    for i in range(count)
  ]


def _check_tree(parents: list[int], state: np.ndarray, highlight: int) -> None:
  if not parents or parents[0] != -1:
    raise ValueError("search tree: node 0 must be the root, with parent -1")
  if (state == _EMPTY).any():
    raise ValueError("search tree: an empty slot lies between the nodes")
  for child, above in enumerate(parents[1:], start=1):
    if not 0 <= above < child:
      raise ValueError(
        f"search tree: node {child} has parent {above}, expected a node "
        "with a lesser id"
      )
  if not -1 <= highlight < len(parents):
    raise ValueError(
      f"search tree: highlight {highlight} is not a node, expected -1.."
      f"{len(parents) - 1}"
    )


def _places(parents: list[int]) -> tuple[list[int], list[float]]:
  """Depth and row of each node."""
  children: list[list[int]] = [[] for _ in parents]
  depth = [0] * len(parents)
  for child, above in enumerate(parents[1:], start=1):
    children[above].append(child)
    depth[child] = depth[above] + 1
  row = [0.0] * len(parents)
  leaves = 0
  stack = [0]
  while stack:  # depth first, top to bottom: leaves get their rows
    node = stack.pop()
    if not children[node]:
      row[node] = float(leaves)
      leaves += 1
    stack.extend(reversed(children[node]))
  for node in reversed(range(len(parents))):  # children come before parents
    if children[node]:
      row[node] = (row[children[node][0]] + row[children[node][-1]]) / 2
  return depth, row


def _path(parents: list[int], node: int) -> set[int]:
  path = set()
  while node >= 0:
    path.add(node)
    node = parents[node]
  return path


def shorten(text: str, width: int) -> str:
  """Text on one line, cut to `width` characters with an ellipsis."""
  line = " ".join(text.split())
  return line if len(line) <= width else line[: max(width - 1, 0)] + "…"


def height(nodes: Sequence[Node]) -> float:
  """Height of the picture in inches."""
  return _HEADER + (max(node.row for node in nodes) + 1) * _ROW / 72


def draw(axes: Axes, nodes: Sequence[Node]) -> None:
  """Draws placed nodes on empty axes, with legend and colour bar."""
  from matplotlib import cm, colormaps, colors

  columns = max(node.column for node in nodes) + 1
  # The last box ends at the page's edge: (columns - 1) pitch + box = page.
  pitch = min(_PAGE / (columns - 1 + _FILL), 170.0)
  box = _FILL * pitch
  shades = colors.LinearSegmentedColormap.from_list(
    "reward", colormaps["RdYlBu"](np.linspace(0.16, 0.88, 64))
  )
  for node in nodes[1:]:
    _draw_edge(axes, nodes[node.parent], node, pitch, box)
  for node in nodes:
    _draw_box(axes, node, shades(node.reward), pitch, box)
  axes.set_xlim(-8, _PAGE + 8)
  rows = max(node.row for node in nodes)
  axes.set_ylim((rows + 0.5) * _ROW, -0.5 * _ROW)
  axes.axis("off")
  _draw_legend(axes, nodes)
  bar = axes.figure.colorbar(
    cm.ScalarMappable(colors.Normalize(0, 1), shades),
    ax=axes,
    orientation="horizontal",
    location="bottom",
    anchor=(1.0, 0.0),
    shrink=0.25,
    aspect=18,
    pad=0.02,
    ticks=[0, 0.5, 1],
  )
  bar.outline.set_visible(False)
  bar.set_label("verifier's reward", fontsize=_FONT + 0.5)
  bar.ax.tick_params(labelsize=_FONT, length=2)


def _draw_edge(
  axes: Axes, above: Node, node: Node, pitch: float, box: float
) -> None:
  from matplotlib import patches
  from matplotlib import path as path_lib

  start = (above.column * pitch + box, above.row * _ROW)
  end = (node.column * pitch, node.row * _ROW)
  middle = (start[0] + end[0]) / 2
  bend = [start, (middle, start[1]), (middle, end[1]), end]
  codes = [path_lib.Path.MOVETO] + [path_lib.Path.CURVE4] * 3
  axes.add_patch(
    patches.PathPatch(
      path_lib.Path(bend, codes),
      fill=False,
      edgecolor="#111111" if node.chosen else "#AAAAAA",
      linewidth=2.4 if node.chosen else 0.9,
      zorder=2 if node.chosen else 1,
    )
  )


def _draw_box(
  axes: Axes,
  node: Node,
  shade: tuple[float, float, float, float],
  pitch: float,
  box: float,
) -> None:
  from matplotlib import patches

  x, y = node.column * pitch, node.row * _ROW
  open_leaf = not (node.extended or node.finished)
  axes.add_patch(
    patches.FancyBboxPatch(
      (x, y - _BOX / 2),
      box,
      _BOX,
      boxstyle="round,pad=0,rounding_size=3.5",
      facecolor=shade,
      edgecolor="#111111" if node.chosen else "#777777",
      linewidth=2.2 if node.chosen else 0.8,
      linestyle=(0, (3, 2)) if open_leaf else "-",
      zorder=3,
    )
  )
  luminance = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2]
  axes.text(
    x + box / 2,
    y,
    shorten(node.label, int((box - 12) / _CHARACTER)),
    color="white" if luminance < 0.48 else "#111111",
    family="DejaVu Sans Mono",
    fontsize=_FONT,
    ha="center",
    va="center_baseline",
    parse_math=False,
    zorder=4,
  )
  if node.finished:
    axes.plot(
      [x + box + 3.5] * 2,
      [y - _BOX / 2, y + _BOX / 2],
      color="#111111",
      linewidth=2.4,
      solid_capstyle="butt",
      zorder=4,
    )
  if node.extended:
    _draw_number(axes, x, y, node.extended)


def _draw_number(axes: Axes, x: float, y: float, number: int) -> None:
  axes.text(
    x,
    y,
    str(number),
    fontsize=6.5,
    color="white",
    ha="center",
    va="center_baseline",
    bbox={"boxstyle": "circle,pad=0.25", "facecolor": "#333333", "lw": 0},
    zorder=5,
  )


def _draw_legend(axes: Axes, nodes: Sequence[Node]) -> None:
  from matplotlib import lines, patches

  handles = [
    lines.Line2D(
      [],
      [],
      ls="",
      marker="o",
      ms=9,
      color="#333333",
      label="turn in which it was extended",
    ),
    patches.Patch(fill=False, ec="#777777", ls="--", label="never extended"),
  ]
  if any(node.finished for node in nodes):
    handles.append(
      lines.Line2D(
        [],
        [],
        ls="",
        marker="|",
        ms=11,
        mew=2.4,
        color="#111111",
        label="whole solution",
      )
    )
  if any(node.chosen for node in nodes):
    handles.append(
      lines.Line2D([], [], lw=2.4, color="#111111", label="path to the answer")
    )
  axes.figure.legend(
    handles=handles,
    loc="lower left",
    ncols=len(handles),
    fontsize=_FONT + 0.5,
    columnspacing=1.2,
    handlelength=1.4,
    handletextpad=0.5,
  )
