# SPDX-License-Identifier: Apache-2.0
"""Scores of stages that depend on each other beyond the truth.

Events that fool one stage tend to fool the next. One common factor u ~ N(0, 1)
per event stands for how relevant it looks: given the truth, a stage's score has
the rank of  a u + sqrt(1 - a^2) e,  with a its loading and e its own noise. Two
stages then have a Gaussian copula with correlation a_1 a_2. An integral over u
by Gauss-Hermite quadrature turns the product of the stages' shares, given u,
into the share that passes all of them.

Source: one-factor Gaussian copula (Li, "On Default Correlation", 2000).
"""

import jax.numpy as jnp
from jax.scipy import special
from jaxtyping import Array, Float
import numpy as np
from scipy import stats


def factor(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Places f[Q] of the common factor and their weights f[Q], which sum to 1."""
  if count == 1:
    return np.zeros(1), np.ones(1)
  places, weights = np.polynomial.hermite_e.hermegauss(count)
  return places, weights / weights.sum()


def given_factor(
  kept: Float[Array, " C"],
  loading: Float[Array, " C"],
  places: Float[Array, " Q"],
) -> Float[Array, "C Q"]:
  """Share of events above a threshold, given their common factor.

  Args:
    kept: share above the threshold, whatever the factor, of each class.
    loading: of the stage's scores on the factor, of each class, in (-1, 1).
    places: of the factor.

  Returns:
    The shares; their mean over the factor is `kept`.
  """
  limits = jnp.finfo(kept.dtype)
  # The normal deviate of 0 and 1 is infinite, and its derivative not a number.
  inside = jnp.clip(kept, limits.tiny * 1e8, 1.0 - limits.epsneg)
  deviate = special.ndtri(inside)[:, None]
  own = jnp.sqrt(1.0 - loading[:, None] ** 2)
  return special.ndtr((deviate + loading[:, None] * places[None]) / own)


def correlations(
  first: Float[np.ndarray, " N"],
  second: Float[np.ndarray, " N"],
  labels: np.ndarray,
) -> Float[np.ndarray, "2"]:
  """Correlation of two stages' normal scores, per class.

  Loadings whose product is this correlation, as sqrt(rho) twice, give the two
  stages of a graph the same copula.

  Args:
    first: scores of one stage.
    second: scores of the other, of the same events.
    labels: bool[N], whether each event is relevant.

  Returns:
    The correlations, of irrelevant and of relevant events.

  Raises:
    ValueError: if a class has fewer than three events.
  """
  found = []
  labels = np.asarray(labels, bool)
  for chosen in (~labels, labels):
    if chosen.sum() < 3:
      raise ValueError(
        f"correlation needs three events of each class, got {chosen.sum()}"
      )
    pair = [_normal_scores(values[chosen]) for values in (first, second)]
    found.append(np.corrcoef(*pair)[0, 1])
  return np.asarray(found)


def _normal_scores(values: np.ndarray) -> np.ndarray:
  ranks = stats.rankdata(values)
  return stats.norm.ppf(ranks / (len(values) + 1))
