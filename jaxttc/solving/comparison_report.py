# SPDX-License-Identifier: Apache-2.0
"""Writes what a comparison found: JSON, CSV, pictures and a table."""

from collections.abc import Sequence
import csv
import dataclasses
import pathlib

from rich import box as rich_box
from rich import table as rich_table

from jaxttc import results
from jaxttc.evaluation import frontier, plots, tables
from jaxttc.solving import comparing, comparison_claims
from jaxttc.solving import samples as samples_lib

_AXIS = "generated_tokens"


def write(
  comparison: comparing.Comparison,
  out: str,
  *,
  command: str,
  title: str = "Accuracy against cost",
) -> list[str]:
  """Writes `<out>.json`, `<out>.csv`, `<out>.png` and `search_tree.png`.

  Args:
    comparison: what `comparing.run` returned.
    out: path of the files, without suffix; the tree lies beside them.
    command: the command that was run.
    title: of the picture.

  Returns:
    The paths written, in that order; without a tree there is no fourth.

  Raises:
    ValueError: if a file cannot be written.
  """
  points = tables.summarise(comparison.runs)
  paths = [f"{out}.{suffix}" for suffix in ("json", "csv", "png")]
  try:
    results.write(
      paths[0],
      command=command,
      seeds=sorted({run.seed for run in comparison.runs}),
      data=_data(comparison, points),
      claims=comparison_claims.claims(
        comparison.runs, comparison.controls, comparison.samples
      ),
    )
    _write_csv(paths[1], points)
    plots.comparison(points, paths[2], title=title)
    if comparison.tree is not None:
      paths.append(str(pathlib.Path(out).parent / "search_tree.png"))
      _draw_tree(comparison, paths[3])
  except OSError as error:
    raise ValueError(f"{out}: cannot be written: {error.strerror}") from None
  return paths


def table(points: Sequence[tables.Point]) -> rich_table.Table:
  """The best setting of every method at every budget.

  Costs are means a problem. A star marks what no other point beats in both
  accuracy and tokens.
  """
  shown = rich_table.Table(
    title="Best setting of each method and budget; costs a problem",
    box=rich_box.SIMPLE_HEAD,
    pad_edge=False,
  )
  shown.add_column("method", no_wrap=True)
  shown.add_column("budget", justify="right")
  shown.add_column("accuracy [95%]", no_wrap=True)
  for name in ("tokens", "passes", "MFLOP", "ms"):
    shown.add_column(name, justify="right", no_wrap=True)
  settings = any(point.setting for point in points)
  if settings:
    shown.add_column("setting", overflow="fold")
  front = frontier.pareto(points, _AXIS)
  best: dict[tuple[str, float], tuple[tables.Point, bool]] = {}
  for point, on_front in zip(points, front, strict=True):
    key = (point.method, point.budget)
    if key not in best or point.accuracy > best[key][0].accuracy:
      best[key] = (point, on_front)
  for _, (point, on_front) in sorted(best.items()):
    row = _cells(point, "*" if on_front else " ")
    shown.add_row(*row, *([point.setting] if settings else []))
  return shown


def _cells(point: tables.Point, mark: str) -> list[str]:
  mean = {name: interval.value for name, interval in point.cost.items()}
  return [
    point.method,
    f"{point.budget:g}",
    f"{point.accuracy:.2f} [{point.low:.2f}, {point.high:.2f}] {mark}",
    f"{mean['generated_tokens']:.1f}",
    f"{mean['verifier_calls']:.1f}",
    f"{mean['flops'] / 1e6:.0f}",
    f"{1e3 * mean['seconds']:.0f}",
  ]


def _data(comparison, points):
  data = {
    "points": tables.tidy(points),
    "front": frontier.pareto(points, _AXIS),
    "copied_from_larger_budgets": comparison.copied,
    "savings": [
      {"baseline": baseline, "field": field, **_saving(saving)}
      for baseline in ("best_of_n", "particle_filter")
      for field in (_AXIS, "verifier_calls", "flops")
      for saving in _savings(comparison.runs, baseline, field)
    ],
    "at_k": [
      {"scored_by": kind or "reward model", **row}
      for kind, samples in comparison.samples.items()
      for row in samples_lib.curves(samples)
    ],
  }
  if comparison.controls:
    data["controls"] = tables.tidy(tables.summarise(comparison.controls))
  if "astar" in {run.method for run in comparison.runs}:
    checks = frontier.on_front_at_every_budget(comparison.runs, "astar", _AXIS)
    data["astar_front"] = [
      dataclasses.asdict(check) | {"gap": list(check.gap)} for check in checks
    ]
  return data


def _savings(runs, baseline, field):
  if {"astar", baseline} <= {run.method for run in runs}:
    return frontier.savings(runs, "astar", baseline, field)
  return []


def _saving(saving: frontier.Saving) -> dict[str, object]:
  """A saving as JSON; an interval without a finite end says so in words."""
  ends = {}
  for name in ("value", "low", "high"):
    end = getattr(saving.ratio, name)
    ends[name] = end if end < float("inf") else "unbounded"
  return {
    "accuracy": saving.accuracy,
    "astar_cost": saving.method_cost,
    "baseline_cost": saving.baseline_cost,
    "reached": saving.reached,
    **ends,
  }


def _write_csv(path: str, points: Sequence[tables.Point]) -> None:
  rows = tables.tidy(points)
  with open(path, "w", newline="", encoding="utf-8") as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def _draw_tree(comparison: comparing.Comparison, path: str) -> None:
  problem, result = comparison.tree
  tree = result.tree
  plots.search_tree(
    tree.parent,
    tree.reward,
    tree.status,
    tree.expanded_at,
    [problem.text, *(text.strip() for text in tree.text[1:])],
    path,
    max(tree.chosen, -1),
    title=problem.text,
  )
