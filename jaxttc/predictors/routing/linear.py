# SPDX-License-Identifier: Apache-2.0
"""Quality as a linear function of a question's vector: ridge and SVR.

One regression a model. Differences of two such heads are regressions of the
*gain* between two models, which is what a router must know: how likely the
weaker one fails tells little, since questions that nobody solves count, too.
"""

from collections.abc import Sequence

from flax import struct
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

PENALTIES = tuple(10.0**power for power in np.arange(-1, 4.5, 0.5))


@struct.dataclass
class Linear:
  """x @ weights + bias.

  Attributes:
    weights: f32[D, K].
    bias: f32[K].
  """

  weights: Float[Array, "D K"]
  bias: Float[Array, " K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    return x @ self.weights + self.bias[None]


def fit_ridge(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  penalties: Sequence[float] = PENALTIES,
) -> Linear:
  """Least squares with a squared penalty on weights, not on the bias.

  Of several penalties each model gets the one of least leave-one-out error,
  which follows from the same decomposition.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown, which leaves the row out.
    penalties: at least one, positive.

  Raises:
    ValueError: if a penalty is not positive, or there is none.
  """
  if not penalties or min(penalties) <= 0:
    raise ValueError(f"ridge: expected positive penalties, got {penalties}")
  known = ~np.isnan(scores)
  weights = np.zeros((x.shape[1], scores.shape[1]))
  bias = np.zeros(scores.shape[1])
  # Models that are known on the same questions share one decomposition.
  masks, which = np.unique(known, axis=1, return_inverse=True)
  for place in range(masks.shape[1]):
    rows, columns = masks[:, place], np.flatnonzero(which.ravel() == place)
    found, offset = _ridge(
      x[rows].astype(np.float64), scores[rows][:, columns], penalties
    )
    weights[:, columns], bias[columns] = found, offset
  return Linear(
    jnp.asarray(weights, jnp.float32), jnp.asarray(bias, jnp.float32)
  )


def _ridge(x, y, penalties) -> tuple[np.ndarray, np.ndarray]:
  """Weights f64[D, K] and bias f64[K], each column by its best penalty."""
  mean, level = x.mean(0), y.mean(0)
  x, y = x - mean, y - level
  values, vectors = np.linalg.eigh(x.T @ x)
  values = np.maximum(values, 0)
  turned = x @ vectors
  aligned = turned.T @ y
  best = np.full(y.shape[1], np.inf)
  weights = np.zeros((x.shape[1], y.shape[1]))
  for penalty in penalties:
    slopes = aligned / (values + penalty)[:, None]
    hat = 1 / len(x) + np.square(turned) @ (1 / (values + penalty))
    residual = (y - turned @ slopes) / np.maximum(1 - hat, 1e-9)[:, None]
    error = np.square(residual).sum(0)
    better = error < best
    best[better] = error[better]
    weights[:, better] = (vectors @ slopes)[:, better]
  return weights, level - mean @ weights


def fit_svr(
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  *,
  strength: float = 1.0,
  tube: float = 0.1,
  seed: int = 0,
) -> Linear:
  """Linear support-vector regression, by scikit-learn.

  Errors below the tube's width are free, larger ones count by their size; with
  scores of 0 and 1 it therefore leans towards the likelier of the two.

  Args:
    x: f32[N, D].
    scores: f64[N, K]; NaN where unknown, which leaves the row out.
    strength: C, the weight of errors against the squared weights.
    tube: epsilon, in units of the score.
    seed: of the solver.

  Raises:
    ImportError: if scikit-learn is not installed.
  """
  try:
    from sklearn import svm
  except ImportError as error:
    raise ImportError(
      "support-vector regression needs scikit-learn; install it with: pip "
      "install 'jaxttc[trees]'"
    ) from error
  mean, spread = x.mean(0), np.maximum(x.std(0), 1e-9)
  weights, bias = [], []
  for column in scores.T:
    known = ~np.isnan(column)
    found = svm.LinearSVR(
      C=strength / known.sum() * 100,
      epsilon=tube,
      loss="squared_epsilon_insensitive",
      dual=False,
      random_state=seed,
    ).fit((x[known] - mean) / spread, column[known])
    weights.append(found.coef_ / spread)
    bias.append(float(np.ravel(found.intercept_)[0]) - mean @ weights[-1])
  return Linear(
    jnp.asarray(np.stack(weights, 1), jnp.float32),
    jnp.asarray(np.array(bias), jnp.float32),
  )
