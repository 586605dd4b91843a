# SPDX-License-Identifier: Apache-2.0
"""Which model to ask, given what each is expected to score and to cost.

With a price of cost, lambda >= 0, in score per unit of cost, the choice is
argmax_M quality(M) - lambda * cost(M): at 0 the best, at infinity the
cheapest, and in between the best use of some budget (the price is that
budget's Lagrange multiplier). All of it is jit-able, and one `vmap` over
prices is the whole trade-off of a router.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.predictors import routing


def choose(
  quality: Float[Array, "n K"],
  cost: Float[Array, "n K"],
  price: Float[Array, ""] | float,
  available: Bool[Array, " K"] | None = None,
) -> Int[Array, " n"]:
  """The model of greatest quality - price * cost; pure, for use under jit.

  Of equals the cheapest is chosen, then the first.

  Args:
    quality: f32[n, K], expected scores.
    cost: f32[n, K], expected costs.
    price: score a unit of cost is worth; infinity chooses the cheapest, and of
      equally cheap models the best.
    available: bool[K], which models may be chosen; None: all. At least one.

  Returns:
    i32[n].
  """
  price = jnp.asarray(price, jnp.float32)
  free = jnp.isinf(price)
  worth = quality - jnp.where(free, 0.0, price) * cost
  first = jnp.where(free, -cost, worth)
  second = jnp.where(free, quality, -cost)
  if available is not None:
    first = jnp.where(jnp.asarray(available)[None], first, -jnp.inf)
  best = first >= first.max(1, keepdims=True)
  return jnp.argmax(jnp.where(best, second, -jnp.inf), 1).astype(jnp.int32)


_choices = jax.jit(jax.vmap(choose, in_axes=(None, None, 0, None)))


def sweep(
  forecast: routing.Forecast,
  prices: Float[Any, " P"],
  available: Bool[Any, " K"] | None = None,
) -> Int[Array, "P n"]:
  """Choices at each of several prices, i32[P, n], in one compiled call.

  Raises:
    ValueError: if a price is negative or no number, or no model is available.
  """
  prices = jnp.asarray(prices, jnp.float32)
  if not (prices >= 0).all():
    raise ValueError(f"prices must not be negative, got {prices.min()}")
  _check_available(available, forecast.quality.shape[1])
  return _choices(forecast.quality, forecast.cost, prices, available)


def route(
  router: routing.Router,
  x: Float[Array, "n D"],
  price: float = 0.0,
  available: Bool[Any, " K"] | None = None,
) -> Int[Array, " n"]:
  """The model to ask each question, by its vector.

  Args:
    router: a fitted router.
    x: f32[n, D].
    price: of a unit of cost, in score; infinity chooses the cheapest.
    available: bool[K], which models may be chosen; None: all.

  Returns:
    i32[n], places in `router.models`.

  Raises:
    ValueError: if the price is negative, no model is available, or the vectors
      have another width than those of the fit.
  """
  if math.isnan(price) or price < 0:
    raise ValueError(f"price must not be negative, got {price}")
  _check_available(available, len(router.models))
  forecast = router.forecast(x)
  return choose(forecast.quality, forecast.cost, price, available)


def cheapest_above(
  quality: Float[Array, "n K"],
  cost: Float[Array, "n K"],
  target: Float[Array, ""] | float,
  margin: Float[Array, " K"] | float = 0.0,
) -> Int[Array, " n"]:
  """The cheapest model whose quality, less a margin, reaches a target.

  Where none reaches it, the one of greatest quality less margin.

  Args:
    quality: f32[n, K], expected scores.
    cost: f32[n, K], expected costs.
    target: the score that suffices.
    margin: f32[K], how far the truth may lie below; `margins` measures it.

  Returns:
    i32[n].
  """
  low = quality - jnp.atleast_1d(jnp.asarray(margin))[None]
  enough = low >= target
  cheapest = jnp.argmin(jnp.where(enough, cost, jnp.inf), 1)
  return jnp.where(enough.any(1), cheapest, jnp.argmax(low, 1)).astype(
    jnp.int32
  )


def _check_available(available, models: int) -> None:
  if available is None:
    return
  if len(available) != models or not any(available):
    raise ValueError(
      f"available: expected {models} truth values, one of them true at least, "
      f"got {list(map(bool, available))}"
    )
