# SPDX-License-Identifier: Apache-2.0
"""Digits: two or three scanned digits in one picture, four questions.

A picture of 24 x 24 (or 16 x 16) holds two or three different digits, each a
real scan of 8 x 8, at random places that do not overlap, with random contrast
and noise. What is said here of 3 x 3 cells and three digits is of the default;
smaller pictures and cells that are kept to make the tasks easier.

  which   the greatest digit in the picture, 0..9
  where   the cell of a 3 x 3 grid, row by row, that holds its centre, 0..8
  sum     of all the digits, 1..24
  parity  of the sum, 0 or 1

No two digits of a picture are equal, so every answer is unique. None of the
questions can be answered without reading every digit, wherever it stands, and
each asks for something else on top: a comparison, a place, an addition, and one
bit that a single misread digit can turn over. Errors multiply: who misreads one
digit in ten gets a quarter of the sums wrong, so that what width adds to
reading shows in every score. Scans are split before pictures are made: those
held out are never drawn in training, so what is measured is reading new
handwriting.

The scans are the 1,797 of the "Optical Recognition of Handwritten Digits" data
set's test part (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49), under CC BY 4.0, in the order of
scikit-learn's `load_digits`; they are stored unchanged, numbers 0..16.
"""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key
import numpy as np

from jaxttc.tasks.multitask import base, streams

SIDES = (16, 24)
SCAN_SIDE = 8
TRAINING_SCANS = 1347  # the first three quarters; the rest is held out
_FILE = pathlib.Path(__file__).with_name("digits.npz")


class Scans(NamedTuple):
  """Real scanned digits.

  Attributes:
    images: ink, 0..16.
    classes: which digit each is, 0..9.
  """

  images: np.ndarray  # u8[1797, 8, 8]
  classes: np.ndarray  # u8[1797]


class Layout(NamedTuple):
  """What a picture is made of; an absent third digit is not shown.

  Attributes:
    scan: indices into `scans()`, of different classes.
    present: which of them are shown, two or all.
    corner: row and column of each scan's upper left pixel.
    contrast: of each digit, 0.4..1.
  """

  scan: Int[Array, "*b D"]
  present: Bool[Array, "*b D"]
  corner: Int[Array, "*b D 2"]
  contrast: Float[Array, "*b D"]


@functools.cache
def scans() -> Scans:
  """All scans, in the order of their source."""
  with np.load(_FILE, allow_pickle=False) as stored:
    return Scans(stored["images"], stored["classes"])


