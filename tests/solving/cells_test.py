# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.solving import cells


def cell_id(**changes):
  values = {
    "method": "astar",
    "setting": "children=4",
    "budget": 100,
    "seed": 0,
    "decoder": "astar([('children', 4)])",
    "temperature": 1.0,
    "control": "",
    "experiment": "0123",
  }
  return cells.CellId(**{**values, **changes})


def filled(generated, rounds):
  cell = cells.Cell.empty(len(generated))
  cell.cost[:, cells.costs.FIELDS.index("generated_tokens")] = generated
  cell.rounds[:] = rounds
  cell.correct[:] = True
  cell.stop[:] = "generated_tokens"
  return cell


def test_round_trip(tmp_path):
  cell = filled([10, 20, 30], [2, 3, 4])
  cells.save(tmp_path / "new", cell_id(), cell)
  found = cells.load(tmp_path / "new", cell_id())
  for field in dataclasses.fields(cell):
    want = getattr(cell, field.name)
    np.testing.assert_array_equal(getattr(found, field.name), want)
  assert [p.suffix for p in (tmp_path / "new").iterdir()] == [".npz"]


@pytest.mark.parametrize(
  ("changes", "same"),
  [
    ({"budget": 200}, False),
    ({"seed": 1}, False),
    ({"decoder": "astar([('children', 2)])"}, False),
    ({"temperature": 0.5}, False),
    ({"control": "random"}, False),
    ({"experiment": "4567"}, False),
    ({}, True),
  ],
)
def test_only_the_cell_itself_is_found(tmp_path, changes, same):
  cells.save(tmp_path, cell_id(), filled([10], [2]))
  found = cells.load(tmp_path, cell_id(**changes))
  assert (found is not None) == same


def test_damaged_cell_counts_as_missing(tmp_path):
  assert cells.load(tmp_path, cell_id()) is None
  cells.save(tmp_path, cell_id(), filled([10], [2]))
  path = tmp_path / cell_id().file
  whole = path.read_bytes()
  for content in (whole[: len(whole) // 2], b"", b"garbage"):
    path.write_bytes(content)
    assert cells.load(tmp_path, cell_id()) is None


def test_a_budget_is_unbound_only_where_no_round_could_be_cut():
  cell = filled([50, 50, 100, 0], [3, 2, 2, 1])
  # One round of at most 40: the first problem had spent up to 50 before its
  # last round, the others nothing.
  assert cell.unbound_at(89, 40).tolist() == [False, True, True, True]
  assert cell.unbound_at(90, 40).tolist() == [True, True, True, True]
  assert not cell.unbound_at(39, 40).any()


def test_copy_marks_what_it_takes_over():
  cell = filled([50, 60], [2, 3])
  found = cell.copy(np.array([True, False]))
  assert found.copied.tolist() == [True, False]
  assert found.correct.tolist() == [True, False]
  assert found.field("generated_tokens").tolist() == [50, 0]
  assert not cell.copied.any()


def test_folder_that_cannot_be_made(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written: "):
    cells.save(tmp_path / "file" / "cells", cell_id(), filled([1], [1]))
