# SPDX-License-Identifier: Apache-2.0
"""A study becomes files, with or without matplotlib."""

import pathlib

from jaxttc import results, simulation


def _study(draw):
  return simulation.Study(
    [3], {"rows": [1, 2]}, [results.Claim("rate", 2.0, bar=1.0)], draw
  )


def test_writes_figures_and_picture(tmp_path):
  written = simulation.write(
    _study(lambda path: pathlib.Path(path).write_text("picture")),
    tmp_path / "folder" / "found",
  )
  assert [pathlib.Path(path).suffix for path in written] == [".json", ".png"]
  read = results.read(written[0])
  assert read.seeds == (3,)
  assert read.data == {"rows": [1, 2]}
  assert read.claims[0].holds
  assert pathlib.Path(written[1]).read_text() == "picture"


def test_figures_are_written_where_pictures_cannot_be(tmp_path):
  def draw(path):
    raise ImportError("no matplotlib")

  written = simulation.write(_study(draw), tmp_path / "found")
  assert written[1] == ""
  assert results.read(written[0]).claims
