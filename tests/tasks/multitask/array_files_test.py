# SPDX-License-Identifier: Apache-2.0
"""Tests of .npy files, whole and damaged."""

import io
import pathlib
import pickle
import warnings

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from jaxttc.tasks.multitask import array_files

_MAP = np.random.default_rng(0).integers(0, 460, (9, 7)).astype(np.uint16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  root = tmp_path_factory.mktemp("arrays")
  array_files.write_npy(root / "map.npy", _MAP)
  return root


@hypothesis.given(
  values=hnp.arrays(
    st.sampled_from(["u1", "<i2", ">i4", "<f4", ">f8", "?"]),
    hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4),
  ),
  fortran=st.booleans(),
)
def test_npy_round_trips(folder, values, fortran):
  path = folder / "any.npy"
  array_files.write_npy(path, np.asfortranarray(values) if fortran else values)
  read = array_files.read_npy(path)
  assert (read.dtype, read.shape) == (values.dtype, values.shape)
  np.testing.assert_array_equal(read, values)


def test_npy_agrees_with_numpy(folder):
  expected = np.load(folder / "map.npy")
  np.testing.assert_array_equal(
    array_files.read_npy(folder / "map.npy"), expected
  )


def test_any_truncation_is_refused_with_its_byte(folder, tmp_path):
  whole = (folder / "map.npy").read_bytes()
  cut = tmp_path / "map.npy"
  for size in range(len(whole)):
    cut.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=r", byte \d+: ") as error:
      array_files.read_npy(cut)
    assert str(error.value).startswith(str(cut))
    assert "\n" not in str(error.value)


@hypothesis.given(at=st.integers(0, 1_000_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=150)
def test_a_changed_byte_raises_nothing_else(folder, at, change):
  damaged = bytearray((folder / "map.npy").read_bytes())
  damaged[at % len(damaged)] ^= change
  path = folder / "damaged.npy"
  path.write_bytes(bytes(damaged))
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
      array_files.read_npy(path)
    except ValueError as error:
      assert str(error).startswith(str(path)) and "\n" not in str(error)


def test_longer_npy_is_refused(folder, tmp_path):
  whole = (folder / "map.npy").read_bytes()
  path = tmp_path / "map.npy"
  path.write_bytes(whole + b"\0")
  with pytest.raises(
    ValueError, match=rf"byte {len(whole)}: .* array uint16\[9, 7\]"
  ):
    array_files.read_npy(path)


def test_huge_npy_is_refused_before_memory_is_asked_for(tmp_path):
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    file, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**9)}
  )
  path = tmp_path / "huge.npy"
  path.write_bytes(file.getvalue() + b"12345678")
  with pytest.raises(
    ValueError, match="expected 8000000000000128 for an array"
  ):
    array_files.read_npy(path)


class _Attack:
  def __reduce__(self):
    return (pytest.fail, ("a pickle was run",))


def test_pickled_objects_are_not_read(tmp_path):
  path = tmp_path / "objects.npy"
  np.save(path, np.array([_Attack()], object), allow_pickle=True)
  assert b"pytest" in path.read_bytes() or b"fail" in path.read_bytes()
  with pytest.raises(
    ValueError, match="objects.npy: .* dtype object; expected"
  ):
    array_files.read_npy(path)


def test_a_bare_pickle_is_no_npy(tmp_path):
  path = tmp_path / "bare.npy"
  path.write_bytes(pickle.dumps(_Attack()))
  with pytest.raises(ValueError, match="bare.npy, byte .*: not a .npy header"):
    array_files.read_npy(path)
