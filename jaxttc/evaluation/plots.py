# SPDX-License-Identifier: Apache-2.0
"""Pictures: accuracy against cost, and one search tree.

They are set up and written as `page` says.
"""

from collections.abc import Sequence
import os

import numpy as np

from jaxttc import page
from jaxttc.evaluation import curve_picture, tables, tree_picture


def accuracy_against_cost(
  points: Sequence[tables.Point],
  field: str,
  path: str | os.PathLike[str],
  *,
  title: str = "Accuracy against cost",
) -> None:
  """Draws accuracy against one cost, every method with its interval.

  A method's line joins, budget by budget, its most accurate setting; its
  other settings are faint dots. The grey staircase is the Pareto front of all
  points. Points that cost nothing stand left of the log axis, above "0".

  Args:
    points: points of all methods, from `tables.summarise`.
    field: the cost axis.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).
    title: first half of the title; problems and seeds follow.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if there are no points, or one lacks the cost field.
  """
  _check_points(points, [field])
  with page.style():
    figure = page.figure(4.6)
    axes = figure.subplots()
    curve_picture.draw(axes, points, field, labels=9)
    axes.set_title(f"{title} ({_evidence(points)})", pad=12)
    handles, labels = curve_picture.legend_entries(axes)
    axes.legend(handles, labels, loc="center left", bbox_to_anchor=(1.01, 0.5))
    page.save(figure, path)


def comparison(
  points: Sequence[tables.Point],
  path: str | os.PathLike[str],
  *,
  fields: Sequence[str] = ("generated_tokens", "verifier_calls", "flops"),
  title: str = "Accuracy against cost",
) -> None:
  """Draws accuracy against several costs, in panels side by side.

  Args:
    points: points of all methods, from `tables.summarise`.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).
    fields: the cost axes, one a panel.
    title: first half of the title; problems and seeds follow.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if there are no points, no fields, or a point lacks a field.
  """
  if not fields:
    raise ValueError("comparison: expected at least one cost field")
  _check_points(points, fields)
  with page.style():
    figure = page.figure(4.2)
    panels = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(panels, fields, strict=True):
      curve_picture.draw(axes, points, field, labels=5)
    for axes in panels[1:]:
      axes.set_ylabel("")
    handles, labels = curve_picture.legend_entries(panels[0])
    figure.legend(
      handles,
      labels,
      loc="outside lower center",
      ncols=min(len(labels), 5),
      columnspacing=1.4,
      handletextpad=0.5,
    )
    figure.suptitle(
      f"{title} ({_evidence(points)})", x=0.01, ha="left", fontsize=11
    )
    page.save(figure, path)


def search_tree(
  parent: Sequence[int] | np.ndarray,
  reward: Sequence[float] | np.ndarray,
  status: Sequence[int] | np.ndarray,
  order: Sequence[int] | np.ndarray,
  labels: Sequence[str] | None,
  path: str | os.PathLike[str],
  highlight: int = -1,
  *,
  title: str = "",
) -> None:
  """Draws a search tree from left to right, a box a node.

  A box holds the step's text and is coloured by the verifier's reward. The
  number before it says when the node was extended (1 is first). Whole
  solutions end in a bar, nodes that were never extended are dashed, and the
  path to `highlight` is bold.

  Args:
    parent: i32[N], id of the parent, less than the node's own id; -1 for the
      root, which is node 0. Slots beyond the tree are EMPTY.
    reward: f32[N], in [0, 1].
    status: i8[N], values of `decoders.tree.Status`: 0 empty, 1 open, 2
      closed, 3 finished.
    order: i32[N], when the node was extended, from 0; -1 if never.
    labels: text of each node's step, shortened to fit; None for no text.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).
    highlight: node whose path from the root is emphasised; -1 for none.
    title: title of the picture.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if lengths differ, a parent does not come before its child,
      or `highlight` is not a node.
  """
  nodes = tree_picture.layout(parent, reward, status, order, labels, highlight)
  with page.style():
    figure = page.figure(tree_picture.height(nodes))
    axes = figure.subplots()
    tree_picture.draw(axes, nodes)
    if title:
      axes.set_title(title, pad=8)
    page.save(figure, path)


def _evidence(points: Sequence[tables.Point]) -> str:
  problems = _span([point.problems for point in points])
  seeds = _span([point.seeds for point in points])
  levels = _span([round(100 * point.level) for point in points])
  noun = "seed" if seeds == "1" else "seeds"
  return f"{problems} problems, {seeds} {noun}, {levels}% intervals"


def _span(values: list[int]) -> str:
  low, high = min(values), max(values)
  return str(low) if low == high else f"{low}-{high}"


def _check_points(
  points: Sequence[tables.Point], fields: Sequence[str]
) -> None:
  if not points:
    raise ValueError("there are no points to draw")
  for point in points:
    for field in fields:
      if field not in point.cost:
        known = set(point.cost)
        raise ValueError(tables.unknown_name("cost field", field, known))
