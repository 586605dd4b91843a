# SPDX-License-Identifier: Apache-2.0
"""Tests of how pictures are set up and written."""

import pytest

from jaxttc import page


def test_style_ends_with_its_context_even_after_an_error():
  import matplotlib

  before = dict(matplotlib.rcParams)
  with pytest.raises(KeyError), page.style():
    assert matplotlib.rcParams["legend.frameon"] is False
    raise KeyError
  assert dict(matplotlib.rcParams) == before


def test_a_figure_is_saved_at_its_size_in_a_new_folder(tmp_path):
  path = tmp_path / "new" / "empty.png"
  with page.style():
    page.save(page.figure(2.5), path)
  header = path.read_bytes()[:24]
  assert int.from_bytes(header[16:20]) == 1800
  assert int.from_bytes(header[20:24]) == 500


def test_the_suffix_names_the_format(tmp_path):
  with page.style():
    page.save(page.figure(1.0), tmp_path / "empty.svg")
  assert "<svg" in (tmp_path / "empty.svg").read_text()


def test_a_format_is_refused_before_anything_is_drawn(tmp_path):
  page.check(tmp_path / "fine.SVG")
  with pytest.raises(ValueError, match=r"x\.xyz: expected a picture of one of"):
    page.check("x.xyz")
  with pytest.raises(ValueError, match="png"):
    page.check("nothing")
