# SPDX-License-Identifier: Apache-2.0
"""Tests of .mat files: SciPy's reader agrees, and damage is refused."""

import pathlib
import struct

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
import scipy.io

from jaxttc.tasks.multitask import mat_files

_MAP = np.random.default_rng(0).integers(0, 460, (9, 7)).astype(np.uint16)


def _parts():
  parts = np.zeros((1, 2), [("part_name", "O"), ("mask", "O")])
  parts[0, 0] = ("head", _MAP % 2)
  parts[0, 1] = ("torso", _MAP % 3)
  return {"imname": "2008_1", "size": 2.5, "parts": parts, "none": []}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  root = tmp_path_factory.mktemp("mat")
  mat_files.write(root / "map.mat", "LabelMap", _MAP)
  mat_files.write(root / "anno.mat", "anno", _parts())
  for name, value in (("map", _MAP), ("anno", _parts())):
    variable = {"map": "LabelMap", "anno": "anno"}[name]
    scipy.io.savemat(root / f"plain-{name}.mat", {variable: value})
  return root


@hypothesis.given(
  values=hnp.arrays(
    st.sampled_from(["u1", "i2", "i4", "u8", "f4", "f8"]),
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4),
  ),
  is_packed=st.booleans(),
)
def test_numbers_are_as_scipy_reads_them(folder, values, is_packed):
  path = folder / "any.mat"
  scipy.io.savemat(path, {"x": values}, do_compression=is_packed)
  expected = scipy.io.loadmat(path)["x"]
  read = mat_files.read(path, "x")
  assert (read.dtype, read.shape) == (expected.dtype, expected.shape)
  np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("name", ["anno.mat", "plain-anno.mat"])
def test_structs_are_dicts(folder, name):
  (anno,) = mat_files.read(folder / name, "anno")
  assert anno["imname"] == "2008_1"
  assert anno["size"].item() == 2.5
  assert anno["none"].size == 0
  assert [part["part_name"] for part in anno["parts"]] == ["head", "torso"]
  np.testing.assert_array_equal(anno["parts"][1]["mask"], _MAP % 3)


@hypothesis.given(
  text=st.text(
    st.characters(codec="utf-8", min_codepoint=1, max_codepoint=0xFFFF),
    max_size=9,
  )
)
@hypothesis.settings(max_examples=50)
def test_text_is_read_as_it_was_written(folder, text):
  path = folder / "text.mat"
  mat_files.write(path, "x", text)
  assert mat_files.read(path, "x") == text


def test_the_variable_is_found_among_others(tmp_path):
  path = tmp_path / "two.mat"
  cells = np.array([["a", 1]], object)
  scipy.io.savemat(path, {"a": np.ones((2, 3)), "c": cells, "b": _MAP})
  np.testing.assert_array_equal(mat_files.read(path, "b"), _MAP)


def _big_endian(values):
  """A file as big-endian machines wrote it, by the format's description."""

  def element(kind, data):
    return struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)

  content = (
    element(6, struct.pack(">II", 9, 0))
    + element(5, struct.pack(">ii", *values.shape))
    + element(1, b"LabelMap")
    + element(4, values.astype(">u2").tobytes(order="F"))
  )
  header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
  return header + struct.pack(">II", 14, len(content)) + content


def test_big_endian(tmp_path):
  path = tmp_path / "big.mat"
  path.write_bytes(_big_endian(_MAP))
  np.testing.assert_array_equal(mat_files.read(path, "LabelMap"), _MAP)
  np.testing.assert_array_equal(scipy.io.loadmat(path)["LabelMap"], _MAP)


_FILES = ["map.mat", "anno.mat", "plain-map.mat", "plain-anno.mat"]


def _read(path):
  return mat_files.read(path, "anno" if "anno" in path.name else "LabelMap")


@pytest.mark.parametrize("name", _FILES)
def test_any_truncation_is_refused_with_its_byte(folder, tmp_path, name):
  whole = (folder / name).read_bytes()
  cut = tmp_path / name
  for size in [*range(0, len(whole), 5), *range(len(whole) - 9, len(whole))]:
    cut.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r", byte \d+: ") as error:
      _read(cut)
    assert str(error.value).startswith(str(cut))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["plain-map.mat", "plain-anno.mat"])
@hypothesis.given(at=st.integers(0, 1_000_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=150)
def test_a_changed_byte_raises_nothing_else(folder, name, at, change):
  damaged = bytearray((folder / name).read_bytes())
  damaged[at % len(damaged)] ^= change
  path = folder / f"damaged-{name}"
  path.write_bytes(bytes(damaged))
  try:
    _read(path)
  except ValueError as error:
    assert str(error).startswith(str(path)) and "\n" not in str(error)


@hypothesis.given(at=st.integers(0, 1_000_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=200)
def test_compressed_data_is_never_read_wrongly(folder, at, change):
  damaged = bytearray((folder / "map.mat").read_bytes())
  damaged[at % len(damaged)] ^= change
  path = folder / "damaged.mat"
  path.write_bytes(bytes(damaged))
  try:
    np.testing.assert_array_equal(_read(path), _MAP)
  except ValueError as error:
    assert str(error).startswith(str(path))


@pytest.mark.parametrize(
  "value, found",
  [
    (np.array([[1 + 2j]]), "class 6"),
    (np.array([["a", 1]], object), "class 1"),
    (scipy.sparse.eye(3, format="csc"), "class 5"),
    (np.array(["one", "two"]), "class 4"),
  ],
)
def test_what_annotations_do_not_hold_is_refused(tmp_path, value, found):
  path = tmp_path / "other.mat"
  mat_files.write(path, "x", value)
  with pytest.raises(
    ValueError, match=rf"an array \[.*\] of {found}; expected real"
  ):
    mat_files.read(path, "x")


def test_deep_structs_are_refused(tmp_path):
  value = {"x": 1.0}
  for _ in range(12):
    value = {"x": value}
  path = tmp_path / "deep.mat"
  mat_files.write(path, "x", value)
  with pytest.raises(ValueError, match="structs within structs, more than 8"):
    mat_files.read(path, "x")


def test_file_lacks_the_variable(folder):
  with pytest.raises(ValueError, match="no variable 'anno'; .*: LabelMap$"):
    mat_files.read(folder / "map.mat", "anno")


def test_version_7_3_is_named(tmp_path):
  path = tmp_path / "new.mat"
  path.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
  with pytest.raises(
    ValueError, match=r"version 7.3 \(HDF5\); expected version"
  ):
    mat_files.read(path, "anno")


def test_packed_bomb_is_refused(monkeypatch, folder):
  monkeypatch.setattr(mat_files, "_LARGEST", 100)
  with pytest.raises(ValueError, match=r"byte 128: .* too large \(100 bytes"):
    mat_files.read(folder / "map.mat", "LabelMap")
