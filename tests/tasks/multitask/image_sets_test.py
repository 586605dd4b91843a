# SPDX-License-Identifier: Apache-2.0
"""Tests of data sets of image files: sizes, choices and missing files."""

import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import base, image_sets

_TASKS = (
  base.Task("depth", "depth", 1),
  base.Task("classes", "segmentation", 4),
)


def _example(height, width):
  rng = np.random.default_rng(0)
  labels = {
    "depth": base.Label(
      rng.uniform(1, 2, (height, width, 1)).astype("f4"),
      np.ones((height, width), bool),
    ),
    "classes": base.Label(
      rng.integers(0, 4, (height, width)).astype("i4"),
      rng.random((height, width)) < 0.5,
    ),
  }
  return base.Examples(rng.random((height, width, 3)).astype("f4"), labels)


def _opened(folder, sizes, size=None):
  images = []
  for at, _ in enumerate(sizes):
    images.append(folder / f"{at}.png")
    images[-1].touch()
  by_path = dict(zip(images, sizes, strict=True))
  return image_sets.opened(
    tasks=_TASKS,
    size=size,
    images=images,
    read=lambda path: _example(*by_path[path]),
    test=lambda: _opened(folder, sizes, size),
  )


@hypothesis.given(
  height=st.integers(1, 9),
  width=st.integers(1, 9),
  more=st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_padding_keeps_everything_in_the_middle(
  tmp_path_factory, height, width, more
):
  size = (height + more[0], width + more[1])
  data = _opened(tmp_path_factory.mktemp("set"), [(height, width)], size)
  found, plain = data[0], _example(height, width)
  top, left = more[0] // 2, more[1] // 2
  rows, columns = slice(top, top + height), slice(left, left + width)
  np.testing.assert_array_equal(found.inputs[rows, columns], plain.inputs)
  assert found.inputs.shape == data.input_shape == (*size, 3)
  np.testing.assert_allclose(found.inputs.sum(), plain.inputs.sum(), rtol=1e-5)
  for name, label in plain.labels.items():
    padded = found.labels[name]
    assert padded.value.dtype == label.value.dtype
    np.testing.assert_array_equal(padded.value[rows, columns], label.value)
    np.testing.assert_array_equal(padded.valid[rows, columns], label.valid)
    assert padded.valid.sum() == label.valid.sum()


def test_without_a_size_the_first_image_sets_it(tmp_path):
  data = _opened(tmp_path, [(4, 5), (4, 5), (4, 6)])
  assert data.input_shape == (4, 5, 3)
  assert data[1].inputs.shape == (4, 5, 3)
  with pytest.raises(
    ValueError, match="2.png: 4 x 6 pixels; expected 4 x 5, as "
  ):
    data[2]
  batch = _opened(tmp_path, [(4, 5), (4, 5)]).held_out(2)
  assert batch.labels["depth"].value.shape == (2, 4, 5, 1)


def test_chosen_tasks():
  assert image_sets.chosen(_TASKS, None) == _TASKS
  assert image_sets.chosen(_TASKS, ["classes"]) == _TASKS[1:]
  assert image_sets.chosen(_TASKS, ["depth", "depth"]) == _TASKS[:1]
  with pytest.raises(
    ValueError, match=r"tasks \['x'\]: expected some of depth, cl"
  ):
    image_sets.chosen(_TASKS, ["x"])


def test_labels_that_are_missing(tmp_path):
  there, not_there = tmp_path / "a.png", tmp_path / "b.png"
  there.touch()
  image_sets.check_labels(tmp_path, {"depth": [there]})
  with pytest.warns(
    UserWarning, match=r"1 of 2 images have .* \(such as b.png\)"
  ):
    image_sets.check_labels(tmp_path, {"depth": [there, not_there]})
  with pytest.raises(
    ValueError, match="b.png: no such file, and no image has one"
  ):
    image_sets.check_labels(tmp_path, {"depth": [not_there]})


def test_counts_that_differ_warn():
  image_sets.check_count(pathlib.Path("train.txt"), 795, 795)
  with pytest.warns(
    UserWarning, match="train.txt: 7 images; the release has 795"
  ):
    image_sets.check_count(pathlib.Path("train.txt"), 7, 795)
