# SPDX-License-Identifier: Apache-2.0
"""From what is wanted - a share, a budget, a score - to a threshold or price.

A choice by price steps from one mean cost to the next, so no single price
meets a budget exactly. Two neighbouring prices, drawn with the right odds, do,
and are the best that any policy could do with those forecasts: it is the
fractional multiple-choice knapsack.

References:
  Dantzig (1957), Discrete-variable extremum problems (the fractional knapsack).
  Angelopoulos et al. (2021), Learn then test, arXiv:2110.01052 (`safe_price`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import scipy.stats

from jaxttc.allocators.routing import choice
from jaxttc.predictors import routing

_BISECTIONS = 60


class Threshold(NamedTuple):
  """Send what is above to the strong model, and a part of what is equal.

  Attributes:
    value: gains above it go to the strong model.
    ties: the probability that a gain equal to it does, too.
  """

  value: float
  ties: float

  def apply(
    self, gains: Float[np.ndarray, " n"], rng: np.random.Generator
  ) -> Bool[np.ndarray, " n"]:
    """bool[n], which go to the strong model; ties are drawn."""
    gains = np.asarray(gains)
    drawn = rng.random(gains.shape) < self.ties
    return (gains > self.value) | ((gains == self.value) & drawn)


class Mixture(NamedTuple):
  """Two prices, of which the dearer is drawn with some probability.

  Attributes:
    low: the lower price; it spends more.
    high: the higher price.
    share: probability of `high`, in [0, 1].
  """

  low: float
  high: float
  share: float

  def route(
    self, forecast: routing.Forecast, key: jax.Array
  ) -> Int[Array, " n"]:
    """The model of each question, i32[n]; a price is drawn for each."""
    quality, cost = forecast
    dear = choice.choose(quality, cost, self.low)
    cheap = choice.choose(quality, cost, self.high)
    drawn = jax.random.bernoulli(key, self.share, dear.shape)
    return jnp.where(drawn, cheap, dear)


def threshold_for_share(
  gains: Float[np.ndarray, " n"], share: float
) -> Threshold:
  """The threshold that sends a share of a sample to the strong model.

  In expectation over ties the share is exact.

  Args:
    gains: f64[n], expected score of the strong model less that of the weak.
    share: of the questions, in [0, 1].

  Raises:
    ValueError: if there are no gains, one is not finite, or the share is out of
      range.
  """
  gains = np.sort(np.asarray(gains, np.float64))[::-1]
  if not gains.size or not np.isfinite(gains).all() or not 0 <= share <= 1:
    raise ValueError(
      f"threshold_for_share: expected finite gains and a share in [0, 1], got "
      f"{gains.size} gains and share {share}"
    )
  wanted = share * len(gains)
  value = gains[min(int(wanted), len(gains) - 1)]
  above, equal = (gains > value).sum(), (gains == value).sum()
  return Threshold(float(value), float(np.clip((wanted - above) / equal, 0, 1)))


def price_for_budget(
  forecast: routing.Forecast, budget: float | int
) -> Mixture:
  """The prices at which a sample costs a budget, in expectation.

  Args:
    forecast: of a sample like the questions to come.
    budget: mean cost of a question.

  Returns:
    The mixture whose expected cost is the budget; both prices are 0 if the
    budget pays for the best of every question.

  Raises:
    ValueError: if the budget is below the cheapest choices, which are named.
  """
  quality, cost = forecast
  rows = jnp.arange(len(cost))

  def spent(price: float) -> float:
    chosen = choice.choose(quality, cost, price)
    return float(cost[rows, chosen].mean())

  least = spent(np.inf)
  if budget < least * (1 - 1e-6):
    raise ValueError(
      f"budget {budget:g} a question is below that of the cheapest models, "
      f"{least:g}"
    )
  low, high = 0.0, 1.0
  if spent(low) <= budget:
    return Mixture(0.0, 0.0, 0.0)
  while spent(high) > budget and high < 1e30:
    low, high = high, 2 * high
  for _ in range(_BISECTIONS):
    middle = float(np.float32((low + high) / 2))
    if middle in (low, high):
      break
    low, high = (middle, high) if spent(middle) > budget else (low, middle)
  dear, cheap = spent(low), spent(high)
  return Mixture(
    low, high, float(np.clip((dear - budget) / (dear - cheap), 0, 1))
  )


def safe_price(
  forecast: routing.Forecast,
  scores: Float[np.ndarray, "n K"],
  prices: Float[np.ndarray, " P"],
  target: float,
  *,
  confidence: float = 0.95,
) -> float:
  """The highest price whose mean score is, we trust, at least a target.

  Prices are tried from the lowest; the first whose lower confidence bound (of
  the sample's mean, by the normal distribution) falls below the target ends the
  search. A fixed order needs no correction for the number of trials.

  Args:
    forecast: of questions that the router was not fitted on.
    scores: f64[n, K], their true scores.
    prices: to try.
    target: mean score that must be reached.
    confidence: one-sided, in (0, 1); 0.5 trusts the mean itself.

  Returns:
    The price; the lowest one tried, if not even that is trusted.

  Raises:
    ValueError: if the confidence is out of range, or a score is not known.
  """
  if not 0 < confidence < 1 or np.isnan(scores).any():
    raise ValueError(
      "safe_price: expected known scores and a confidence in (0, 1), got "
      f"{confidence}"
    )
  prices = np.sort(np.asarray(prices, np.float64))
  chosen = np.asarray(choice.sweep(forecast, prices))
  reached = scores[np.arange(len(scores)), chosen]
  width = scipy.stats.norm.ppf(confidence) / np.sqrt(len(scores))
  trusted = reached.mean(1) - width * reached.std(1) >= target
  last = int(np.argmin(trusted)) if not trusted.all() else len(prices)
  return float(prices[max(last - 1, 0)])


def margins(
  predicted: Float[np.ndarray, "n K"],
  scores: Float[np.ndarray, "n K"],
  *,
  bins: int = 10,
  confidence: float = 0.9,
) -> Float[np.ndarray, " K"]:
  """How far below its predictions each model's mean score may lie.

  Questions are sorted by prediction into bins; the margin is the largest, over
  bins, of mean prediction less the lower confidence bound of the mean score,
  with the level shared among the bins.

  Args:
    predicted: f32[n, K], of questions that the router was not fitted on.
    scores: f64[n, K].
    bins: bins of equal size.
    confidence: that no bin of a model lies lower.

  Returns:
    f64[K], not negative.

  Raises:
    ValueError: if there are fewer than two questions a bin.
  """
  if len(scores) < 2 * bins:
    raise ValueError(
      f"margins: expected at least {2 * bins} questions, got {len(scores)}"
    )
  quantile = scipy.stats.norm.ppf(1 - (1 - confidence) / bins)
  found = np.zeros(scores.shape[1])
  for column in range(scores.shape[1]):
    order = np.argsort(predicted[:, column], kind="stable")
    for rows in np.array_split(order, bins):
      reached = scores[rows, column]
      low = reached.mean() - quantile * reached.std(ddof=1) / len(rows) ** 0.5
      gap = predicted[rows, column].mean() - low
      found[column] = max(found[column], gap)
  return found
