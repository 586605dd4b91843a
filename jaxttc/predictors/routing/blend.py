# SPDX-License-Identifier: Apache-2.0
"""Several heads as one: weights that fit held-out scores best.

Each head predicts questions that it was not fitted on; weights, not negative,
and a bias a model are then fitted to the true scores by least squares.
Stacking also calibrates: a single head that only ranks models comes out as
expected scores.

Reference: Breiman (1996), Stacked regressions.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np
import scipy.optimize

from jaxttc.predictors.routing import base

Folds = Sequence[tuple[np.ndarray, np.ndarray]]


@struct.dataclass
class Blend:
  """A weighted sum of heads, and a bias a model.

  Attributes:
    heads: H heads.
    weights: f32[H], not negative.
    bias: f32[K].
  """

  heads: tuple[Any, ...]
  weights: Float[Array, " H"]
  bias: Float[Array, " K"]

  def __call__(self, x: Float[Array, "n D"]) -> Float[Array, "n K"]:
    """f32[n, K]."""
    parts = jnp.stack([head(x) for head in self.heads])
    return jnp.einsum("h,hnk->nk", self.weights, parts) + self.bias[None]


def out_of_fold(
  fit_head: base.FitHead,
  x: Float[np.ndarray, "N D"],
  scores: Float[np.ndarray, "N K"],
  folds: Folds,
  key: jax.Array,
) -> Float[np.ndarray, "N K"]:
  """Predictions of each question by a head that was fitted on other folds.

  Args:
    fit_head: fits a head.
    x: f32[N, D].
    scores: f64[N, K].
    folds: (training rows, held-out rows); the held-out ones make up all rows.
    key: of the fits.

  Raises:
    ValueError: if some question is never held out.
  """
  found = np.full(scores.shape, np.nan, np.float32)
  for number, (train, held_out) in enumerate(folds):
    head = fit_head(x[train], scores[train], jax.random.fold_in(key, number))
    found[held_out] = base.predict(head, x[held_out])
  if np.isnan(found).any():
    raise ValueError("out_of_fold: expected folds that hold each question out")
  return found


def fit_weights(
  predictions: Iterable[Float[np.ndarray, "N K"]],
  scores: Float[np.ndarray, "N K"],
) -> tuple[Float[np.ndarray, " H"], Float[np.ndarray, " K"]]:
  """Weights f64[H] >= 0 and bias f64[K] of least squared error.

  Args:
    predictions: f32[N, K] of each of H heads, on questions that they were not
      fitted on.
    scores: f64[N, K]; NaN where unknown.
  """
  known = ~np.isnan(scores)
  parts = [np.where(known, part, np.nan) for part in predictions]
  middles = np.stack([np.nanmean(part, 0) for part in parts])
  level = np.nanmean(scores, 0)
  columns = [
    (part - middle)[known] for part, middle in zip(parts, middles, strict=True)
  ]
  weights, _ = scipy.optimize.nnls(
    np.stack(columns, 1), (scores - level)[known]
  )
  return weights, level - weights @ middles


def join(
  heads: Sequence[Any],
  weights: Float[np.ndarray, " H"],
  bias: Float[np.ndarray, " K"],
) -> Blend:
  """Heads fitted on everything, with the weights that `fit_weights` found."""
  return Blend(
    tuple(heads),
    jnp.asarray(weights, jnp.float32),
    jnp.asarray(bias, jnp.float32),
  )
