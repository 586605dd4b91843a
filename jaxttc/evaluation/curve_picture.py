# SPDX-License-Identifier: Apache-2.0
"""Draws one panel of accuracy against cost.

Each method keeps its colour and marker in every picture. The colours are close
to Okabe and Ito's, which stay apart for colour-blind readers, and markers
differ too, so that no reading depends on colour.
"""

from collections.abc import Mapping, Sequence
from typing import Any
import zlib

import numpy as np

from jaxttc.evaluation import frontier, tables

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

# Label, colour and marker of each method that the library knows.
_STYLES: Mapping[str, tuple[str, str, str]] = {
  "astar": ("A*", "#D55E00", "o"),
  "particle_filter": ("particle filter", "#0072B2", "s"),
  "beam": ("beam search", "#009E73", "^"),
  "best_of_n": ("best-of-N", "#CC79A7", "D"),
  "weighted_best_of_n": ("weighted best-of-N", "#A4527F", "d"),
  "self_consistency": ("self-consistency", "#56B4E9", "v"),
  "adaptive_sc": ("adaptive SC", "#117733", "<"),
  "particle_gibbs": ("particle Gibbs", "#332288", ">"),
  "mcts": ("MCTS", "#8C6D1F", "P"),
  "rebase": ("REBASE", "#E69F00", "X"),
  "dvts": ("DVTS", "#4B4B9F", "h"),
  "sample": ("single sample", "#777777", "p"),
  "greedy": ("greedy", "#000000", "8"),
}
_SPARE_COLOURS = ("#882255", "#44AA99", "#999933", "#661100", "#6699CC")
_SPARE_MARKERS = ("H", "D", "s", "v", "^")

_FIELDS: Mapping[str, str] = {
  "generated_tokens": "generated tokens per problem",
  "prompt_tokens": "prompt tokens per problem",
  "verifier_tokens": "verifier tokens per problem",
  "verifier_calls": "verifier calls per problem",
  "tool_calls": "tool calls per problem",
  "flops": "FLOPs per problem",
  "bytes": "bytes moved per problem",
  "joules": "joules per problem",
  "dollars": "dollars per problem",
  "seconds": "seconds per problem",
}


def draw(
  axes: Axes, points: Sequence[tables.Point], field: str, labels: int
) -> None:
  """Fills one panel: front, then every method's dots, band and line.

  Args:
    axes: empty matplotlib axes.
    points: points of all methods; they all have the field.
    field: the cost axis.
    labels: how many tick labels the cost axis has room for.
  """
  shown = _Axis(points, field, labels)
  _draw_front(axes, points, field, shown)
  methods = sorted({p.method for p in points}, key=_place)
  for method in methods:
    _draw_method(axes, [p for p in points if p.method == method], shown)
  shown.dress(axes)
  _dress_accuracy(axes)


def _dress_accuracy(axes: Axes) -> None:
  axes.margins(y=0.04)
  low, high = axes.get_ylim()
  axes.set_ylim(max(low, -0.02), min(high, 1.02))
  axes.set_ylabel("accuracy")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


class _Axis:
  """Where costs stand on a log axis that also has a place for 0."""

  def __init__(self, points: Sequence[tables.Point], field: str, labels: int):
    costs = np.array([point.cost[field].value for point in points])
    positive = costs[costs > 0]
    self.field = field
    self.labels = labels
    self.least = float(positive.min()) if positive.size else 1.0
    self.most = float(positive.max()) if positive.size else 1.0
    self.has_zero = bool((costs == 0).any())
    # Left of the least cost by a quarter of the axis, at least a factor 2.
    self.zero = self.least / max(2.0, (self.most / self.least) ** 0.25)

  def place(self, points: Sequence[tables.Point]) -> np.ndarray:
    """The points' places on the axis."""
    costs = np.array([point.cost[self.field].value for point in points])
    return np.where(costs > 0, costs, self.zero)

  @property
  def right(self) -> float:
    """The right end of the axis."""
    return self.most * 1.25

  def _subs(self) -> tuple[float, ...]:
    """Labels in each decade: as many as there is room for."""
    decades = max(np.log10(self.most / self.least), 0.3)
    for subs in ((1.0, 2.0, 5.0), (1.0, 3.0)):
      if len(subs) * decades <= self.labels:
        return subs
    return (1.0,)

  def dress(self, axes: Axes) -> None:
    """Scale, ticks and label."""
    from matplotlib import ticker

    axes.set_xscale("log")
    left = self.zero if self.has_zero else self.least
    axes.set_xlim(left / 1.25, self.right)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=self._subs()))
    axes.xaxis.set_major_formatter(
      ticker.FuncFormatter(
        lambda x, _: _short(x) if x > self.least / 1.5 else ""
      )
    )
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    if self.has_zero:
      axes.axvline(self.zero, color="#BBBBBB", linewidth=0.8, zorder=0)
      axes.text(
        self.zero,
        -0.02,
        "0",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
      )
    axes.set_xlabel(_FIELDS.get(self.field, self.field.replace("_", " ")))


