# SPDX-License-Identifier: Apache-2.0
"""Searches for the best affordable choice of one menu entry a place.

A choice is a vector of menu indices, i32[places]; entry 0 is the cheapest. All
searches take two functions of many choices at once, `value` and `price`, both
i32[N, places] -> f64[N], and return the best choice whose price is at most
`limit`, or None if there is none. Prices must not fall when an entry rises.
"""

from collections.abc import Callable

import numpy as np

from jaxttc.models.slimmable import widths

OfChoices = Callable[[np.ndarray], np.ndarray]
_AT_ONCE = 1 << 16


def exhaustive(
  value: OfChoices, price: OfChoices, limit: float, places: int, entries: int
) -> np.ndarray | None:
  """Looks at every choice: the oracle. Ties go to the cheaper choice.

  Raises:
    ValueError: as `widths.every_choice`.
  """
  best, best_key = None, (-np.inf, -np.inf)
  every = widths.every_choice(places, entries)
  for start in range(0, len(every), _AT_ONCE):
    some = every[start : start + _AT_ONCE]
    prices = price(some)
    some, prices = some[prices <= limit], prices[prices <= limit]
    if not len(some):
      continue
    values = value(some)
    order = np.lexsort((-prices, values))
    key = (values[order[-1]], -prices[order[-1]])
    if key > best_key:
      best, best_key = some[order[-1]], key
  return best


def greedy(
  value: OfChoices, price: OfChoices, limit: float, places: int, entries: int
) -> np.ndarray | None:
  """Slims the place that costs least value, until it fits (AutoSlim).

  Yu & Huang 2019, arXiv:1903.11728. Starts from the widest choice; at most
  `places * (entries - 1)` rounds of `places` looks.
  """
  choice = np.full(places, entries - 1, np.int32)
  while price(choice[None])[0] > limit:
    slimmable = np.flatnonzero(choice > 0)
    if not len(slimmable):
      return None
    nearby = np.repeat(choice[None], len(slimmable), 0)
    nearby[np.arange(len(slimmable)), slimmable] -= 1
    choice = nearby[np.argmax(value(nearby))]
  return choice


def evolutionary(
  value: OfChoices,
  price: OfChoices,
  limit: float,
  places: int,
  entries: int,
  *,
  seed: int = 0,
  population: int = 100,
  generations: int = 20,
  parents: float = 0.25,
  mutation: float = 0.1,
) -> np.ndarray | None:
  """Evolution as Once-for-All does it (Cai et al. 2019, arXiv:1908.09791).

  Half of each generation are mutants of the best, half crossings of two.
  Choices that are too dear are slimmed at random places until they fit.

  Args:
    value: see above.
    price: see above.
    limit: see above.
    places: see above.
    entries: see above.
    seed: of all draws.
    population: choices a generation.
    generations: how many.
    parents: share of a generation that the next one comes from.
    mutation: probability that a place of a mutant is drawn anew.
  """
  rng = np.random.default_rng(seed)
  if price(np.zeros((1, places), np.int32))[0] > limit:
    return None

  def fit(choices):
    choices = choices.copy()
    while (dear := np.flatnonzero(price(choices) > limit)).size:
      weights = choices[dear] > 0
      draws = rng.random(weights.shape) * weights
      choices[dear, draws.argmax(1)] -= 1
    return choices

  pool = fit(rng.integers(0, entries, (population, places), np.int32))
  values = value(pool)
  keep = max(2, int(parents * population))
  for _ in range(generations):
    best = np.argsort(-values, kind="stable")[:keep]
    pool, values = pool[best], values[best]
    half = (population - keep) // 2
    mutants = pool[rng.integers(0, keep, half)]
    drawn = rng.integers(0, entries, mutants.shape, np.int32)
    mutants = np.where(rng.random(mutants.shape) < mutation, drawn, mutants)
    pairs = pool[rng.integers(0, keep, (2, population - keep - half))]
    crossed = np.where(rng.random(pairs[0].shape) < 0.5, *pairs)
    young = fit(np.concatenate([mutants, crossed]).astype(np.int32))
    pool = np.concatenate([pool, young])
    values = np.concatenate([values, value(young)])
  return pool[np.argmax(values)]


def uniform(
  value: OfChoices, price: OfChoices, limit: float, places: int, entries: int
) -> np.ndarray | None:
  """The widest entry that fits everywhere at once."""
  del value
  choices = np.repeat(np.arange(entries, dtype=np.int32)[:, None], places, 1)
  fits = np.flatnonzero(price(choices) <= limit)
  return choices[fits[-1]] if len(fits) else None


SEARCHES = {
  "exhaustive": exhaustive,
  "greedy": greedy,
  "evolutionary": evolutionary,
  "uniform": uniform,
}
