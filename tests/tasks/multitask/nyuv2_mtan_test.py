# SPDX-License-Identifier: Apache-2.0
"""Tests of MTAN's NYUv2: round trips of real files, and damage."""

import pathlib
import warnings

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import array_files, base, nyuv2_mtan

_H, _W = 6, 8


def _examples(seed=0, count=2):
  rng = np.random.default_rng(seed)
  vectors = rng.normal(size=(count, _H, _W, 3))
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  valid = rng.random((3, count, _H, _W)) < 0.8
  labels = {
    "segmentation": base.Label(
      np.where(valid[0], rng.integers(0, 13, valid[0].shape), 0).astype(
        np.int32
      ),
      valid[0],
    ),
    "depth": base.Label(
      (valid[1] * rng.uniform(0.5, 9, valid[1].shape))[..., None].astype("f4"),
      valid[1],
    ),
    "normals": base.Label(
      (vectors * valid[2][..., None]).astype("f4"), valid[2]
    ),
  }
  inputs = rng.random((count, _H, _W, 3)).astype(np.float32)
  return base.Examples(inputs, labels)


def _load(*arguments, **options):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return nyuv2_mtan.load(*arguments, **options)


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  nyuv2_mtan.save(tmp_path, "train", _examples(0, 12))
  nyuv2_mtan.save(tmp_path, "val", _examples(1))
  return tmp_path


def test_round_trip_in_the_order_of_numbers(root):
  data, expected = _load(root), _examples(0, 12)
  assert (len(data), data.input_shape) == (12, (_H, _W, 3))
  for at in range(12):
    np.testing.assert_array_equal(data[at].inputs, expected.inputs[at])
    for task in nyuv2_mtan.TASKS:
      value, valid = (part[at] for part in expected.labels[task.name])
      label = data[at].labels[task.name]
      assert label.value.dtype == value.dtype
      np.testing.assert_array_equal(label.valid, valid)
      np.testing.assert_allclose(label.value, value, atol=1e-6)


def test_files_are_as_the_release_has_them(root):
  read = {
    folder: array_files.read_npy(root / "val" / folder / "1.npy")
    for folder in ("image", "label", "depth", "normal")
  }
  assert {k: v.shape for k, v in read.items()} == {
    "image": (_H, _W, 3),
    "label": (_H, _W),
    "depth": (_H, _W, 1),
    "normal": (_H, _W, 3),
  }
  valid = _examples(1).labels["segmentation"].valid[1]
  np.testing.assert_array_equal(read["label"] == -1, ~valid)


def test_held_out_reads_the_other_split(root):
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    batch = _load(root).held_out(2)
  np.testing.assert_array_equal(batch.inputs, _examples(1).inputs)


def test_counts_and_missing_labels_warn(root):
  (root / "train" / "depth" / "3.npy").unlink()
  with pytest.warns(UserWarning) as seen:
    data = nyuv2_mtan.load(root)
  texts = [str(one.message) for one in seen]
  assert any("image: 12 images; the release has 795" in t for t in texts)
  assert any(
    "1 of 12 images have no label for depth (such as 3.npy)" in t for t in texts
  )
  assert not data[3].labels["depth"].valid.any()


def test_a_gap_in_the_numbers_is_refused(root):
  (root / "train" / "image" / "4.npy").unlink()
  with pytest.raises(ValueError, match="image/4.npy: no such file"):
    _load(root)


def test_no_images(tmp_path):
  with pytest.raises(ValueError, match="train/image: no files 0.npy, 1.npy"):
    _load(tmp_path)


@pytest.mark.parametrize("folder", ["image", "label", "depth", "normal"])
@hypothesis.given(share=st.floats(0, 1, exclude_max=True))
@hypothesis.settings(
  max_examples=15,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_truncated_files_are_refused(root, folder, share):
  path = root / "train" / folder / "1.npy"
  whole = path.read_bytes()
  data = _load(root)
  try:
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"1.npy, byte \d+: ") as error:
      data[1]
  finally:
    path.write_bytes(whole)
  assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


@pytest.mark.parametrize(
  "folder, value, message",
  [
    ("image", np.full((_H, _W, 3), 255.0), "colours from 255 to 255; expected"),
    (
      "image",
      np.ones((_H, _W)),
      r"an array \[6, 8\]; expected \[height, width, 3",
    ),
    ("label", np.full((_H, _W), 13), r"class 13 at row 0, .* \[0, 13\), or -1"),
    ("label", np.full((_H, _W), 0.5), "class 0.5 at row 0"),
    ("label", np.full((_H, _W), np.nan), "class nan at row 0"),
    ("label", np.ones((_H, _W, 1)), r"an array \[6, 8, 1\]; expected"),
    (
      "depth",
      np.ones((_H, _W + 1, 1)),
      r"6 x 9 pixels; expected 6 x 8, as .*ima",
    ),
    ("normal", np.full((_H, _W, 3), 9.0), "a vector of length 15.5885"),
  ],
)
def test_values_that_cannot_be(root, folder, value, message):
  array_files.write_npy(root / "train" / folder / "1.npy", value)
  with pytest.raises(ValueError, match=f"{folder}/1.npy: {message}"):
    _load(root)[1]


def test_save_refuses_classes_that_are_none(tmp_path):
  examples = _examples()
  examples.labels["segmentation"].value[:] = 13
  with pytest.raises(ValueError, match="class 13.0 at row"):
    nyuv2_mtan.save(tmp_path, "train", examples)
