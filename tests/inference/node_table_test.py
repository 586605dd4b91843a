# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np

from jaxttc.inference import node_table, tree_cache

FREE = tree_cache.FREE


def _cache(owner):
  return tree_cache.TreeCache(arena=(), owner=jnp.asarray(owner, jnp.int32))


def _renamed(table, owner):
  cache, shown = node_table.rename(_cache(owner), table.take())
  return np.asarray(cache.owner).tolist(), np.asarray(shown).tolist()


def test_loose_slots_are_filed_forgotten_or_left_loose():
  table = node_table.NodeTable(2, nodes=4, tickets=4)
  loose = node_table.loose
  table.open(0, 2)
  table.open(1, 1)
  for ticket in (0, 3):
    table.add(0, ticket, 0, 1)
  table.add(1, 3, 0, 1)
  table.file(0, {3: 1})
  owner = [[0, 0, loose(0), loose(3)], [0, loose(3), FREE, FREE]]
  owner, shown = _renamed(table, owner)
  assert owner == [[0, 0, FREE, 1], [0, loose(3), FREE, FREE]]
  assert shown == [[0, 0, FREE, 1], [0, FREE, FREE, FREE]]
  assert table.used(0) == 3 and table.used(1) == 2
  table.release(0, np.zeros(4, bool))
  table.file(1, {})
  owner, _ = _renamed(table, owner)
  assert owner == [[0, 0, FREE, FREE], [0, FREE, FREE, FREE]]
  assert table.used(0) == 2 and table.used(1) == 1


def test_closed_trees_hold_nothing():
  table = node_table.NodeTable(1, nodes=1, tickets=1)
  table.open(0, 5)
  table.close(0)
  table.close(0)
  assert table.used(0) == 0


@hypothesis.settings(max_examples=15)
@hypothesis.given(st.data())
def test_counts_are_those_of_the_owners(data):
  """Random rounds against a plain list of owners."""
  table = node_table.NodeTable(1, nodes=1, tickets=1)
  table.open(0, 2)
  owner, parents, fresh = [0, 0] + [FREE] * 38, {0: -1}, 1
  for _ in range(data.draw(st.integers(1, 4))):
    tickets = data.draw(st.sets(st.integers(0, 20), max_size=3))
    below = {t: data.draw(st.sampled_from(sorted(parents))) for t in tickets}
    for ticket in sorted(tickets):
      table.reserve(ticket)
      size = data.draw(st.integers(1, 3))
      table.add(0, ticket, below[ticket], size)
      for slot in [i for i, o in enumerate(owner) if o == FREE][:size]:
        owner[slot] = node_table.loose(ticket)
    filed = {}
    for ticket in (
      data.draw(st.sets(st.sampled_from(sorted(tickets)))) if (tickets) else ()
    ):
      filed[ticket], fresh = fresh, fresh + 1
    table.file(0, filed)
    keep = np.ones(64, bool)
    for node in data.draw(st.sets(st.integers(1, 20), max_size=2)):
      keep[node] = False
    table.release(0, keep)
    parents |= {node: below[ticket] for ticket, node in filed.items()}
    parents = {n: p for n, p in parents.items() if keep[n]}
    names = table.take()
    for node, parent in parents.items():
      assert names.parent[0, node] == parent
    cache, shown = node_table.rename(_cache([owner]), names)
    want = [
      filed.get(o - node_table.loose(0), FREE)
      if o >= node_table.loose(0)
      else o
      for o in owner
    ]
    want = [o if o < 0 or keep[o] else FREE for o in want]
    owner = np.asarray(cache.owner)[0].tolist()
    assert owner == want == np.asarray(shown)[0].tolist()
    assert table.used(0) == sum(o != FREE for o in owner)
