# SPDX-License-Identifier: Apache-2.0
"""Tests of labels of pixels: what is unknown is not valid, and zero."""

import pathlib

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from jaxttc.tasks.multitask import base, dense_labels

_PATH = pathlib.Path("labels/7.npy")
_SIZE = (3, 4)


@hypothesis.given(
  ids=hnp.arrays(
    st.sampled_from([np.int16, np.float32]), _SIZE, elements=st.integers(-1, 12)
  )
)
def test_classes(ids):
  value, valid = dense_labels.classes(_PATH, ids, 13, unknown=-1)
  assert (value.dtype, valid.dtype) == (np.int32, bool)
  np.testing.assert_array_equal(valid, ids >= 0)
  np.testing.assert_array_equal(value[valid], ids[valid])
  assert not value[~valid].any()


@pytest.mark.parametrize("wrong", [13, -2, 1.5, np.nan, np.inf])
def test_classes_that_are_none_are_named_with_their_place(wrong):
  ids = np.zeros(_SIZE)
  ids[1, 2] = wrong
  with pytest.raises(
    ValueError,
    match=rf"7.npy: class {wrong}(\.0)? at row 1, column 2; expected",
  ):
    dense_labels.classes(_PATH, ids, 13, unknown=-1)


@hypothesis.given(
  distance=hnp.arrays(
    np.float32,
    _SIZE,
    elements=st.one_of(
      st.floats(0, 100, width=32), st.sampled_from([np.nan, np.inf, 0.0])
    ),
  ),
  has_channel=st.booleans(),
)
def test_depth(distance, has_channel):
  given = distance[..., None] if has_channel else distance
  value, valid = dense_labels.depth(_PATH, given)
  assert value.shape == (*_SIZE, 1) and value.dtype == np.float32
  np.testing.assert_array_equal(valid, (distance > 0) & np.isfinite(distance))
  np.testing.assert_array_equal(value[valid][:, 0], distance[valid])
  assert not value[~valid].any()


@hypothesis.given(
  vectors=hnp.arrays(
    np.float32, (*_SIZE, 3), elements=st.floats(-1, 1, width=32)
  )
)
def test_normals_are_unit_vectors_or_unknown(vectors):
  value, valid = dense_labels.normals(_PATH, vectors)
  lengths = np.linalg.norm(vectors, axis=-1)
  assert valid[(lengths > 0.51) & (lengths < 1.49)].all()
  assert not valid[lengths < 0.49].any()
  np.testing.assert_allclose(
    np.linalg.norm(value, axis=-1), valid.astype(float), atol=1e-5
  )
  dot = (value * vectors).sum(-1)[valid]
  np.testing.assert_allclose(dot, lengths[valid], rtol=1e-4)


def test_normals_of_nan_are_unknown():
  vectors = np.zeros((1, 2, 3))
  vectors[0, :, 2] = 1
  vectors[0, 0, 0] = np.nan
  vectors[0, 0, 2] = np.inf
  assert dense_labels.normals(_PATH, vectors).valid.tolist() == [[False, True]]


@hypothesis.given(
  amount=hnp.arrays(np.float32, _SIZE, elements=st.floats(0, 1, width=32)),
  known=hnp.arrays(bool, _SIZE),
)
def test_binary(amount, known):
  value, valid = dense_labels.binary(_PATH, amount, known)
  np.testing.assert_array_equal(valid, known)
  np.testing.assert_array_equal(value[..., 0], (amount > 0.5) & known)
  assert dense_labels.binary(_PATH, amount).valid.all()


@pytest.mark.parametrize(
  "task, dtype, shape",
  [
    (base.Task("s", "segmentation", 21), np.int32, _SIZE),
    (base.Task("d", "depth", 1), np.float32, (*_SIZE, 1)),
    (base.Task("n", "normals", 3), np.float32, (*_SIZE, 3)),
    (base.Task("e", "edges", 1), np.float32, (*_SIZE, 1)),
  ],
)
def test_absent(task, dtype, shape):
  value, valid = dense_labels.absent(task, _SIZE)
  assert (value.dtype, value.shape) == (dtype, shape)
  assert valid.shape == _SIZE and not valid.any() and not value.any()
