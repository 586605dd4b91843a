# SPDX-License-Identifier: Apache-2.0
"""Tests of both NYUD-v2 releases: round trips of real files, and damage."""

import pathlib
import warnings

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import array_files, base, image_files, nyud

_H, _W, _B = 12, 16, 3


def _examples(seed=0, count=_B):
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:_H, :_W]
  smooth = np.stack([y / _H, x / _W, (y + x) / (_H + _W)], -1)
  vectors = rng.normal(size=(count, _H, _W, 3))
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  valid = {
    name: rng.random((count, _H, _W)) < 0.8
    for name in ("segmentation", "depth", "normals")
  }
  valid["edges"] = np.ones((count, _H, _W), bool)
  values = {
    "segmentation": rng.integers(0, 40, (count, _H, _W)).astype(np.int32),
    "depth": rng.uniform(0.5, 9, (count, _H, _W, 1)).astype(np.float32),
    "normals": vectors.astype(np.float32),
    "edges": (rng.random((count, _H, _W, 1)) < 0.2).astype(np.float32),
  }
  labels = {}
  for name, value in values.items():
    mask = valid[name].reshape(valid[name].shape + (1,) * (value.ndim - 3))
    labels[name] = base.Label(
      np.where(mask, value, 0).astype(value.dtype), valid[name]
    )
  inputs = np.rint(255 * smooth[None].repeat(count, 0)) / 255
  return base.Examples(inputs.astype(np.float32), labels)


def _load(*arguments, **options):
  """Opens a split that is shorter than the release's."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return nyud.load(*arguments, **options)


@pytest.fixture(params=nyud.RELEASES)
def release(request):
  return request.param


@pytest.fixture
def root(tmp_path, release) -> pathlib.Path:
  nyud.save(tmp_path, "train", _examples(), release=release)
  nyud.save(tmp_path, "val", _examples(1, 2), release=release, ids=["a", "b"])
  return tmp_path


def test_round_trip(root, release):
  data, expected = _load(root), _examples()
  assert (len(data), data.input_shape) == (_B, (_H, _W, 3))
  assert data.tasks == nyud.TASKS
  for at in range(_B):
    read = data[at]
    assert read.inputs.dtype == np.float32
    near = 0.02 if release == "mti_net" else 1e-6
    np.testing.assert_allclose(read.inputs, expected.inputs[at], atol=near)
    for task in nyud.TASKS:
      value, valid = (part[at] for part in expected.labels[task.name])
      label = read.labels[task.name]
      assert label.value.dtype == value.dtype, task.name
      np.testing.assert_array_equal(label.valid, valid)
      is_rounded = release == "atrc" and task.name == "normals"
      tolerance = 0.01 if is_rounded else 1e-6
      np.testing.assert_allclose(label.value, value, atol=tolerance)
  lengths = np.linalg.norm(read.labels["normals"].value, axis=-1)
  np.testing.assert_allclose(
    lengths, read.labels["normals"].valid.astype(float), atol=1e-5
  )


def test_releases_differ_in_their_suffixes(root, release):
  found = {
    folder.name: {path.suffix for path in folder.iterdir()}
    for folder in root.iterdir()
  }
  is_mti = release == "mti_net"
  assert found == {
    "images": {".jpg" if is_mti else ".png"},
    "segmentation": {".png"},
    "depth": {".npy"},
    "normals": {".npy" if is_mti else ".png"},
    "edge": {".npy" if is_mti else ".png"},
    "gt_sets": {".txt"},
  }


def test_what_the_files_say_by_hand(tmp_path):
  """The release's own encoding, written without `save`."""
  (tmp_path / "gt_sets").mkdir()
  (tmp_path / "gt_sets" / "train.txt").write_text("0001\n\n")
  image_files.write_rgb(
    tmp_path / "images" / "0001.png", np.full((1, 3, 3), 51, np.uint8)
  )
  codes = np.array([[0, 1, 40]], np.uint8)
  image_files.write_codes(tmp_path / "segmentation" / "0001.png", codes)
  metres = np.array([[0, 2.5, np.nan]], np.float32)
  array_files.write_npy(tmp_path / "depth" / "0001.npy", metres)
  colours = np.array([[[255, 128, 128], [0, 0, 0], [128, 128, 255]]], np.uint8)
  image_files.write_rgb(tmp_path / "normals" / "0001.png", colours)
  image_files.write_codes(
    tmp_path / "edge" / "0001.png", np.array([[0, 255, 127]], np.uint8)
  )
  example = _load(tmp_path)[0]
  np.testing.assert_allclose(example.inputs, 0.2)
  labels = example.labels
  assert labels["segmentation"].value.tolist() == [[0, 0, 39]]
  assert labels["segmentation"].valid.tolist() == [[False, True, True]]
  assert labels["depth"].value[..., 0].tolist() == [[0, 2.5, 0]]
  assert labels["depth"].valid.tolist() == [[False, True, False]]
  np.testing.assert_allclose(
    labels["normals"].value[0], [[1, 0, 0], [0, 0, 0], [0, 0, 1]], atol=0.01
  )
  assert labels["normals"].valid.tolist() == [[True, False, True]]
  assert labels["edges"].value[..., 0].tolist() == [[0, 1, 0]]


