# SPDX-License-Identifier: Apache-2.0
"""Lines of any width made one pixel wide.

Guo and Hall, "Parallel thinning with two-subiteration algorithms" (1989), the
variant that MATLAB's bwmorph and scikit-image's thin have. The neighbours of a
pixel are x1 to the east and x2 to x8 counter-clockwise from it. A pixel goes if

  G1  exactly one of its four corners turns from background to line,
  G2  min(n1, n2) is 2 or 3, the neighbours counted in pairs both ways,
  G3  in even rounds not (x1 and (x2 or x3 or not x8)), and in odd rounds the
      same turned by 180 degrees,

so that connected lines stay connected and ends stay where they are.
"""

import functools

from jaxtyping import Bool
import numpy as np

# Rows down and columns right of x1, x2, .., x8.
_AROUND = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def thin(
  lines: Bool[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
  """The lines, thinned until nothing changes; nothing is beyond the border."""
  padded = np.pad(lines, 1)
  inside = padded[1:-1, 1:-1]
  height, width = lines.shape
  views = [
    padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]
    for row, column in _AROUND
  ]
  before = -1
  while (count := int(inside.sum())) != before:
    before = count
    for is_removed in _removed():
      code = sum(view.astype(np.uint8) << k for k, view in enumerate(views))
      inside &= ~is_removed[code]
  return inside.copy()


@functools.cache
def _removed() -> tuple[np.ndarray, np.ndarray]:
  """Whether a pixel goes, by its neighbours' bits, in even and odd rounds."""
  codes = np.arange(256)
  x = [codes >> k & 1 == 1 for k in range(8)]
  x.append(x[0])
  corners = sum(
    (~x[k] & (x[k + 1] | x[k + 2])).astype(int) for k in (0, 2, 4, 6)
  )
  n1 = sum((x[k] | x[k + 1]).astype(int) for k in (0, 2, 4, 6))
  n2 = sum((x[k + 1] | x[k + 2]).astype(int) for k in (0, 2, 4, 6))
  pairs = np.minimum(n1, n2)
  may_go = (corners == 1) & (pairs >= 2) & (pairs <= 3)
  even = may_go & ~(x[0] & (x[1] | x[2] | ~x[7]))
  odd = may_go & ~(x[4] & (x[5] | x[6] | ~x[3]))
  return even, odd
