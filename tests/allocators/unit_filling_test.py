# SPDX-License-Identifier: Apache-2.0
"""Buying whole units by price, against heaps and enumeration."""

import heapq
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import unit_filling

_SEEDS = st.integers(0, 2**32 - 1)
_MOST = 6


@jax.jit
def _fill(gains, start, stop, amount):
  rows = jnp.arange(gains.shape[0])
  return unit_filling.fill(
    lambda units: gains[rows, units], start, stop, amount, _MOST
  )


@jax.jit
def _fill_priced(gains, start, stop, cost, amount):
  rows = jnp.arange(gains.shape[0])
  return unit_filling.fill_priced(
    lambda units: gains[rows, units], start, stop, cost, amount, _MOST
  )


_level = jax.jit(unit_filling.level)


class _Table:
  """Random gains that do not rise along rows, some of them tied."""

  def __init__(self, seed, items=5):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 6, (items, _MOST)) / 4
    self.gains = -np.sort(-drawn, axis=1).astype(np.float32)
    self.start = rng.integers(0, 3, items).astype(np.int32)
    self.stop = rng.integers(0, _MOST + 1, items).astype(np.int32)
    self.cost = rng.integers(1, 5, items).astype(np.int32)

  def value(self, units):
    return sum(
      row[a:b].sum()
      for row, a, b in zip(self.gains, self.start, units, strict=True)
    )

  @property
  def tops(self):
    return np.maximum(self.start, self.stop)


def _heap(table, amount):
  units = table.start.copy()
  heap = []

  def offer(i):
    if units[i] < table.tops[i]:
      heapq.heappush(heap, (-table.gains[i, units[i]], i))

  for i in range(len(units)):
    offer(i)
  for _ in range(amount):
    if not heap:
      break
    _, i = heapq.heappop(heap)
    units[i] += 1
    offer(i)
  return units


@hypothesis.given(_SEEDS, st.integers(0, 40))
@hypothesis.settings(max_examples=40)
def test_fill_buys_as_a_heap_does_even_among_ties(seed, amount):
  table = _Table(seed)
  found = _fill(table.gains, table.start, table.stop, amount)
  expected = _heap(table, amount)
  np.testing.assert_array_equal(found.units, expected)
  paid = [
    g
    for row, a, b in zip(table.gains, table.start, expected, strict=True)
    for g in row[a:b]
  ]
  if paid:
    assert float(found.price) == min(paid)
  left = [
    table.gains[i, n] for i, n in enumerate(expected) if n < table.tops[i]
  ]
  assert float(found.next_gain) == max(left, default=0.0)


@hypothesis.given(_SEEDS)
@hypothesis.settings(max_examples=15)
def test_more_to_spend_never_takes_a_unit_away(seed):
  table = _Table(seed)
  given = (table.gains, table.start, table.stop)
  found = jax.vmap(lambda amount: _fill(*given, amount))(jnp.arange(25))
  assert (np.diff(found.units, axis=0) >= 0).all()
  prices = np.asarray(found.price)
  assert (prices[1:] <= prices[:-1]).all()


@hypothesis.given(_SEEDS, st.integers(0, 30))
@hypothesis.settings(max_examples=25)
def test_priced_is_within_its_gap_of_enumeration(seed, amount):
  table = _Table(seed, items=3)
  found = _fill_priced(table.gains, table.start, table.stop, table.cost, amount)
  best = max(
    table.value(units)
    for units in itertools.product(
      *(range(a, b + 1) for a, b in zip(table.start, table.tops, strict=True))
    )
    if ((np.array(units) - table.start) * table.cost).sum() <= amount
  )
  units = np.asarray(found.units)
  spent = int(((units - table.start) * table.cost).sum())
  assert spent == int(found.cost) <= amount
  value = table.value(units)
  assert value <= best + 1e-6 <= value + float(found.gap) + 2e-5


def test_level_raises_the_lowest_first():
  start = jnp.array([0, 3, 1, 0], jnp.int32)
  stop = jnp.array([5, 9, 9, 1], jnp.int32)
  levelled = lambda amount: _level(start, stop, jnp.int32(amount))  # noqa: E731
  assert levelled(0).tolist() == [0, 3, 1, 0]
  assert levelled(3).tolist() == [2, 3, 1, 1]
  assert levelled(7).tolist() == [4, 3, 3, 1]
  assert levelled(100).tolist() == [5, 9, 9, 1]


@hypothesis.given(
  st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=5, max_size=5
  ),
  st.integers(0, 80),
)
@hypothesis.settings(max_examples=25)
def test_level_spends_all_that_fits(pairs, amount):
  start, stop = (np.array(x, np.int32) for x in zip(*pairs, strict=True))
  units = np.asarray(_level(start, stop, jnp.int32(amount)))
  top = np.maximum(start, stop)
  assert (units >= start).all() and (units <= top).all()
  assert (units - start).sum() == min(amount, (top - start).sum())
  raised, room = units[units > start], units[units < top]
  if raised.size and room.size:
    assert raised.max() <= room.min() + 1
