# SPDX-License-Identifier: Apache-2.0
"""How likely an answer is right, by how hard the question and how long thought.

    Pr(right | d, b) = floor + (ceiling - floor) sigmoid(z),
    z = slope log b - weight log d - offset,

with d the difficulty in tokens (`thinking_difficulty`) and b the budget: five
numbers, fitted by maximum likelihood to answers under several budgets.
"""

import dataclasses

from jaxtyping import Bool, Float, Shaped
import numpy as np
from scipy import optimize, special

_BOUNDS = ((0.0, 0.5), (0.5, 1.0), (0.0, 60.0), (0.0, 60.0), (-200.0, 200.0))
_STARTS = (1.0, 4.0, 16.0)  # slopes
_LEAST = 1e-6  # a chance of 0 or 1 would forbid what may happen

# Numbers of any one shape, or of shapes that broadcast.
Numbers = Shaped[np.ndarray, "..."] | float | int


@dataclasses.dataclass(frozen=True)
class SuccessCurve:
  """The five numbers; see the module.

  Attributes:
    floor: chance of a right answer without any thought, in [0, 0.5].
    ceiling: with as much as it takes, in [0.5, 1].
    slope: of log b, >= 0.
    weight: of log d, >= 0.
    offset: any number.
  """

  floor: float
  ceiling: float
  slope: float
  weight: float
  offset: float

  def __call__(
    self, difficulty: Numbers, budget: Numbers
  ) -> Float[np.ndarray, "..."]:
    """Chances, of the shape that difficulty and budget broadcast to.

    Raises:
      ValueError: if one of them is not positive.
    """
    d, b = np.asarray(difficulty, float), np.asarray(budget, float)
    if not (d > 0).all() or not (b > 0).all():
      raise ValueError("difficulties and budgets must be positive")
    z = self.slope * np.log(b) - self.weight * np.log(d) - self.offset
    gain = (self.ceiling - self.floor) * special.expit(z)
    return np.asarray(np.clip(self.floor + gain, 0.0, 1.0))


def fit(
  difficulty: Shaped[np.ndarray, " _"],
  budget: Shaped[np.ndarray, " _"],
  right: Bool[np.ndarray, " _"],
) -> SuccessCurve:
  """The likeliest curve.

  Args:
    difficulty: of each answer's question, positive.
    budget: that it was given, positive; at least two different ones.
    right: whether it is.

  Raises:
    ValueError: if the lengths differ, there are not two budgets, or a number is
      not positive.
  """
  d, b = np.asarray(difficulty, float), np.asarray(budget, float)
  if not d.shape == b.shape == np.shape(right) or np.unique(b).size < 2:
    raise ValueError(
      f"success_curves.fit: difficulties {d.shape}, budgets {b.shape} and "
      f"answers {np.shape(right)} with {np.unique(b).size} different budgets; "
      "expected as many of each, and two budgets"
    )
  curve = SuccessCurve(0.0, 1.0, 1.0, 1.0, 0.0)
  curve(d, b)  # refuses what is not positive

  def loss(numbers: np.ndarray) -> float:
    p = SuccessCurve(*numbers)(d, b).clip(_LEAST, 1 - _LEAST)
    return -float(np.where(right, np.log(p), np.log1p(-p)).mean())

  middle = np.log(b).mean() - np.log(d).mean()
  found = [
    optimize.minimize(
      loss, (0.1, 0.9, s, s, s * middle), method="L-BFGS-B", bounds=_BOUNDS
    )
    for s in _STARTS
  ]
  best = min(found, key=lambda one: one.fun)
  return SuccessCurve(*map(float, best.x))
