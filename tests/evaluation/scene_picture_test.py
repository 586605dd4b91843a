# SPDX-License-Identifier: Apache-2.0
"""Tests of the pictures of multi-task examples."""

import sys

import numpy as np
import pytest

from jaxttc.evaluation import scene_picture
from jaxttc.tasks.multitask import base

_TASKS = (
  base.Task("parts", "segmentation", 3),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3),
  base.Task("edges", "edges", 1),
  base.Task("sum", "classes", 5),
  base.Task("pose", "regression", 2),
)
_SHAPE = (3, 8, 8)


def _examples():
  rng = np.random.default_rng(0)
  valid = np.ones(_SHAPE, bool)
  normals = rng.normal(size=(*_SHAPE, 3))
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  values = {
    "parts": rng.integers(0, 3, _SHAPE),
    "depth": 1 + rng.uniform(size=(*_SHAPE, 1)),
    "normals": normals,
    "edges": rng.integers(0, 2, (*_SHAPE, 1)).astype(np.float32),
  }
  labels = {k: base.Label(v, valid) for k, v in values.items()}
  each = np.ones(3, bool)
  labels["sum"] = base.Label(np.array([0, 4, 2], np.int32), each)
  labels["pose"] = base.Label(np.full((3, 2), 0.25, np.float32), each)
  inputs = rng.uniform(size=(*_SHAPE, 3)).astype(np.float32)
  return base.Examples(inputs, labels)


def _perfect(examples):
  """Predictions from which every label can be read."""
  labels = {k: label.value for k, label in examples.labels.items()}
  return {
    "parts": 9 * np.eye(3)[labels["parts"]],
    "depth": labels["depth"],
    "normals": 7 * labels["normals"],
    "edges": 40 * labels["edges"] - 20,
    "sum": np.eye(5)[labels["sum"]],
    "pose": labels["pose"],
  }


def _rows(examples, predictions, count=4):
  return scene_picture.layout(_TASKS, examples, predictions, count)


def test_perfect_predictions_look_like_the_labels():
  examples = _examples()
  for row in _rows(examples, _perfect(examples)):
    titles = [title for title, _ in row.panels]
    pair = lambda name: (name, "predicted")  # noqa: E731
    dense = [t for task in _TASKS if task.dense for t in pair(task.name)]
    assert titles == ["input", *dense]
    for image in (image for _, image in row.panels):
      assert image.shape == (8, 8, 3)
      assert image.min() >= 0 and image.max() <= 1
    for i in range(1, len(titles), 2):
      np.testing.assert_allclose(row.panels[i][1], row.panels[i + 1][1])
    assert all(right for _, right in row.words)


def test_words_say_what_is_known_and_what_is_wrong():
  examples = _examples()
  predictions = _perfect(examples)
  predictions["sum"] = np.eye(5)[[1, 4, 2]]
  examples.labels["sum"].valid[2] = False
  words = [row.words for row in _rows(examples, predictions)]
  assert words[0] == [
    ("sum 0, predicted 1", False),
    ("pose 0.25 0.25, predicted 0.25 0.25", True),
  ]
  assert words[1][0] == ("sum 4, predicted 4", True)
  assert words[2][0] == ("sum unknown, predicted 2", True)


def test_places_without_a_label_are_grey():
  examples = _examples()
  examples.labels["depth"].valid[0, :4] = False
  panels = dict(_rows(examples, None)[0].panels)
  np.testing.assert_allclose(panels["depth"][:4], 0.88)
  assert not np.isclose(panels["depth"][4:], 0.88).all(-1).any()
  examples.labels["depth"].valid[:] = False
  panels = dict(_rows(examples, None)[0].panels)
  np.testing.assert_allclose(panels["depth"], 0.88)


def test_near_is_bright_and_labels_alone_need_no_predictions():
  examples = _examples()
  row = _rows(examples, None, count=2)[1]
  titles = [title for title, _ in row.panels]
  assert titles == ["input", "parts", "depth", "normals", "edges"]
  depth = examples.labels["depth"].value[1, ..., 0]
  bright = dict(row.panels)["depth"].sum(-1)
  near, far = (
    np.unravel_index(f(depth), (8, 8)) for f in (np.argmin, np.argmax)
  )
  assert bright[near] > bright[far]
  assert row.words == [("sum 4", True), ("pose 0.25 0.25", True)]


def _size(path):
  header = path.read_bytes()[:24]
  assert header[:8] == b"\x89PNG\r\n\x1a\n"
  return int.from_bytes(header[16:20]), int.from_bytes(header[20:24])


def test_a_picture_is_written(tmp_path):
  examples = _examples()
  path = tmp_path / "new" / "all.png"
  scene_picture.write(_TASKS, examples, _perfect(examples), path, title="all")
  assert _size(path)[0] == 1800
  grey = examples._replace(inputs=examples.inputs[..., :1])
  words = tmp_path / "words.png"
  scene_picture.write(_TASKS[4:], grey, None, words, count=3)
  assert _size(words)[0] == 1800


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"inputs": np.zeros((3, 24), np.float32)}, r"inputs must be pictures"),
    ({"inputs": np.zeros((3, 8, 8, 2))}, r"1 or 3\], got shape \(3, 8, 8, 2\)"),
    ({"labels": {}}, "task 'parts' has no labels; there are none"),
  ],
)
def test_refuses_examples_that_it_cannot_draw(change, said):
  with pytest.raises(ValueError, match=said):
    _rows(_examples()._replace(**change), None)


def test_refuses_predictions_that_do_not_fit():
  examples = _examples()
  predictions = _perfect(examples)
  predictions["depth"] = predictions["depth"][:, :4]
  with pytest.raises(ValueError, match=r"'depth' must have shape \(3, 8, 8, 1"):
    _rows(examples, predictions)
  del predictions["depth"]
  with pytest.raises(ValueError, match="task 'depth' has no predictions"):
    _rows(examples, predictions)
  with pytest.raises(ValueError, match="got count=0"):
    _rows(examples, None, count=0)


def test_without_matplotlib_one_clear_error(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  with pytest.raises(ImportError, match=r"jaxttc\[plot\]"):
    scene_picture.write(_TASKS, _examples(), None, tmp_path / "x.png")
