# SPDX-License-Identifier: Apache-2.0
"""Tests of PASCAL-Context: round trips of real files, fallbacks, and damage."""

import pathlib
import warnings

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import (
  dense_labels,
  image_files,
  mat_files,
  pascal_context,
)

_H, _W = 10, 12
_SIZE = (16, 16)
_TOP, _LEFT = 3, 2
_PERSON, _SKY = 284, 360


def _annotation(seed=0):
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:_H, :_W]
  label_map = np.where(x < 5, _PERSON, _SKY)
  vectors = rng.normal(size=(_H, _W, 3))
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  segmentation = rng.integers(0, 21, (_H, _W))
  segmentation[0, 0] = 255
  return pascal_context.Annotation(
    image=np.stack([9 * y, 9 * x, 5 * (y + x)], -1).astype(np.uint8),
    label_map=label_map,
    segmentation=segmentation,
    people=[{"head": (y < 3) & (x < 5), "torso": (y >= 3) & (x < 5)}],
    normals=vectors.astype(np.float32),
    saliency=(x < 5),
  )


def _load(*arguments, **options):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return pascal_context.load(*arguments, **{"size": _SIZE, **options})


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  annotations = [_annotation(), _annotation(1)]
  ids = ["2008_000001", "2008_000002"]
  pascal_context.save(tmp_path, "train", annotations, ids=ids)
  pascal_context.save(tmp_path, "val", [_annotation(2)], ids=["2008_000003"])
  return tmp_path


def _inside(array):
  return array[_TOP : _TOP + _H, _LEFT : _LEFT + _W]


def test_round_trip(root):
  data, expected = _load(root), _annotation()
  assert (len(data), data.input_shape) == (2, (16, 16, 3))
  assert data.tasks == pascal_context.TASKS
  example = data[0]
  near = np.abs(_inside(example.inputs) * 255 - expected.image)
  assert near.max() <= 6
  labels = example.labels

  known = expected.segmentation != 255
  np.testing.assert_array_equal(_inside(labels["segmentation"].valid), known)
  np.testing.assert_array_equal(
    _inside(labels["segmentation"].value)[known], expected.segmentation[known]
  )
  parts = _inside(labels["human_parts"].value)
  assert parts[:, 0].tolist() == [1] * 3 + [2] * 7
  assert not parts[:, 5:].any() and _inside(labels["human_parts"].valid).all()

  has_normals = expected.label_map == _PERSON
  np.testing.assert_array_equal(_inside(labels["normals"].valid), has_normals)
  np.testing.assert_allclose(
    _inside(labels["normals"].value),
    expected.normals * has_normals[..., None],
    atol=0.01,
  )
  np.testing.assert_array_equal(
    _inside(labels["saliency"].value)[..., 0], expected.saliency
  )
  edges = _inside(labels["edges"].value)[..., 0]
  assert edges.sum() and set(np.argwhere(edges)[:, 1]) <= {4, 5}
  for task in pascal_context.TASKS:
    assert not labels[task.name].valid[:_TOP].any()
    assert not labels[task.name].valid[:, _LEFT + _W :].any()


def test_border_between_classes_is_one_pixel_wide():
  label_map = np.full((9, 9), 7, np.int64)
  label_map[:, 4:] = 9
  edges = pascal_context.edges_of(label_map)
  assert edges.sum(axis=1).max() == 1 and edges[1:-1].sum() >= 6
  assert not pascal_context.edges_of(np.full((5, 5), 3, np.int64)).any()


def test_edges_are_on_the_laplacian_and_nowhere_else():
  rng = np.random.default_rng(0)
  label_map = rng.integers(0, 3, (12, 12)).repeat(3, 0).repeat(3, 1)
  edges = pascal_context.edges_of(label_map)
  # By hand: a pixel differs from the mean of its four neighbours.
  padded = np.pad(label_map, 1, mode="reflect")
  around = (
    padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
  )
  assert not (edges & (around == 4 * label_map)).any()


def test_valid_classes():
  classes = pascal_context.CLASSES_WITH_NORMALS
  assert list(classes) == sorted(set(classes))
  assert 1 <= min(classes) and max(classes) <= 459
  # person, chair, sofa, tvmonitor, wall, floor; not sky, grass, tree, cow.
  assert {284, 72, 368, 427, 440, 158} <= set(classes)
  assert not {360, 187, 420, 98, 431} & set(classes)


def test_segmentation_falls_back_to_pascal_context(root):
  voc = root / "semseg" / "VOC12" / "2008_000002.png"
  fallback = root / "semseg" / "pascal-context" / voc.name
  image_files.write_codes(fallback, np.full((_H, _W), 5, np.uint8))
  assert (_inside(_load(root)[1].labels["segmentation"].value) != 5).any()
  voc.unlink()
  label = _load(root)[1].labels["segmentation"]
  assert (_inside(label.value) == 5).all() and _inside(label.valid).all()