def _draw_front(
  axes: Axes, points: Sequence[tables.Point], field: str, shown: _Axis
) -> None:
  on_front = frontier.pareto(points, field)
  front = [p for p, on in zip(points, on_front, strict=True) if on]
  x = shown.place(front)
  y = np.array([point.accuracy for point in front])
  order = np.argsort(x, kind="stable")
  axes.step(
    np.append(x[order], shown.right),
    np.append(y[order], y.max()),
    where="post",
    color="#444444",
    linewidth=1.2,
    linestyle=(0, (4, 1.5)),
    label="Pareto front",
    zorder=2,
  )


def _draw_method(
  axes: Axes, points: Sequence[tables.Point], shown: _Axis
) -> None:
  label, colour, marker = style(points[0].method)
  best = _best_by_budget(points)
  x = shown.place(best)
  y = np.array([point.accuracy for point in best])
  low = np.array([point.low for point in best])
  high = np.array([point.high for point in best])
  if len(np.unique(x)) > 1:
    axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0)
  else:
    axes.vlines(x, low, high, color=colour, alpha=0.45, linewidth=1.4)
  others = [point for point in points if point not in best]
  if others:
    axes.scatter(
      shown.place(others),
      [point.accuracy for point in others],
      s=9,
      color=colour,
      alpha=0.35,
      linewidths=0,
      zorder=2,
    )
  axes.plot(
    x,
    y,
    color=colour,
    marker=marker,
    markersize=5.5,
    linewidth=1.7,
    markeredgecolor="white",
    markeredgewidth=0.6,
    label=label,
    zorder=3,
  )


def _best_by_budget(points: Sequence[tables.Point]) -> list[tables.Point]:
  """The most accurate setting of each budget, in rising order of budget."""
  best: dict[float, tables.Point] = {}
  for point in points:
    rival = best.get(point.budget)
    if rival is None or point.accuracy > rival.accuracy:
      best[point.budget] = point
  return [best[budget] for budget in sorted(best)]


def style(method: str) -> tuple[str, str, str]:
  """A method's label, colour and marker, the same in every picture.

  Methods that the library does not know get a colour and a marker from a
  checksum of their name.
  """
  if method in _STYLES:
    return _STYLES[method]
  code = zlib.crc32(method.encode())
  colour = _SPARE_COLOURS[code % len(_SPARE_COLOURS)]
  marker = _SPARE_MARKERS[code // 8 % len(_SPARE_MARKERS)]
  return method.replace("_", " "), colour, marker


def _place(method: str) -> tuple[int, str]:
  known = list(_STYLES)
  return (known.index(method) if method in known else len(known), method)


def legend_entries(axes: Axes) -> tuple[list[Any], list[str]]:
  """Methods in their order, the Pareto front last."""
  handles, labels = axes.get_legend_handles_labels()
  return handles[1:] + handles[:1], labels[1:] + labels[:1]


def _short(value: float) -> str:
  """1500 as 1.5k, 2e9 as 2G."""
  for power, suffix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
    if value >= 10**power:
      return f"{value / 10**power:g}{suffix}"
  return f"{value:g}"
