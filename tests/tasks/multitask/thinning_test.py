# SPDX-License-Identifier: Apache-2.0
"""Tests of thinning: invariants on random shapes, and shapes by hand."""

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest
import scipy.ndimage

from jaxttc.tasks.multitask import thinning

_ALL = np.ones((3, 3))


def _picture(text):
  return np.array([[c == "#" for c in row] for row in text.split()])


_SHAPES = hnp.arrays(
  bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
)


@hypothesis.given(_SHAPES)
def test_lines_stay_connected_and_within(lines):
  before = lines.copy()
  thin = thinning.thin(lines)
  np.testing.assert_array_equal(lines, before)
  assert not (thin & ~lines).any()
  count = scipy.ndimage.label(lines, _ALL)[1]
  labels, kept = scipy.ndimage.label(thin, _ALL)
  assert kept == count
  # No line is lost: each of the old ones holds one of the new.
  old = scipy.ndimage.label(lines, _ALL)[0]
  assert set(np.unique(old[thin])) == set(range(1, count + 1))
  del labels


@hypothesis.given(_SHAPES)
def test_thinning_twice_changes_nothing(lines):
  thin = thinning.thin(lines)
  np.testing.assert_array_equal(thinning.thin(thin), thin)


@hypothesis.given(_SHAPES)
def test_agrees_with_the_definition_pixel_by_pixel(lines):
  np.testing.assert_array_equal(thinning.thin(lines), _slow(lines))


def _slow(lines):
  """Guo and Hall's conditions, one pixel at a time."""
  image = np.pad(lines, 1).astype(int)
  while True:
    before = image.copy()
    for is_odd in (False, True):
      gone = []
      for r, c in np.argwhere(image[1:-1, 1:-1]) + 1:
        e, ne, n, nw = (
          image[r, c + 1],
          image[r - 1, c + 1],
          image[r - 1, c],
          image[r - 1, c - 1],
        )
        w, sw, s, se = (
          image[r, c - 1],
          image[r + 1, c - 1],
          image[r + 1, c],
          image[r + 1, c + 1],
        )
        turns = (
          (not e and (ne or n))
          + (not n and (nw or w))
          + (not w and (sw or s))
          + (not s and (se or e))
        )
        one = (e or ne) + (n or nw) + (w or sw) + (s or se)
        two = (ne or n) + (nw or w) + (sw or s) + (se or e)
        keeps = (
          (w and (sw or s or not nw)) if is_odd else (e and (ne or n or not se))
        )
        if turns == 1 and 2 <= min(one, two) <= 3 and not keeps:
          gone.append((r, c))
      for place in gone:
        image[place] = 0
    if (image == before).all():
      return image[1:-1, 1:-1].astype(bool)


@pytest.mark.parametrize(
  "thick, thin",
  [
    ("###### ###### ######", "...... .####. ......"),
    ("##. .## ..#", "#.. .#. ..#"),
    (".... .##. .##. ....", None),
    ("# # # #", "# # # #"),
  ],
)
def test_shapes_by_hand(thick, thin):
  found = thinning.thin(_picture(thick))
  if thin is None:
    assert 1 <= found.sum() <= 2
  else:
    np.testing.assert_array_equal(found, _picture(thin))


def test_empty_and_full():
  assert not thinning.thin(np.zeros((4, 5), bool)).any()
  assert thinning.thin(np.ones((9, 9), bool)).sum() < 12


def test_thinning_a_bar_leaves_its_middle():
  mask = np.zeros((7, 12), bool)
  mask[2:5, 1:11] = True
  found = thinning.thin(mask)
  assert not found[[0, 1, 2, 4, 5, 6]].any()
  assert found[3, 3:9].all()


@hypothesis.settings(max_examples=60)
@hypothesis.given(hnp.arrays(bool, (9, 10), elements=st.booleans()))
def test_thinning_keeps_components_and_is_done_when_done(mask):
  found = thinning.thin(mask)
  assert not (found & ~mask).any()
  assert (
    scipy.ndimage.label(found, _ALL)[1] == (scipy.ndimage.label(mask, _ALL)[1])
  )
  # As many holes, seen from the background.
  holes = [scipy.ndimage.label(~np.pad(m, 1))[1] for m in (found, mask)]
  assert holes[0] == holes[1]
  np.testing.assert_array_equal(thinning.thin(found), found)