def test_nobody_in_the_image_trains_other_tasks(tmp_path):
  annotations = [_annotation(), _annotation()._replace(people=[])]
  pascal_context.save(tmp_path, "train", annotations)
  label = _load(tmp_path)[1].labels["human_parts"]
  assert label.value.shape == _SIZE and not label.valid.any()


@pytest.mark.parametrize(
  "missing, lost",
  [
    ("segmentation", {"segmentation"}),
    ("people", {"human_parts"}),
    ("normals", {"normals"}),
    ("label_map", {"normals", "edges"}),
    ("saliency", {"saliency"}),
  ],
)
@pytest.mark.filterwarnings("ignore:.*the release has")
def test_what_is_missing_is_not_valid(tmp_path, missing, lost):
  part = _annotation()._replace(**{missing: None})
  pascal_context.save(tmp_path, "train", [_annotation(), part])
  with pytest.warns(UserWarning, match="1 of 2 images have no label for"):
    data = pascal_context.load(tmp_path, size=_SIZE)
  labels = data[1].labels
  assert {name for name, x in labels.items() if not x.valid.any()} == lost
  for task in data.tasks:
    whole = data[0].labels[task.name]
    assert labels[task.name].value.shape == whole.value.shape
    assert labels[task.name].value.dtype == whole.value.dtype


def test_count_of_the_release(root):
  with pytest.warns(
    UserWarning, match="train.txt: 2 images; the release has 4998"
  ):
    pascal_context.load(root, size=_SIZE)


def test_held_out_reads_the_other_split(root):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    batch = _load(root, tasks=["saliency"]).held_out(1)
  assert batch.inputs.shape == (1, 16, 16, 3)
  assert list(batch.labels) == ["saliency"]


def test_image_larger_than_the_size(root):
  with pytest.raises(
    ValueError, match="000001.jpg: 10 x 12 pixels do not fit in"
  ):
    _load(root, size=(9, 12))[0]


_FOLDERS = [
  "JPEGImages",
  "semseg/VOC12",
  "human_parts",
  "pascal-context/trainval",
  "normals_distill",
  "sal_distill",
]


@pytest.mark.parametrize("folder", _FOLDERS)
@hypothesis.given(share=st.floats(0, 1, exclude_max=True))
@hypothesis.settings(
  max_examples=25,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_truncated_files_are_refused(root, folder, share):
  (path,) = (root / folder).glob("2008_000001.*")
  whole = path.read_bytes()
  data = _load(root)
  try:
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError) as error:
      data[0]
  finally:
    path.write_bytes(whole)
  assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize("folder", _FOLDERS[1:])
def test_label_of_another_size_names_both_files(root, folder):
  name = "2008_000002"
  wide = pascal_context.Annotation(
    *(
      part if part is None or isinstance(part, list) else part[:, :-1]
      for part in _annotation()
    )
  )
  people = [{k: m[:, :-1] for k, m in _annotation().people[0].items()}]
  pascal_context.save(
    root / "other", "train", [wide._replace(people=people)], ids=[name]
  )
  (path,) = (root / folder).glob(f"{name}.*")
  path.write_bytes((root / "other" / folder / path.name).read_bytes())
  task = {
    "semseg/VOC12": "segmentation",
    "human_parts": "human_parts",
    "pascal-context/trainval": "edges",
    "normals_distill": "normals",
    "sal_distill": "saliency",
  }[folder]
  with pytest.raises(
    ValueError, match=rf"{name}.*: 10 x 1\d pixels; expec.* as .*{name}"
  ):
    _load(root, tasks=[task])[1]


def test_classes_that_are_none(root):
  path = root / "semseg" / "VOC12" / "2008_000001.png"
  image_files.write_codes(path, np.full((_H, _W), 21, np.uint8))
  with pytest.raises(
    ValueError, match=r"class 21 at row 0, .* \[0, 21\), or 255"
  ):
    _load(root)[0]


@pytest.mark.parametrize("value", ["text", np.ones((_H, _W, 2))])
def test_label_map_that_is_none(root, value):
  path = root / "pascal-context" / "trainval" / "2008_000001.mat"
  mat_files.write(path, "LabelMap", value)
  with pytest.raises(ValueError, match="LabelMap is no array of two axes"):
    _load(root)[0]


def test_bytes_of_vectors_are_the_nearest():
  codes = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, -1)
  vectors = dense_labels.vectors_of(codes)
  np.testing.assert_array_equal(dense_labels.colours_of(vectors), codes)
