# SPDX-License-Identifier: Apache-2.0
"""Tests of people's parts, as PASCAL-Part's files have them."""

import pathlib

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.tasks.multitask import human_parts, mat_files

_H, _W = 5, 6


def _mask(*rows):
  mask = np.zeros((_H, _W), bool)
  mask[list(rows)] = True
  return mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp("parts")


def test_every_name_has_one_of_six_parts():
  assert len(human_parts.PART_OF) == 24
  assert set(human_parts.PART_OF.values()) == set(range(1, 7))
  known = {
    "nose": 1,
    "torso": 2,
    "ruarm": 3,
    "lhand": 4,
    "luleg": 5,
    "rfoot": 6,
  }
  assert known.items() <= human_parts.PART_OF.items()


def test_round_trip_of_two_people(folder):
  people = [
    {"head": _mask(0), "torso": _mask(1, 2)},
    {"lfoot": _mask(4)},
  ]
  human_parts.write(folder / "x.mat", people)
  parts = human_parts.read(folder / "x.mat")
  assert parts.dtype == np.int32
  assert parts[:, 0].tolist() == [1, 2, 2, 0, 6]
  (anno,) = mat_files.read(folder / "x.mat", "anno")
  assert anno["imname"] == "x"
  assert [thing["class"] for thing in anno["objects"]] == ["person", "person"]
  np.testing.assert_array_equal(anno["objects"][0]["mask"], _mask(0, 1, 2))


def test_where_parts_overlap_the_last_one_counts(folder):
  people = [{"torso": _mask(0, 1), "nose": _mask(0)}, {"llarm": _mask(1)}]
  human_parts.write(folder / "x.mat", people)
  assert human_parts.read(folder / "x.mat")[:3, 0].tolist() == [1, 4, 0]


@pytest.mark.parametrize("people", [[], [{}]])
def test_nobody_is_unknown(folder, people):
  human_parts.write(folder / "x.mat", people)
  assert human_parts.read(folder / "x.mat") is None


def _structs(*items):
  structs = np.zeros((1, len(items)), [(name, "O") for name in items[0]])
  for at, item in enumerate(items):
    structs[0, at] = tuple(item.values())
  return structs


def _anno(folder, **changes):
  part = {"part_name": "head", "mask": _mask(0).astype(np.uint8)}
  part |= {k: v for k, v in changes.items() if k in part}
  thing = {"class": "person", "class_ind": 15.0, "parts": _structs(part)}
  thing |= {k: v for k, v in changes.items() if k in thing}
  content = {"imname": "x", "objects": _structs(thing)} | {
    k: v for k, v in changes.items() if k == "objects"
  }
  mat_files.write(folder / "y.mat", "anno", changes.get("anno", content))
  return folder / "y.mat"


def test_other_things_are_passed_over(folder):
  assert human_parts.read(_anno(folder)).sum() == _W
  horse = _anno(folder, class_ind=13.0, part_name="lfho")
  assert human_parts.read(horse) is None
  assert human_parts.read(_anno(folder, parts=np.zeros((0, 0)))) is None


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"anno": np.ones(3)}, "ndarray where 1 structs were expected"),
    ({"anno": {"imname": "x"}}, "no field 'objects'; fields found: imname"),
    ({"objects": np.ones(2)}, "ndarray where an array of structs were"),
    ({"objects": "text"}, "str where an array of structs were"),
    ({"class_ind": np.ones(2)}, "object 1: class_ind is not one number"),
    ({"class_ind": "x"}, "object 1: class_ind is not one number"),
    (
      {"part_name": "tail"},
      "object 1: part 'tail'; expected one of hair, head",
    ),
    ({"part_name": 3.0}, "object 1: part_name is no text"),
    ({"mask": "x"}, "object 1: head has no mask with two axes"),
    ({"mask": np.ones((2, 2, 2))}, "object 1: head has no mask with two axes"),
  ],
)
def test_fields_that_cannot_be(folder, changes, message):
  path = _anno(folder, **changes)
  with pytest.raises(ValueError, match=f"y.mat.*{message}") as error:
    human_parts.read(path)
  assert "\n" not in str(error.value)


def test_masks_of_two_sizes_are_refused(folder):
  parts = _structs(
    {"part_name": "head", "mask": np.ones((2, 2), np.uint8)},
    {"part_name": "neck", "mask": np.ones((2, 3), np.uint8)},
  )
  with pytest.raises(
    ValueError, match=r"mask \[2, 3\] of neck; expected \[2, 2\]"
  ):
    human_parts.read(_anno(folder, parts=parts))


def test_unknown_parts_are_not_written(folder):
  with pytest.raises(ValueError, match="x.mat: part 'tail'; expected one of"):
    human_parts.write(folder / "x.mat", [{"tail": _mask(0)}])


@hypothesis.given(at=st.integers(128, 5_000), change=st.integers(1, 255))
@hypothesis.settings(max_examples=60)
def test_a_changed_byte_raises_nothing_else(folder, at, change):
  import scipy.io

  path = folder / "plain.mat"
  content = mat_files.read(_anno(folder), "anno")[0]
  content["objects"] = _structs(
    {
      **content["objects"][0],
      "parts": _structs(*content["objects"][0]["parts"]),
    }
  )
  scipy.io.savemat(path, {"anno": content})
  damaged = bytearray(path.read_bytes())
  damaged[at % len(damaged)] ^= change
  path.write_bytes(bytes(damaged))
  try:
    human_parts.read(path)
  except ValueError as error:
    assert str(error).startswith(str(path)) and "\n" not in str(error)