def test_another_number_of_images_warns(root):
  with pytest.warns(
    UserWarning, match="train.txt: 3 images; the release has 795"
  ):
    nyud.load(root)


def test_held_out_reads_the_other_split(root):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    batch = _load(root).held_out(2)
  expected = _examples(1, 2)
  assert batch.inputs.shape == (2, _H, _W, 3)
  np.testing.assert_array_equal(
    batch.labels["segmentation"].value, expected.labels["segmentation"].value
  )


def test_some_tasks_only(root):
  data = _load(root, tasks=["edges", "depth"])
  assert [task.name for task in data.tasks] == ["edges", "depth"]
  assert list(data[0].labels) == ["edges", "depth"]
  with pytest.raises(
    ValueError, match=r"tasks \['parts'\]: expected some of seg"
  ):
    _load(root, tasks=["parts"])
  with pytest.raises(ValueError, match=r"tasks \[\]"):
    _load(root, tasks=[])


@pytest.mark.filterwarnings("ignore:.*the release has")
def test_an_image_without_a_label_is_not_valid(root):
  (root / "depth" / "00001.npy").unlink()
  with pytest.warns(UserWarning, match="1 of 3 images have no label for depth"):
    data = nyud.load(root)
  label = data[1].labels["depth"]
  assert label.value.shape == (_H, _W, 1) and not label.valid.any()
  assert data[0].labels["depth"].valid.any()
  assert data[1].labels["edges"].valid.all()


def test_images_that_were_saved_without_labels(tmp_path, release):
  examples = _examples()
  examples.labels["normals"].valid[0] = False
  nyud.save(tmp_path, "train", examples, release=release)
  assert not _load(tmp_path)[0].labels["normals"].valid.any()


def test_a_task_without_any_file_is_refused(root):
  for path in (root / "edge").iterdir():
    path.unlink()
  with pytest.raises(
    ValueError, match="edge/00000.*no image has one for edges"
  ):
    _load(root)
  assert len(_load(root, tasks=["depth"])) == _B


def test_a_missing_image_is_refused(root, release):
  suffix = "jpg" if release == "mti_net" else "png"
  (root / "images" / f"00002.{suffix}").unlink()
  with pytest.raises(
    ValueError, match=f"00002.{suffix}: no such file, but the"
  ):
    _load(root)


def test_both_releases_or_neither_are_refused(root):
  image_files.write_rgb(
    root / "images" / "00000.png", np.zeros((1, 1, 3), np.uint8)
  )
  image_files.write_rgb(
    root / "images" / "00000.jpg", np.zeros((1, 1, 3), np.uint8)
  )
  with pytest.raises(ValueError, match="00000: both .jpg and .png; expected"):
    _load(root)
  for path in (root / "images").iterdir():
    path.unlink()
  with pytest.raises(
    ValueError, match="00000: neither .jpg and .png; expected"
  ):
    _load(root)


def _damage(root, folder, change):
  (path,) = (root / folder).glob("00001.*")
  path.write_bytes(change(path.read_bytes()))
  return path


@pytest.mark.parametrize(
  "folder", ["images", "segmentation", "depth", "normals", "edge"]
)
@hypothesis.given(share=st.floats(0, 1, exclude_max=True))
@hypothesis.settings(
  max_examples=25,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_truncated_files_are_refused(root, folder, share):
  (path,) = (root / folder).glob("00001.*")
  whole = path.read_bytes()
  data = _load(root)
  try:
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError) as error:
      data[1]
  finally:
    path.write_bytes(whole)
  assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_label_of_another_size_names_both_files(root):
  path = root / "depth" / "00001.npy"
  array_files.write_npy(path, np.ones((_H, _W + 1), np.float32))
  with pytest.raises(
    ValueError,
    match=rf"depth/00001.npy: {_H} x {_W + 1} .* {_H} x {_W}, as .*es/00001",
  ):
    _load(root)[1]


