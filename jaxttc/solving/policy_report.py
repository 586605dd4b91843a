# SPDX-License-Identifier: Apache-2.0
"""Where the budget of a policy's run went: a table, and a bar a problem."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np
from rich import table as rich_table

from jaxttc import page
from jaxttc.solving import budget_policies, policy_rows

_COLOURS = {
  "prompt": "#BBBBBB",
  "plan": "#CC79A7",
  "think": "#F0E442",
  "answer": "#0072B2",
  "search": "#56B4E9",
  "tries": "#009E73",
  "verify": "#E69F00",
}
_LABELS = {
  "prompt": "read: prompt",
  "plan": "plan: outlines, ratings",
  "think": "decode: the thought before it",
  "answer": "decode: the answer returned",
  "search": "decode: rest of its search, steps before",
  "tries": "decode: other tries",
  "verify": "verify: read, or written to judge",
}
_TOKENS = "generated_tokens"

Rows = Sequence[Mapping[str, Any]]


def table(rows: Rows) -> rich_table.Table:
  """A line an arm: problems, and what was predicted and what came.

  Args:
    rows: of `policy_solving`.
  """
  made = rich_table.Table(title="Arms, means a problem")
  for name in (
    "arm",
    "problems",
    "right",
    "predicted",
    "tokens",
    "predicted",
    "asked twice",
  ):
    made.add_column(name, justify="left" if name == "arm" else "right")
  labels = [_label(row) for row in rows]
  for label in sorted(set(labels)):
    made.add_row(label, *_cells([r for r in rows if _label(r) == label]))
  if len(set(labels)) > 1:
    made.add_section()
    made.add_row("all", *_cells(rows))
  return made


def _label(row: Mapping[str, Any]) -> str:
  if row["arm"] is None:
    return policy_rows.NOT_TRIED
  return budget_policies.Arm(**row["arm"]).label


def _cells(rows: Rows) -> list[str]:
  graded = [row["correct"] for row in rows if row["correct"] is not None]
  right = f"{np.mean(graded):.3f}" if graded else "-"
  forecasts = [row["predicted"]["success"] for row in rows]
  forecasts = [each for each in forecasts if each is not None]
  success = f"{np.mean(forecasts):.3f}" if forecasts else "-"
  tokens = np.mean([row["cost"][_TOKENS] for row in rows])
  expected = np.mean([row["predicted"]["tokens"] for row in rows])
  return [
    str(len(rows)),
    right,
    success,
    f"{tokens:.1f}",
    f"{expected:.1f}",
    str(sum(len(row["tries"]) > 1 for row in rows)),
  ]


def draw(rows: Rows, path: str | os.PathLike[str]) -> None:
  """A stacked bar a problem, over stages, and what more would buy.

  Problems stand by what they generated. Above, tokens by stage; below, the
  predicted gain of a hundred tokens more, in points of success.

  Args:
    rows: of `policy_solving`, at least one.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if there are no rows.
  """
  if not rows:
    raise ValueError("there are no rows to draw")
  rows = sorted(rows, key=lambda r: (r["cost"][_TOKENS], r["stages"]["verify"]))
  with page.style():
    figure = page.figure(5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    _draw_stages(above, rows)
    _draw_next(below, rows)
    page.save(figure, path)


def _draw_stages(axes: Any, rows: Rows) -> None:
  x = np.arange(len(rows))
  bottom = np.zeros(len(rows))
  for stage in policy_rows.STAGES:
    height = np.array([row["stages"][stage] for row in rows], float)
    if not height.any():
      continue
    axes.bar(
      x,
      height,
      width=0.9,
      bottom=bottom,
      color=_COLOURS[stage],
      label=_LABELS[stage],
    )
    bottom += height
  marks = {True: ("o", "#000000", "right"), False: ("x", "#D55E00", "wrong")}
  for right, (mark, colour, label) in marks.items():
    places = [i for i, row in enumerate(rows) if row["correct"] is right]
    if places:
      axes.scatter(
        places,
        bottom[places] + 0.03 * bottom.max(),
        s=11,
        marker=mark,
        color=colour,
        linewidths=0.9,
        label=label,
      )
  untried = sum(row["arm"] is None for row in rows)
  twice = sum(len(row["tries"]) > 1 for row in rows)
  axes.set_ylabel("tokens")
  generated = np.mean([row["cost"][_TOKENS] for row in rows])
  axes.set_title(
    f"Where the budget went: {len(rows)} problems, {generated:.0f} tokens "
    f"generated in the mean, {untried} not tried, {twice} asked again"
  )
  axes.legend(loc="upper left")
  axes.margins(x=0.01)


def _draw_next(axes: Any, rows: Rows) -> None:
  gain = [
    100 * row["next"]["gain_of_100_tokens"] if row["next"] else 0.0
    for row in rows
  ]
  axes.bar(np.arange(len(rows)), gain, width=0.9, color="#CC79A7")
  axes.set_ylabel("points")
  axes.set_xlabel("problems, by tokens generated")
  axes.set_title("What a hundred tokens more would buy, as predicted")
  axes.set_xticks([])