@dataclasses.dataclass(frozen=True)
class Digits:
  """The digits benchmark: which, where, sum and parity.

  Attributes:
    noise: standard deviation of the pictures' noise; full ink is 1.
    seed: of the pictures that are held out.
    side: of a picture, one of `SIDES`.
    most: digits in a picture, 2, or by the toss of a coin 2 or 3.
    aligned: whether digits keep to the cells of the grid.

  Raises:
    ValueError: if one of them is out of range.
  """

  noise: float = 0.1
  seed: int = 0
  side: int = 24
  most: int = 3
  aligned: bool = False

  @property
  def tasks(self) -> tuple[base.Task, ...]:
    """The four questions, classes each."""
    cells = (self.side // SCAN_SIDE) ** 2
    greatest = sum(range(9, 9 - self.most, -1))
    outputs = {"which": 10, "where": cells, "sum": greatest + 1, "parity": 2}
    return tuple(base.Task(k, "classes", n) for k, n in outputs.items())

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """Of a picture."""
    return (self.side, self.side, 1)

  def __post_init__(self) -> None:
    if self.side not in SIDES:
      raise ValueError(f"side must be one of {SIDES}, got {self.side}")
    if self.most not in (2, 3):
      raise ValueError(f"most must be 2 or 3, got {self.most}")
    if self.side == 16 and not self.aligned:
      raise ValueError(
        "pictures of side 16 may have no room for a second digit unless they "
        "are aligned"
      )
    if not 0 <= self.noise <= 1:
      raise ValueError(f"noise must be in 0..1, got {self.noise}")
    streams.check_seed(self.seed)

  def sample(self, key: Key[Array, ""], batch: int) -> base.Examples:
    """Draws training examples.

    Args:
      key: random key; consumed.
      batch: examples to draw, a Python integer.

    Returns:
      inputs f32[batch, side, side, 1] and a label i32[batch] a task, all valid.
    """
    return _draw_all(self, streams.training(key, batch), False)

  def held_out(self, count: int) -> base.Examples:
    """The first `count` test examples, from scans that training never draws.

    They depend on seed and noise alone.

    Raises:
      ValueError: if `count` is not positive.
    """
    return _draw_all(self, streams.held_out(self.seed, count), True)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _draw_all(data: Digits, keys, held_out: bool) -> base.Examples:
  """An example a key."""

  def draw(key):
    layout_key, noise_key = jax.random.split(key)
    layout = draw_layout(layout_key, held_out, data)
    size = (data.side, data.side)
    noise = data.noise * jax.random.normal(noise_key, size)
    values = answers(layout, data.side)
    labels = {k: base.Label(v, jnp.bool_(True)) for k, v in values.items()}
    return base.Examples(
      (picture(layout, data.side) + noise)[..., None], labels
    )

  return jax.vmap(draw)(keys)


@functools.cache
def _by_class(held_out: bool) -> tuple[np.ndarray, np.ndarray]:
  """Scans of each class, i32[10, most], and how many, i32[10]."""
  ids = np.arange(len(scans().classes))
  mine = (ids >= TRAINING_SCANS) == held_out
  of_class = [np.flatnonzero(mine & (scans().classes == c)) for c in range(10)]
  counts = np.array([len(of) for of in of_class], np.int32)
  table = np.zeros((10, counts.max()), np.int32)
  for row, of in zip(table, of_class, strict=True):
    row[: len(of)] = of
  return table, counts


def draw_layout(
  key: Key[Array, ""], held_out: bool, data: Digits | None = None
) -> Layout:
  """Draws what a picture is made of.

  Args:
    key: random key; consumed.
    held_out: whether to take the scans that training never draws.
    data: size of pictures and number of digits; the default if None.

  Returns:
    The layout: classes are equally likely, and so are the places that are
    free when a digit is put down, one after the other.
  """
  data = data or Digits()
  most = data.most
  numbers = jax.random.uniform(key, (10 + 3 * most + 1,))
  order, numbers = numbers[:10], numbers[10:]
  which, place, contrast = numbers[: 3 * most].reshape(3, most)
  classes = jnp.argsort(order)[:most]
  table, counts = (jnp.asarray(x) for x in _by_class(held_out))
  count = counts[classes]
  within = jnp.minimum((which * count).astype(jnp.int32), count - 1)
  return Layout(
    scan=table[classes, within],
    present=jnp.arange(most) < 2 + (numbers[-1] < 0.5),
    corner=_corners(place, data.side, SCAN_SIDE if data.aligned else 1),
    contrast=0.4 + 0.6 * contrast,
  )


def _corners(unit: jax.Array, side: int, step: int) -> jax.Array:
  """Corners i32[D, 2] of scans that do not overlap, from numbers in 0..1.

  They are multiples of a step. There is always room: one scan covers at most
  one corner of the picture.
  """
  along = (side - SCAN_SIDE) // step + 1
  rows, columns = jnp.divmod(jnp.arange(along**2), along)
  rows, columns = rows * step, columns * step
  free = jnp.ones((along**2,), bool)
  corners = []
  for one in unit:
    places = free.sum()
    nth = jnp.minimum((one * places).astype(jnp.int32), places - 1)
    at = jnp.argmax(jnp.cumsum(free) > nth)
    corners.append(jnp.stack([rows[at], columns[at]]))
    free &= (jnp.abs(rows - rows[at]) >= SCAN_SIDE) | (
      jnp.abs(columns - columns[at]) >= SCAN_SIDE
    )
  return jnp.stack(corners)


def picture(layout: Layout, side: int = 24) -> Float[Array, "side side"]:
  """The picture of a layout, without noise; paper is 0, full ink 1."""
  ink = jnp.asarray(scans().images)[layout.scan].astype(jnp.float32) / 16
  ink *= (layout.contrast * layout.present)[:, None, None]
  # A one-hot matrix an axis puts a scan in its place: no scatter.
  at = jnp.arange(side)[None, :, None] - jnp.arange(SCAN_SIDE)[None, None]
  rows, columns = (
    (at == layout.corner[:, i, None, None]).astype(jnp.float32) for i in (0, 1)
  )
  return jnp.einsum("kyi,kij,kxj->yx", rows, ink, columns)


def answers(layout: Layout, side: int = 24) -> dict[str, Int[Array, ""]]:
  """The right answer to every question about a layout, i32[]."""
  classes = jnp.asarray(scans().classes.astype(np.int32))[layout.scan]
  shown = jnp.where(layout.present, classes, -1)
  cell = (layout.corner[shown.argmax()] + SCAN_SIDE // 2) // SCAN_SIDE
  total = jnp.where(layout.present, classes, 0).sum()
  return {
    "which": shown.max(),
    "where": side // SCAN_SIDE * cell[0] + cell[1],
    "sum": total,
    "parity": total % 2,
  }
