# SPDX-License-Identifier: Apache-2.0
"""A fitted router at work: texts in, decisions out, each drawn and recorded.

The choice is by a price, or by a mean budget, for which two prices are drawn
between (`calibration.price_for_budget`). With some probability any model is
asked, so that a log of decisions says something about all of them. What is
drawn for a question depends on the seed and its text alone: whatever is asked
beside it, and however often, it goes to the same model.
"""

from collections.abc import Sequence
import functools
import hashlib
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from jaxttc.allocators.routing import calibration, choice, decision_log
from jaxttc.cost import tariff as tariff_lib
from jaxttc.predictors import routing
from jaxttc.predictors.routing import embedders

_BITS = 53  # of a uniform number


class Dispatcher:
  """Decides which model gets a question; see the module docstring.

  Attributes:
    models: the names of the K models.
    mixture: the prices that are drawn between.
    reading: what the vector of a question costs, by its tokens; None if it is
      free.
    fingerprint: of the router, for the log.
  """

  def __init__(
    self,
    router: routing.Router,
    embed: embedders.Embedder,
    *,
    price: float = 0.0,
    budget: float | None = None,
    sample: routing.Forecast | None = None,
    explore: float = 0.0,
    seed: int = 0,
    reading: tariff_lib.Tariff | None = None,
    fingerprint: str = "",
  ):
    """A dispatcher.

    Args:
      router: a fitted router.
      embed: texts to vectors f32[n, D], as the router was fitted with.
      price: score that a unit of cost is worth; infinity asks the cheapest.
      budget: mean cost of a question, in the router's unit, in place of a
        price; it is met in expectation over questions like the sample.
      sample: forecasts of questions that the router was not fitted on; for a
        budget only.
      explore: with what probability any model is asked.
      seed: of what is drawn.
      reading: what making a vector costs.
      fingerprint: of the router.

    Raises:
      ValueError: if the price is negative, `explore` is no probability, both a
        price and a budget are given, a budget comes without a sample, or it
        does not pay for the cheapest model.
    """
    if math.isnan(price) or price < 0:
      raise ValueError(f"price must not be negative, got {price}")
    if not 0 <= explore <= 1:
      raise ValueError(f"explore must be a probability, got {explore}")
    self.mixture = calibration.Mixture(price, price, 0.0)
    if budget is not None:
      if price:
        raise ValueError(f"price={price} and budget={budget}: give one of them")
      if sample is None:
        raise ValueError(
          f"budget={budget:g} needs a sample of forecasts to set prices by; "
          "expected a router that keeps one"
        )
      self.mixture = calibration.price_for_budget(sample, budget)
    self.models, self.fingerprint = router.models, fingerprint
    self.reading = reading
    self._router, self._embed = router, embed
    self._explore, self._seed = explore, seed

  def decide(self, texts: Sequence[str]) -> list[decision_log.Decision]:
    """A decision for each text; rows of one batch share a program.

    Raises:
      ValueError: if there are no texts, or vectors have another width than
        those that the router was fitted on.
    """
    x = np.asarray(self._embed(texts), np.float32)
    padded = np.zeros((1 << (len(x) - 1).bit_length(), x.shape[1]), np.float32)
    padded[: len(x)] = x
    quality, cost, odds = jax.device_get(
      _forecast_and_odds(self._router, padded, *self.mixture, self._explore)
    )
    return [
      self._decision(text, x[i], quality[i], cost[i], odds[i].astype(float))
      for i, text in enumerate(texts)
    ]

  def _decision(self, text, vector, quality, cost, odds):
    odds = odds / odds.sum()
    place = int(np.searchsorted(np.cumsum(odds), self._uniform(text), "right"))
    # Rounding may leave the last sum below 1.
    place = min(place, int(np.flatnonzero(odds)[-1]))
    return decision_log.Decision(
      question=decision_log.digest(text),
      features=decision_log.digest(vector),
      router=self.fingerprint,
      models=self.models,
      scores=tuple(map(float, quality)),
      costs=tuple(map(float, cost)),
      unit=self._router.unit,
      choice=self.models[place],
      propensity=float(odds[place]),
    )

  def _uniform(self, text: str) -> float:
    """In [0, 1), of the seed and a text."""
    data = f"{self._seed}/{text}".encode("utf-8", "surrogatepass")
    drawn = int.from_bytes(hashlib.sha256(data).digest()[:8])
    return (drawn >> (64 - _BITS)) / 2**_BITS


@jax.jit
def _forecast_and_odds(router, x, low, high, share, explore):
  """Quality, cost and odds of each model, f32[n, K]."""
  quality, cost = router.forecast(x)
  models = quality.shape[1]
  pick = functools.partial(jax.nn.one_hot, num_classes=models)
  dear = pick(choice.choose(quality, cost, low))
  cheap = pick(choice.choose(quality, cost, high))
  chosen: Float[jax.Array, "n K"] = (1 - share) * dear + share * cheap
  return quality, cost, (1 - explore) * chosen + jnp.float32(explore) / models
