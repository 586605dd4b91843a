# SPDX-License-Identifier: Apache-2.0
"""The edge score of the boundary benchmarks, odsF, without MATLAB.

A map of edge probabilities is made thin (`non_maximum_suppression`), cut at 99
thresholds, and made one pixel thin again (`thinning`). At each threshold every
predicted pixel may be the partner of one true pixel at most a share of the
image's diagonal away, and of no other; precision and recall are the shares
that find partners. Counts are pooled over images: odsF is the best F of one
threshold for all images, oisF that of a threshold for each.

Partners are found by a largest matching ("exact", see `pixel_matching`), so
that no prediction is rewarded for an edge that another one has found. The usual
approximation, "dilation", asks whether there is any edge within reach; several
predictions may then share a partner, and F is never lower.

References:
  Martin, Fowlkes and Malik (2004), Learning to detect natural image boundaries
    using local brightness, color, and texture cues (matching, precision,
    recall). Arbelaez et al. (2011), Contour detection and hierarchical image
    segmentation (ODS, OIS).
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np
import scipy.ndimage

from jaxttc.evaluation import pixel_matching
from jaxttc.tasks.multitask import thinning

THRESHOLDS = np.arange(1, 100) / 100
# How far partners may be apart, as a share of the diagonal.
PASCAL_DISTANCE = 0.0075
NYUD_DISTANCE = 0.011
MATCHINGS = ("exact", "dilation")
_SLOPE = 1.0  # pixels that gradients are smoothed over
_SMOOTHING = 2.0  # pixels that share their directions
_TOLERANCE = 1.01  # a ridge may be this much lower than beside it


class EdgeCounts(NamedTuple):
  """What one image, or several, add to the score, at T thresholds.

  Attributes:
    predicted: i64[T], predicted edge pixels.
    right: i64[T], predicted pixels with a true partner.
    found: i64[T], true pixels with a predicted partner.
    true: i64[T], true edge pixels.
  """

  predicted: Int[np.ndarray, " T"]
  right: Int[np.ndarray, " T"]
  found: Int[np.ndarray, " T"]
  true: Int[np.ndarray, " T"]

  def f(self) -> Float[np.ndarray, " T"]:
    """F = 2 P R / (P + R) at each threshold; 0 where nothing has a partner."""
    precision = self.right / np.maximum(self.predicted, 1)
    recall = self.found / np.maximum(self.true, 1)
    total = precision + recall
    return 2 * precision * recall / np.where(total > 0, total, 1.0)


class EdgeScore(NamedTuple):
  """The score of a set of images.

  Attributes:
    ods_f: best F of one threshold for all images.
    threshold: that threshold.
    precision: at that threshold.
    recall: at that threshold.
    ois_f: F of pooled counts, each image at its own best threshold.
  """

  ods_f: float
  threshold: float
  precision: float
  recall: float
  ois_f: float


def image_counts(
  probability: Any,
  truth: Any,
  *,
  valid: Any | None = None,
  max_distance: int | float = PASCAL_DISTANCE,
  matching: str = "exact",
  thin: bool = True,
) -> EdgeCounts:
  """Counts of one image at the 99 thresholds of `THRESHOLDS`.

  Args:
    probability: f[H, W], in [0, 1].
    truth: bool[H, W], or numbers of which 0.5 and more is an edge; used as it
      is, so it should be thin.
    valid: bool[H, W]; pixels that are not valid are neither predicted nor true.
    max_distance: how far partners may be apart, as a share of the diagonal.
    matching: "exact" or "dilation"; see the module docstring.
    thin: whether the prediction is to be made thin.

  Raises:
    ValueError: for shapes that disagree, probabilities or a distance outside
      [0, 1], or an unknown matching.
  """
  edges, wanted, known = _checked(probability, truth, valid)
  if matching not in MATCHINGS:
    raise ValueError(
      f"matching must be one of {', '.join(MATCHINGS)}, got {matching!r}"
    )
  if not 0 <= max_distance <= 1:
    raise ValueError(f"max_distance must lie in [0, 1], got {max_distance}")
  radius = max_distance * float(np.hypot(*edges.shape))
  if thin:
    edges = non_maximum_suppression(edges)
  edges, wanted = np.where(known, edges, 0.0), wanted & known
  match = _matched if matching == "exact" else _within_reach
  rows, last, row = [], -1, (0, 0, 0)
  for threshold in THRESHOLDS:
    mask = edges >= threshold
    size = int(mask.sum())
    # Masks only shrink, so one of the same size is the same mask.
    if size != last:
      mask = thinning.thin(mask) if thin else mask
      row = (int(mask.sum()), *match(mask, wanted, radius))
      last = size
    rows.append((*row, int(wanted.sum())))
  return EdgeCounts(*np.array(rows, np.int64).T)


def edge_score(images: Iterable[EdgeCounts]) -> EdgeScore:
  """The score of a set of images.

  Args:
    images: from `image_counts`, all with the same settings.

  Raises:
    ValueError: if there are no images.
  """
  counts = list(images)
  if not counts:
    raise ValueError("edge_score: there are no images")
  pooled = EdgeCounts(*np.sum([list(image) for image in counts], axis=0))
  f = pooled.f()
  best = int(f.argmax())
  own = [
    [part[image.f().argmax() : image.f().argmax() + 1] for part in image]
    for image in counts
  ]
  each = EdgeCounts(*np.sum(own, axis=0))
  return EdgeScore(
    float(f[best]),
    float(THRESHOLDS[best]),
    float(pooled.right[best] / max(pooled.predicted[best], 1)),
    float(pooled.found[best] / max(pooled.true[best], 1)),
    float(each.f()[0]),
  )


def non_maximum_suppression(
  probability: Float[np.ndarray, "H W"],
) -> Float[np.ndarray, "H W"]:
  """Edge probabilities, 0 where a neighbour across the edge is stronger.

  Across an edge is the direction in which the map around it changes most: that
  of the largest eigenvalue of the structure tensor, which also has a direction
  on the crest, where the gradient has none. What is beyond the border is 0.
  """
  probability = np.asarray(probability, np.float64)
  dy, dx = (
    scipy.ndimage.gaussian_filter(probability, _SLOPE, order=order)
    for order in ((1, 0), (0, 1))
  )
  xx, xy, yy = (
    scipy.ndimage.gaussian_filter(product, _SMOOTHING)
    for product in (dx * dx, dx * dy, dy * dy)
  )
  angle = 0.5 * np.arctan2(2 * xy, xx - yy)
  step = np.stack([np.sin(angle), np.cos(angle)])
  here = np.indices(probability.shape)
  beside = [
    scipy.ndimage.map_coordinates(
      probability, here + sign * step, order=1, mode="constant"
    )
    for sign in (-1, 1)
  ]
  ridge = probability * _TOLERANCE >= np.maximum(*beside)
  return np.where(ridge, probability, 0.0)


def _checked(
  probability: Any, truth: Any, valid: Any | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  edges, wanted = np.asarray(probability, np.float64), np.asarray(truth)
  known = np.ones(edges.shape, bool) if valid is None else np.asarray(valid)
  if edges.ndim != 2 or not edges.shape == wanted.shape == known.shape:
    raise ValueError(
      "image_counts: expected probability[H, W], truth[H, W] and valid[H, W], "
      f"got {edges.shape}, {wanted.shape} and {known.shape}"
    )
  if not ((edges >= 0) & (edges <= 1)).all():
    raise ValueError("image_counts: probabilities must lie in [0, 1]")
  return edges, wanted >= 0.5, known.astype(bool)


def _matched(
  mask: np.ndarray, truth: np.ndarray, radius: float
) -> tuple[int, int]:
  """Pixels of each mask that have a partner of their own within a radius."""
  count = pixel_matching.pairs(mask, truth, radius)
  return count, count


def _within_reach(
  mask: np.ndarray, truth: np.ndarray, radius: float
) -> tuple[int, int]:
  """Pixels of each mask that have any of the other within a radius."""
  return (
    int((_distances(truth)[mask] <= radius).sum()),
    int((_distances(mask)[truth] <= radius).sum()),
  )


def _distances(mask: np.ndarray) -> np.ndarray:
  """Distance of every pixel to the nearest of a mask; infinite without one."""
  if not mask.any():
    return np.full(mask.shape, np.inf)
  return scipy.ndimage.distance_transform_edt(~mask)
