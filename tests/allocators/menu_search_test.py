# SPDX-License-Identifier: Apache-2.0
"""Searches over choices whose values and prices are tables."""

import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import menu_search

_PLACES, _ENTRIES = 4, 3
_SEEDS = st.integers(0, 2**32 - 1)
_SHARES = st.floats(0.0, 1.0)


class Table:
  """Random values, and prices that rise in every entry and interact."""

  def __init__(self, seed, places=_PLACES, entries=_ENTRIES):
    rng = np.random.default_rng(seed)
    steps = rng.exponential(size=(places, entries)) * (
      rng.random((places, entries)) < 0.8  # some rises cost nothing
    )
    self._prices = steps.cumsum(1)
    self._values = rng.normal(size=(entries,) * places)
    self._rows = np.arange(places)
    self.low = self.price(np.zeros((1, places), np.int32))[0]
    self.high = self.price(np.full((1, places), entries - 1))[0]

  def price(self, choices):
    found = self._prices[self._rows, choices]
    return found.sum(1) + found[:, 0] * found[:, -1]

  def value(self, choices):
    return self._values[tuple(choices.T)]

  def limit(self, share):
    return self.low + share * (self.high - self.low)


def _brute_force(table, limit):
  best = -np.inf
  for choice in itertools.product(range(_ENTRIES), repeat=_PLACES):
    row = np.array([choice])
    if table.price(row)[0] <= limit:
      best = max(best, table.value(row)[0])
  return best


@hypothesis.settings(max_examples=30)
@hypothesis.given(_SEEDS, _SHARES)
def test_exhaustive_is_brute_force_and_nobody_is_above_it_or_dearer(
  seed, share
):
  table = Table(seed)
  limit = table.limit(share)
  best = _brute_force(table, limit)
  for name, search in menu_search.SEARCHES.items():
    found = search(table.value, table.price, limit, _PLACES, _ENTRIES)
    assert found.shape == (_PLACES,) and found.dtype == np.int32
    assert table.price(found[None])[0] <= limit
    value = table.value(found[None])[0]
    assert value == best if name == "exhaustive" else value <= best


@pytest.mark.parametrize("search", menu_search.SEARCHES.values())
@hypothesis.settings(max_examples=10)
@hypothesis.given(_SEEDS)
def test_nothing_is_found_below_the_least_price(search, seed):
  table = Table(seed)
  args = (_PLACES, _ENTRIES)
  exact = search(table.value, table.price, table.low, *args)
  assert table.price(exact[None])[0] == table.low
  below = np.nextafter(table.low, -np.inf)
  assert search(table.value, table.price, below, *args) is None


@pytest.mark.parametrize("name", ["exhaustive", "greedy", "uniform"])
def test_all_that_is_affordable_is_bought_if_value_rises(name):
  table = Table(3)
  found = menu_search.SEARCHES[name](
    lambda choices: choices.sum(1).astype(float),
    table.price,
    table.high,
    _PLACES,
    _ENTRIES,
  )
  np.testing.assert_array_equal(found, _ENTRIES - 1)


def test_exhaustive_takes_the_cheaper_of_two_that_are_as_good(monkeypatch):
  monkeypatch.setattr(menu_search, "_AT_ONCE", 2)  # ties over several blocks
  value = lambda choices: (choices.sum(1) >= 2).astype(float)  # noqa: E731
  price = lambda choices: 1.0 + choices @ np.array([1.0, 3.0, 2.0])  # noqa: E731
  found = menu_search.exhaustive(value, price, 100.0, 3, 3)
  np.testing.assert_array_equal(found, [2, 0, 0])


def test_greedy_slims_what_costs_least_value_by_hand():
  worth = np.array([3.0, 1.0, 2.0])  # a step of each place
  visited = []

  def value(choices):
    visited.append(len(choices))
    return choices @ worth

  price = lambda choices: choices.sum(1) + 1.0  # noqa: E731
  found = menu_search.greedy(value, price, 4.0, 3, 3)
  # From (2, 2, 2): the second place twice, then the third once.
  np.testing.assert_array_equal(found, [2, 0, 1])
  assert visited == [3, 3, 2]


@hypothesis.settings(max_examples=10)
@hypothesis.given(_SEEDS, st.floats(0.2, 0.9))
def test_evolution_repeats_by_seed_and_never_loses_its_best(seed, share):
  table = Table(seed, places=6, entries=4)

  def run(seed, generations):
    found = menu_search.evolutionary(
      table.value,
      table.price,
      table.limit(share),
      6,
      4,
      seed=seed,
      population=20,
      generations=generations,
    )
    return tuple(found), table.value(found[None])[0]

  assert run(7, 5) == run(7, 5)
  values = [run(7, generations)[1] for generations in (0, 1, 2, 5, 10)]
  assert values == sorted(values)


def test_evolution_draws_by_its_seed():
  table = Table(0, places=8, entries=4)
  draws = []

  def value(choices):
    draws.append(choices.tobytes())
    return table.value(choices)

  for seed in (0, 1, 0):
    menu_search.evolutionary(
      value, table.price, table.limit(0.5), 8, 4, seed=seed, generations=0
    )
  assert draws[0] == draws[2] != draws[1]


def test_evolution_finds_the_best_of_a_small_smooth_space():
  target = np.array([2, 0, 3, 1, 2])
  value = lambda choices: -np.abs(choices - target).sum(1).astype(float)  # noqa: E731
  price = lambda choices: choices.sum(1).astype(float)  # noqa: E731
  found = menu_search.evolutionary(value, price, 20.0, 5, 4)
  np.testing.assert_array_equal(found, target)


def test_uniform_is_the_widest_entry_that_fits_everywhere():
  price = lambda choices: choices.sum(1).astype(float)  # noqa: E731
  found = menu_search.uniform(lambda choices: None, price, 7.9, 3, 5)
  np.testing.assert_array_equal(found, [2, 2, 2])


def test_too_many_choices_are_refused_by_name():
  price = lambda choices: choices.sum(1).astype(float)  # noqa: E731
  with pytest.raises(ValueError, match="too many to list; search greedily"):
    menu_search.exhaustive(price, price, 1.0, 23, 2)
