# SPDX-License-Identifier: Apache-2.0
import sys

import numpy as np
import pytest

from jaxttc.evaluation import curve_picture, plots, tables
from jaxttc.evaluation import statistics as statistics_lib

FIELDS = ("generated_tokens", "verifier_calls", "flops")


def point(method, budget, accuracy, setting="", seeds=3):
  cost = budget * 0.8
  calls = 0.0 if method == "self_consistency" else cost / 5
  return tables.Point(
    method=method,
    setting=setting,
    budget=budget,
    problems=40,
    seeds=seeds,
    level=0.95,
    accuracy=accuracy,
    low=accuracy - 0.05,
    high=accuracy + 0.05,
    cost={
      name: statistics_lib.Interval(x, x, x)
      for name, x in zip(FIELDS, (cost, calls, cost * 1e6), strict=True)
    },
  )


def some_points():
  return [
    point("astar", 10.0, 0.5),
    point("astar", 40.0, 0.9),
    point("astar", 40.0, 0.7, "wide"),
    point("self_consistency", 10.0, 0.4),
    point("self_consistency", 40.0, 0.6),
    point("greedy", 5.0, 0.3, seeds=1),
  ]


def pixels(path):
  header = path.read_bytes()[:24]
  assert header[:8] == b"\x89PNG\r\n\x1a\n"
  return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])


@pytest.mark.parametrize("field", FIELDS)
def test_accuracy_against_cost_writes_a_picture(tmp_path, field):
  path = tmp_path / "new" / "folder.png"
  plots.accuracy_against_cost(some_points(), field, path)
  assert pixels(path)[0] == 1800


def test_comparison_writes_a_picture(tmp_path):
  path = tmp_path / "c.png"
  plots.comparison(some_points(), path)
  assert pixels(path)[0] == 1800


def test_pictures_are_reproducible(tmp_path):
  for name in ("a.png", "b.png"):
    plots.comparison(some_points(), tmp_path / name)
  assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pictures_leave_pyplot_and_settings_alone(tmp_path):
  import matplotlib

  before = dict(matplotlib.rcParams)
  loaded = "matplotlib.pyplot" in sys.modules
  plots.comparison(some_points(), tmp_path / "c.png")
  assert dict(matplotlib.rcParams) == before
  assert ("matplotlib.pyplot" in sys.modules) == loaded


def drawn(points, field):
  from matplotlib import figure

  axes = figure.Figure().subplots()
  curve_picture.draw(axes, points, field, labels=9)
  return axes, {line.get_label(): line for line in axes.get_lines()}


def test_lines_join_the_best_setting_of_each_budget():
  _, lines = drawn(some_points(), "generated_tokens")
  np.testing.assert_allclose(lines["A*"].get_xdata(), [8, 32])
  np.testing.assert_allclose(lines["A*"].get_ydata(), [0.5, 0.9])


def test_the_front_rises_through_undominated_points():
  _, lines = drawn(some_points(), "generated_tokens")
  heights = lines["Pareto front"].get_ydata()
  np.testing.assert_allclose(heights, [0.3, 0.5, 0.9, 0.9])


def test_free_points_stand_left_of_the_others_above_a_zero():
  axes, lines = drawn(some_points(), "verifier_calls")
  free = lines["self-consistency"].get_xdata()
  paid = lines["A*"].get_xdata()
  assert 0 < max(free) < min(paid)
  assert "0" in [text.get_text() for text in axes.texts]


def test_a_field_that_nobody_paid_for_can_be_drawn(tmp_path):
  points = [point("self_consistency", 10.0, 0.4)]
  plots.accuracy_against_cost(points, "verifier_calls", tmp_path / "z.png")


def test_legend_names_every_method_once_and_the_front_last():
  axes, _ = drawn(some_points(), "flops")
  _, labels = curve_picture.legend_entries(axes)
  assert labels == ["A*", "self-consistency", "greedy", "Pareto front"]


def test_styles_are_fixed_and_apart():
  looks = [curve_picture.style(m)[1:] for m in ("astar", "beam", "mcts")]
  assert len(set(looks)) == 3
  mine = curve_picture.style("my_method")
  assert mine == curve_picture.style("my_method")
  assert mine[0] == "my method"


@pytest.mark.parametrize(
  "points, fields, message",
  [
    ([], ["flops"], "no points"),
    (some_points(), ["flop"], "did you mean 'flops'"),
    (some_points(), [], "at least one cost field"),
  ],
)
def test_comparison_refuses(tmp_path, points, fields, message):
  with pytest.raises(ValueError, match=message):
    plots.comparison(points, tmp_path / "x.png", fields=fields)


def test_accuracy_against_cost_refuses(tmp_path):
  with pytest.raises(ValueError, match="cost field"):
    plots.accuracy_against_cost(some_points(), "dollars", tmp_path / "x.png")


def test_search_tree_writes_a_picture(tmp_path):
  path = tmp_path / "t.png"
  plots.search_tree(
    np.array([-1, 0, 0, 1, -1], np.int32),
    np.array([1.0, 0.9, 0.2, 0.8, 0.0], np.float32),
    np.array([2, 2, 1, 3, 0], np.int8),
    np.array([0, 1, -1, -1, -1], np.int32),
    ["1+2=", "1+2=3;", "cost $5 and $6", "A:3"],
    path,
    highlight=3,
    title="a search",
  )
  assert pixels(path)[0] == 1800


def test_search_tree_refuses(tmp_path):
  with pytest.raises(ValueError, match="highlight"):
    plots.search_tree(
      [-1], [1.0], [1], [-1], None, tmp_path / "t.png", highlight=4
    )


def test_without_matplotlib_one_clear_error(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  with pytest.raises(ImportError, match=r"jaxttc\[plot\]"):
    plots.comparison(some_points(), tmp_path / "c.png")
