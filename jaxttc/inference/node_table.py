# SPDX-License-Identifier: Apache-2.0
"""Which nodes the slots of a tree cache belong to, as the host sees it.

A span's keys and values enter the arena as soon as they are computed, when
nobody knows yet which node it will be, or whether any: its slots are *loose*,
owned by a ticket. Filing it, or letting it and others go, changes names only,
so it waits on the host until the next program runs, and then costs one lookup
a slot.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int
import numpy as np

from jaxttc.inference import generation, tree_cache

_LOOSE = 1 << 24  # owners from here on are tickets


class Names(NamedTuple):
  """Arguments of `rename`; NumPy arrays on the host.

  Attributes:
    parent: i32[G, N], parent of each node, -1 for the root.
    keep: bool[G, N], nodes that keep their slots.
    filed: i32[G, T], the owner that each ticket's slots get.
  """

  parent: Int[Array | np.ndarray, "G N"]
  keep: Bool[Array | np.ndarray, "G N"]
  filed: Int[Array | np.ndarray, "G T"]


@dataclasses.dataclass
class _Tree:
  """Slots held by the nodes and the loose spans of one group."""

  prompt: int
  node: dict[int, int] = dataclasses.field(default_factory=dict)
  loose: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)


class NodeTable:
  """Counts the slots of G trees, and collects changes of their owners."""

  def __init__(self, groups: int, nodes: int, tickets: int):
    """Starts with no trees.

    Args:
      groups: G.
      nodes: nodes to make room for; grows by doubling.
      tickets: tickets to make room for; grows by doubling.
    """
    nodes, tickets = generation.bucket(nodes), generation.bucket(tickets)
    self._trees: dict[int, _Tree] = {}
    self._parent = np.full((groups, nodes), -1, np.int32)
    self._keep = np.ones((groups, nodes), bool)
    self._filed = np.zeros((groups, tickets), np.int32)
    self._filed[:] = loose(np.arange(tickets))

  def open(self, group: int, size: int) -> None:
    """A new tree whose prompt takes `size` slots; the old one is gone."""
    self._trees[group] = _Tree(size)
    self._parent[group], self._keep[group] = -1, True
    self._filed[group] = loose(np.arange(self._filed.shape[1]))

  def close(self, group: int) -> None:
    """Forgets a tree; its slots are free when the next one is opened."""
    self._trees.pop(group, None)

  def used(self, group: int) -> int:
    """Slots that a group's tree holds."""
    tree = self._trees.get(group)
    if tree is None:
      return 0
    spans = sum(size for _, size in tree.loose.values())
    return tree.prompt + sum(tree.node.values()) + spans

  def reserve(self, ticket: int) -> None:
    """Makes room for a ticket."""
    have, need = self._filed.shape[1], generation.bucket(ticket + 1)
    if need > have:
      rows = [loose(np.arange(have, need, dtype=np.int32))] * len(self._filed)
      self._filed = np.concatenate([self._filed, np.stack(rows)], axis=1)

  def add(self, group: int, ticket: int, parent: int, size: int) -> None:
    """A span below `parent` has taken `size` slots."""
    self._trees[group].loose[ticket] = (parent, size)

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Gives loose spans to nodes, by ticket, and lets the others go."""
    tree = self._trees[group]
    for ticket, (parent, size) in tree.loose.items():
      node = nodes.get(ticket, tree_cache.FREE)
      self._filed[group, ticket] = node
      if node != tree_cache.FREE:
        self._fit(node)
        self._parent[group, node] = parent
        tree.node[node] = size
    tree.loose.clear()

  def release(self, group: int, keep: np.ndarray) -> None:
    """Lets go the nodes n with not `keep[n]`."""
    tree = self._trees[group]
    for node in [n for n in tree.node if not keep[n]]:
      self._keep[group, node] = False
      del tree.node[node]

  def take(self) -> Names:
    """The changes so far, which the caller undertakes to pass to `rename`."""
    names = Names(self._parent.copy(), self._keep.copy(), self._filed.copy())
    self._filed[:] = loose(np.arange(self._filed.shape[1]))
    return names

  def _fit(self, node: int) -> None:
    more = generation.bucket(node + 1) - self._parent.shape[1]
    if more > 0:
      wider = ((0, 0), (0, more))
      self._parent = np.pad(self._parent, wider, constant_values=-1)
      self._keep = np.pad(self._keep, wider, constant_values=True)


def loose(ticket: Any) -> Any:
  """Owner of the slots of a span that is not a node yet."""
  return ticket + _LOOSE


def rename(
  cache: tree_cache.TreeCache, names: Names
) -> tuple[tree_cache.TreeCache, Int[Array, "G C"]]:
  """Files loose spans and frees what was let go.

  Args:
    cache: the cache.
    names: the changes.

  Returns:
    The cache, and the owner of each slot with loose ones shown as free: what
    `tree_cache.path_mask` may look at.
  """
  owner = cache.owner
  tickets = jnp.clip(owner - _LOOSE, 0, names.filed.shape[1] - 1)
  filed = jnp.take_along_axis(names.filed, tickets, axis=1)
  owner = jnp.where(owner >= _LOOSE, filed, owner)
  node = jnp.clip(owner, 0, names.keep.shape[1] - 1)
  kept = jnp.take_along_axis(names.keep, node, axis=1) | (owner >= _LOOSE)
  owner = jnp.where(kept, owner, tree_cache.FREE)
  shown = jnp.where(owner >= _LOOSE, tree_cache.FREE, owner)
  return cache.replace(owner=owner), shown