@pytest.mark.parametrize(
  "task, value, message",
  [
    (
      "segmentation",
      np.full((_H, _W), 41),
      "class 40 at row 0, column 0; .*40",
    ),
    ("depth", np.full((_H, _W), -1.0), "distance -1; expected"),
    ("depth", np.ones((_H, _W, 2)), r"an array \[12, 16, 2\]; expected"),
    ("normals", np.full((_H, _W, 3), 255.0), "a vector of length 441.6"),
    ("normals", np.ones((_H, _W)), r"expected \[height, width, 3\]"),
    ("edge", np.full((_H, _W), 255.0), r"numbers from 255 to 255; .*\[0, 1\]"),
    ("edge", np.full((_H, _W), np.nan), r"numbers from nan to nan"),
  ],
)
def test_values_that_cannot_be(tmp_path, task, value, message):
  nyud.save(tmp_path, "train", _examples())
  path = tmp_path / task / "00001.npy"
  if task == "segmentation":
    path = path.with_suffix(".png")
    image_files.write_codes(path, value.astype(np.uint8))
  else:
    array_files.write_npy(path, value)
  with pytest.raises(ValueError, match=f"{task}/00001.*: .*{message}"):
    _load(tmp_path)[1]


def test_images_of_two_sizes(tmp_path):
  nyud.save(tmp_path, "train", _examples(), release="atrc")
  image_files.write_rgb(
    tmp_path / "images" / "00001.png", np.full((8, 10, 3), 255, np.uint8)
  )
  for folder in ("segmentation", "depth", "normals", "edge"):
    for path in (tmp_path / folder).glob("00001.*"):
      path.unlink()
  with pytest.raises(
    ValueError, match="00001.png: 8 x 10 .* 12 x 16, as .*00000"
  ):
    _load(tmp_path)[1]
  data = _load(tmp_path, size=(13, 16))
  assert data.input_shape == data[1].inputs.shape == data[0].inputs.shape
  assert data[1].inputs[2:10, 3:13].min() == 1
  assert data[1].inputs.sum() == 8 * 10 * 3
  with pytest.raises(
    ValueError, match="12 x 16 pixels do not fit into 13 x 15"
  ):
    _load(tmp_path, size=(13, 15))[0]
  with pytest.raises(ValueError, match=r"size \(0, 5\)"):
    _load(tmp_path, size=(0, 5))


def test_padding_is_not_valid(root):
  data = _load(root, size=(_H + 5, _W + 4))
  for task in nyud.TASKS:
    label, plain = data[0].labels[task.name], _load(root)[0].labels[task.name]
    assert label.valid.shape == (_H + 5, _W + 4)
    assert label.valid.sum() == plain.valid.sum()
    np.testing.assert_array_equal(
      label.value[2 : 2 + _H, 2 : 2 + _W], plain.value
    )


@pytest.mark.parametrize(
  "text, message",
  [
    ("", "no names of images"),
    ("a\nb\na\n", "line 3: 'a' is on line 1, too"),
    ("a\n../b\n", "line 2: '../b' is no name of a file"),
    (b"\xff\xfe", "cannot be read"),
  ],
)
def test_lists_that_cannot_be(root, text, message):
  path = root / "gt_sets" / "train.txt"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(ValueError, match=f"train.txt.*{message}"):
    _load(root)


def test_arguments_that_cannot_be(root):
  with pytest.raises(
    ValueError, match="split 'test'; expected one of train, val"
  ):
    _load(root, "test")
  with pytest.raises(ValueError, match="gt_sets/train.txt: cannot be read"):
    _load(root / "none")
  with pytest.raises(ValueError, match="release 'x'; expected mti_net or atrc"):
    nyud.save(root, "train", _examples(), release="x")
  with pytest.raises(
    ValueError, match="2 names, 1 of them distinct, for 3 imag"
  ):
    nyud.save(root, "train", _examples(), ids=["a", "a"])
  loud = _examples()._replace(inputs=np.full((1, _H, _W, 3), 1.5, np.float32))
  with pytest.raises(ValueError, match="colours from 1.5 to 1.5; expected"):
    nyud.save(root, "train", loud)
