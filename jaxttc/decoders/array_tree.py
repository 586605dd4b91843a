# SPDX-License-Identifier: Apache-2.0
"""The arrays of a batched tree search: `B` trees of `N` nodes, `A` actions.

Statistics are kept once, with the node they belong to. What a parent wants to
know of its children is looked up through `children_index`.
"""

import functools
from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxttc.decoders import tree_policies

UNVISITED = -1
NO_PARENT = -1


@flax.struct.dataclass
class SearchTree:
  """`B` search trees of `N` node slots and `A` actions; the root is node 0.

  Attributes:
    node_visits: i32[B, N], visits, the node's own evaluation included.
    raw_values: f32[B, N], the model's value of the node.
    node_values: f32[B, N], mean of all values backed up through the node.
    node_rewards: f32[B, N], reward of the transition into the node.
    node_discounts: f32[B, N], discount of the transition into the node.
    parents: i32[B, N], -1 for the root and for empty slots.
    action_from_parent: i32[B, N], likewise.
    children_index: i32[B, N, A], node behind each action, -1 if unvisited.
    children_prior_logits: f32[B, N, A], prior over the node's actions.
    embeddings: arrays [B, N, ...].
    root_invalid_actions: bool[B, A], actions not allowed at the root.
  """

  node_visits: Int[Array, "B N"]
  raw_values: Float[Array, "B N"]
  node_values: Float[Array, "B N"]
  node_rewards: Float[Array, "B N"]
  node_discounts: Float[Array, "B N"]
  parents: Int[Array, "B N"]
  action_from_parent: Int[Array, "B N"]
  children_index: Int[Array, "B N A"]
  children_prior_logits: Float[Array, "B N A"]
  embeddings: Any
  root_invalid_actions: Bool[Array, "B A"]

  @property
  def children_visits(self) -> Int[Array, "B N A"]:
    """Visits of each child; 0 for unvisited ones."""
    return _of_children(self.node_visits, self.children_index)

  @property
  def children_values(self) -> Float[Array, "B N A"]:
    """Value of each child; 0 for unvisited ones."""
    return _of_children(self.node_values, self.children_index)

  @property
  def children_rewards(self) -> Float[Array, "B N A"]:
    """Reward on the way to each child; 0 for unvisited ones."""
    return _of_children(self.node_rewards, self.children_index)

  @property
  def children_discounts(self) -> Float[Array, "B N A"]:
    """Discount on the way to each child; 0 for unvisited ones."""
    return _of_children(self.node_discounts, self.children_index)


def view(tree: SearchTree, node: Int[Array, " B"]) -> tree_policies.View:
  """The statistics of one node of each tree, for a selection rule."""
  rows = jnp.arange(node.shape[0])
  at_node = functools.partial(gather, rows=rows, index=node)
  child = at_node(tree.children_index)
  slot = jnp.maximum(child, 0)
  at_child = functools.partial(gather, rows=rows[:, None], index=slot)
  known = child != UNVISITED
  q = at_child(tree.node_rewards) + at_child(tree.node_discounts) * at_child(
    tree.node_values
  )
  return tree_policies.View(
    visits=at_node(tree.node_visits),
    value=at_node(tree.node_values),
    raw_value=at_node(tree.raw_values),
    child_visits=jnp.where(known, at_child(tree.node_visits), 0),
    child_q=jnp.where(known, q, 0.0),
    child_known=known,
    prior_logits=at_node(tree.children_prior_logits),
  )


def gather(
  array: Shaped[Array, "B N ..."],
  rows: Int[Array, "B ..."],
  index: Int[Array, "B ..."],
) -> Shaped[Array, "B ..."]:
  """Reads `array[rows, index]`; every index must be in range."""
  return array.at[rows, index].get(mode="promise_in_bounds")


def scatter(
  array: Shaped[Array, "B N ..."],
  rows: Int[Array, " B"],
  index: Int[Array, " B"],
  values: Shaped[Array, "B ..."],
) -> Shaped[Array, "B N ..."]:
  """Writes one node of each row, in place where XLA may.

  Args:
    array: what to write to.
    rows: i32[B], 0..B-1 in order.
    index: i32[B], the node of each row; `N` writes nothing.
    values: what to write.
  """
  return array.at[rows, index].set(
    values, mode="drop", unique_indices=True, indices_are_sorted=True
  )


def _of_children(array, children):
  """Looks a node array [B, N] up for every child [B, N, A]; 0 for none."""
  rows = jnp.arange(children.shape[0])[:, None, None]
  found = gather(array, rows, jnp.maximum(children, 0))
  return jnp.where(children == UNVISITED, 0, found)
