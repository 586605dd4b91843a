# SPDX-License-Identifier: Apache-2.0
"""Tests of batches made on the host, and of lists of names."""

import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import base, examples


def _example(number, names=("a", "b"), size=2):
  labels = {
    name: base.Label(np.int32(number), np.bool_(number % 2)) for name in names
  }
  return base.Examples(np.full(size, number, np.float32), labels)


@hypothesis.given(numbers=st.lists(st.integers(0, 99), min_size=1, max_size=9))
def test_stack_keeps_order_and_types(numbers):
  batch = examples.stack([_example(number) for number in numbers])
  assert batch.inputs.shape == (len(numbers), 2)
  assert batch.inputs[:, 0].tolist() == numbers
  assert list(batch.labels) == ["a", "b"]
  label = batch.labels["b"]
  assert (label.value.dtype, label.valid.dtype) == (np.int32, bool)
  assert label.value.tolist() == numbers
  assert label.valid.tolist() == [number % 2 == 1 for number in numbers]


def test_examples_that_differ_make_no_batch():
  one = _example(1)
  with pytest.raises(
    ValueError, match=r"example 1 has inputs \[3\]; exp.* \[2\]"
  ):
    examples.stack([one, _example(2, size=3)])
  with pytest.raises(
    ValueError, match=r"example 2 has labels \['a'\]; exp.*'b'"
  ):
    examples.stack([one, one, _example(2, names=("a",))])
  with pytest.raises(ValueError, match="no examples to make a batch of"):
    examples.stack([])


def test_first_are_the_first():
  source, path = [_example(number) for number in range(5)], pathlib.Path("val")
  assert examples.first(source, 3, path).inputs[:, 0].tolist() == [0, 1, 2]
  for count in (0, 6):
    with pytest.raises(ValueError, match=f"val: {count} held-out .* 1 to 5"):
      examples.first(source, count, path)


@hypothesis.given(
  ids=st.lists(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
    min_size=1,
    unique=True,
  )
)
def test_lists_of_names_round_trip(tmp_path_factory, ids):
  path = tmp_path_factory.mktemp("ids") / "sets" / "train.txt"
  examples.write_ids(path, ids)
  assert examples.read_ids(path) == tuple(ids)


def test_names_are_those_given_or_numbers():
  assert examples.names(None, 2) == ("00000", "00001")
  assert examples.names(["x", "y"], 2) == ("x", "y")
  with pytest.raises(
    ValueError, match="1 names, 1 of them distinct, for 2 images"
  ):
    examples.names(["x"], 2)
