# SPDX-License-Identifier: Apache-2.0
"""What is known of nodes, and of spans that are not nodes yet.

An engine or a verifier that keeps no cache, only a value a prefix (its text,
its token ids), keeps it here. Groups, nodes and tickets as in `engine`.
"""

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

import numpy as np

Value = TypeVar("Value")


class Prefixes(Generic[Value]):
  """A value for every node of every open search."""

  def __init__(self):
    self._nodes: dict[int, dict[int, Value]] = {}
    self._loose: dict[int, dict[int, Value]] = {}

  @property
  def groups(self) -> Iterable[int]:
    """The groups that are open."""
    return self._nodes.keys()

  def open(self, prompts: Mapping[int, Value], groups: int) -> None:
    """Starts searches, with the values of their prompts.

    Raises:
      ValueError: if a group is not below `groups`, or open already; then none
        is opened.
    """
    for group in prompts:
      if not 0 <= group < groups or group in self._nodes:
        raise ValueError(f"group {group} is out of range or open already")
    for group, value in prompts.items():
      self._nodes[group], self._loose[group] = {0: value}, {}

  def of(self, group: int, node: int) -> Value:
    """The value of a node.

    Raises:
      ValueError: if the group is not open, or has no such node.
    """
    nodes = self._search(group)
    if node not in nodes:
      raise ValueError(
        f"group {group} has no node {node}; file a span under it first"
      )
    return nodes[node]

  def add(self, group: int, ticket: int, value: Value) -> None:
    """Keeps the value of a span until its round is filed."""
    self._search(group)
    self._loose[group][ticket] = value

  def taken(self, group: int, ticket: int) -> bool:
    """Whether a span of the round has the ticket."""
    return ticket in self._loose.get(group, ())

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or a ticket is no span's.
    """
    known, loose = self._search(group), self._loose[group]
    for ticket, node in nodes.items():
      if ticket not in loose:
        raise ValueError(
          f"ticket {ticket} of group {group} is no span that can be extended"
        )
      known[node] = loose[ticket]
    self._loose[group] = {}

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]` (bool[N]); never node 0.

    Raises:
      ValueError: if the group is not open.
    """
    nodes = self._search(group)
    self._nodes[group] = {n: v for n, v in nodes.items() if not n or keep[n]}

  def close(self, group: int) -> None:
    """Ends a search; twice does no harm."""
    self._nodes.pop(group, None)
    self._loose.pop(group, None)

  def _search(self, group: int) -> dict[int, Value]:
    if group not in self._nodes:
      raise ValueError(f"group {group} is not open")
    return self._nodes[group]
