# SPDX-License-Identifier: Apache-2.0
"""How preferences become widths of encoder and decoders: three rules.

*  proportional, the rule of Aich et al. 2023 (arXiv:2308.11744) as far as it is
   published: the decoder of the most preferred task is widest, others are as
   much narrower as they matter less, and the encoder is the one with the best
   mean score that the rest of the budget buys. If that leaves the encoder less
   than its floor, all decoders shrink together.
*  value: the widths that maximise the preference-weighted sum of scores, each
   divided by what the widest configuration gains over the narrowest, so that
   a task whose score moves little is not forgotten.
*  two_level: the budget decides the encoder, the preference the decoders. The
   encoder is the one with the best mean value over preferences: each task
   alone, and all alike. So what a task scores depends on its own decoder only,
   and no other task's preference moves it through the encoder. The decoders
   maximise the preference-weighted sum of the square roots of what each gains,
   in units of the most that it can gain within the budget. A sum of gains
   themselves would give a task all or nothing; with the root a first step of
   width is worth more than the next, and decoders widen by degrees as
   preferences rise.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxttc.allocators import width_prices
from jaxttc.models.slimmable import widths

Scores = Callable[[np.ndarray], np.ndarray]
_STEPS = 16  # in which decoders shrink together
_SLACK = 0.05  # of the budget, that may be left over
LEAST_GAIN = 0.01  # of a score by width, that is worth being called one


class Question(NamedTuple):
  """What a rule is asked.

  Attributes:
    space: the widths to choose from.
    shares: f64[K], preferences; they sum to one.
    budget: the most that a configuration may cost; the narrowest costs less.
    unit: of the budget.
    prices: of configurations.
    scores: menu indices i32[N, groups] -> f64[N, K]; higher is better.
    search: one of `menu_search.SEARCHES`' functions.
  """

  space: widths.WidthSpace
  shares: np.ndarray
  budget: float
  unit: str
  prices: width_prices.WidthPrices
  scores: Scores
  search: Callable

  def price(self, indices: np.ndarray) -> np.ndarray:
    """Prices f64[N] at menu indices i32[N, groups]."""
    return self.prices(indices, self.unit)

  def best(self, value: Scores, price: Scores, places: int) -> np.ndarray:
    """What the search finds within the budget, i32[places]."""
    return self.search(value, price, self.budget, places, len(self.space.menu))


def value_weights(
  shares: np.ndarray, prices: width_prices.WidthPrices, scores: Scores
) -> np.ndarray:
  """Weights f64[.., K] of scores in the rule "value", for shares f64[.., K].

  A task that gains nothing from width (`width_gains` tells) is weighed as if
  it gained a hundredth.
  """
  low, high = (scores(prices.ends[end])[0] for end in ("low", "high"))
  return shares / np.maximum(high - low, LEAST_GAIN)


class WidthGains(NamedTuple):
  """By how much scores rise with width.

  Attributes:
    whole: f64[K], from the narrowest configuration to the widest.
    own: f64[K], from a task's narrowest decoder to its widest, behind the
      widest encoder: what a preference can move.
  """

  whole: np.ndarray
  own: np.ndarray


def width_gains(space: widths.WidthSpace, scores: Scores) -> WidthGains:
  """What width brings each task; where it brings nothing, plans mean nothing.

  Args:
    space: the widths to choose from.
    scores: menu indices i32[N, groups] -> f64[N, K]; higher is better.
  """
  stages, top = len(space.encoder), len(space.menu) - 1
  rows = np.full((3, len(space.groups)), top, np.int32)
  rows[0] = 0
  rows[1, stages:] = 0  # a decoder does not see the others
  narrowest, own, widest = scores(rows)
  return WidthGains(widest - narrowest, widest - own)


def by_value(question: Question) -> np.ndarray:
  """Menu indices i32[groups] by the rule of value."""
  weights = value_weights(question.shares, question.prices, question.scores)
  return question.best(
    lambda indices: question.scores(indices) @ weights,
    question.price,
    len(question.space.groups),
  )


def by_two_levels(question: Question) -> np.ndarray:
  """Menu indices i32[groups] by the rule of two levels."""
  encoder = _encoder_of_budget(question)
  low, high = _own_ranges(question, encoder)
  unit = np.where(high > low, high - low, np.inf)

  def value(scores):
    return np.sqrt(np.maximum((scores - low) / unit, 0)) @ question.shares

  return _best_decoders(question, encoder, value)


def _encoder_of_budget(question):
  """Menu indices i32[S] of the encoder with the best mean value."""
  stages, tasks = len(question.space.encoder), len(question.space.tasks)
  preferences = np.concatenate([np.eye(tasks), np.full((1, tasks), 1 / tasks)])
  found = [by_value(question._replace(shares=p)) for p in preferences]
  encoders = np.unique([indices[:stages] for indices in found], axis=0)
  if len(encoders) == 1:
    return encoders[0]
  weights = value_weights(preferences, question.prices, question.scores)

  def mean(encoder):
    plans = [
      _best_decoders(question, encoder, lambda scores, w=w: scores @ w)
      for w in weights
    ]
    return (question.scores(np.stack(plans)) * weights).sum(1).mean()

  return max(encoders, key=mean)


def _best_decoders(question, encoder, value):
  """Menu indices i32[groups]: the best decoders behind an encoder i32[S]."""
  joined = lambda own: _joined(encoder[None], own)  # noqa: E731
  own = question.best(
    lambda own: value(question.scores(joined(own))),
    lambda own: question.price(joined(own)),
    len(question.space.tasks),
  )
  return joined(own[None])[0]


def _own_ranges(question, encoder):
  """Each task's score with its narrowest decoder, and its best: two f64[K].

  The best that the budget buys behind an encoder, other decoders narrowest.
  """
  tasks, entries = len(question.space.tasks), len(question.space.menu)
  own = np.zeros((tasks, entries, tasks), np.int32)
  own[np.arange(tasks), :, np.arange(tasks)] = np.arange(entries)
  indices = _joined(encoder[None], own.reshape(-1, tasks))
  shape = (tasks, entries)
  fits = (question.price(indices) <= question.budget).reshape(shape)
  found = question.scores(indices).reshape(*shape, tasks)
  found = found[np.arange(tasks), :, np.arange(tasks)]
  return found[:, 0], np.where(fits, found, -np.inf).max(1)


def _joined(encoders, decoders):
  """Menu indices i32[N, groups] of encoders and decoders; one of either is 1 x.

  A single row goes with every row of the other.
  """
  rows = max(len(encoders), len(decoders))
  parts = [
    np.broadcast_to(part, (rows, part.shape[1]))
    for part in (encoders, decoders)
  ]
  return np.concatenate(parts, 1).astype(np.int32)


def decoder_indices(
  menu: tuple[float, ...], shares: np.ndarray, shrink: float = 1.0
) -> np.ndarray:
  """Menu entries i32[K] in proportion to preferences; ties go to the wider."""
  ratios = np.clip(shrink * shares / shares.max(), menu[0], 1.0)
  away = np.abs(ratios[:, None] - np.asarray(menu)[None])
  reverse = away[:, ::-1].round(9).argmin(1)
  return (len(menu) - 1 - reverse).astype(np.int32)


def in_proportion(question: Question) -> np.ndarray:
  """Menu indices i32[groups] by the rule of proportion."""
  space, price = question.space, question.price
  stages, shares, budget = (
    len(space.encoder),
    question.shares,
    question.budget,
  )
  share = budget / float(price(question.prices.ends["high"])[0])
  # Decoders shrink until an encoder fits of which no part is below the floor.
  floor = np.searchsorted(space.menu, min(0.5, share) - 1e-9)
  lowest = np.full((1, stages), floor)
  for step in range(_STEPS):
    decoders = decoder_indices(space.menu, shares, 1 - step / _STEPS)[None]
    if price(_joined(lowest, decoders))[0] <= budget:
      break
  else:
    decoders = np.zeros((1, len(space.tasks)), np.int32)
  encoder = question.best(
    lambda encoders: question.scores(_joined(encoders, decoders)).mean(1),
    lambda encoders: price(_joined(encoders, decoders)),
    stages,
  )
  return _filled(
    _joined(encoder[None], decoders)[0], space, shares, budget, price
  )


def _filled(indices, space, shares, budget, price):
  """Spends what is left on decoders, the most preferred first.

  Tasks of equal preference rise together, and none above one that matters more.
  """
  shares = shares.round(9)
  decoders = slice(len(space.encoder), None)
  top = len(space.menu) - 1
  for level in sorted(set(shares), reverse=True):
    while price(indices[None])[0] < (1 - _SLACK) * budget:
      raised = indices.copy()
      risen = np.minimum(raised[decoders] + 1, top)
      raised[decoders] = np.where(shares == level, risen, raised[decoders])
      if (raised == indices).all() or price(raised[None])[0] > budget:
        break
      indices = raised
    top = indices[decoders][shares == level].min()
  return indices


RULES = {
  "proportional": in_proportion,
  "value": by_value,
  "two_level": by_two_levels,
}
