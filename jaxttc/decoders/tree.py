# SPDX-License-Identifier: Apache-2.0
"""The search tree of one problem: fixed-capacity arrays, grown by `append`.

Node 0 is the prompt; every other node is one sampled span (a step, or a whole
solution). Nodes get their ids in the order in which they are appended, so the
engine, which keeps the tokens, and the decoder, which keeps the numbers, agree
on ids without talking. `N` is the number of node slots, `A` the nodes asked
for a round, `K` the children a node.
"""

import enum

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8, Shaped


class Status(enum.IntEnum):
  """What may still happen to a node."""

  EMPTY = 0  # the slot is unused
  OPEN = 1  # may be extended
  CLOSED = 2  # has been extended, or was given up
  FINISHED = 3  # ended with the end-of-sequence token: a whole solution


@flax.struct.dataclass
class Tree:
  """A tree of partial solutions in `N` slots.

  Attributes:
    parent: i32[N], id of the parent; -1 for the root and for empty slots.
    depth: i32[N], spans between the root and this node.
    length: i32[N], tokens in this node's span; 0 for the root.
    reward: f32[N], what the verifier thinks of the prefix ending here, in
      [0, 1].
    logprob: f32[N], log-probability of the whole path under the sampler.
    priority: f32[N], the decoder's own order; less is sooner.
    status: i8[N], a `Status`.
    answer: i32[N], class of the answer of a finished node; -1 for none.
    expanded_at: i32[N], number of the round in which the node was first
      asked for children; -1 if never.
    used: i32[], slots in use. Slots [0, used) are nodes.
    rounds: i32[], rounds told so far.
  """

  parent: Int[Array, " N"]
  depth: Int[Array, " N"]
  length: Int[Array, " N"]
  reward: Float[Array, " N"]
  logprob: Float[Array, " N"]
  priority: Float[Array, " N"]
  status: Int8[Array, " N"]
  answer: Int[Array, " N"]
  expanded_at: Int[Array, " N"]
  used: Int[Array, ""]
  rounds: Int[Array, ""]

  @property
  def capacity(self) -> int:
    """Number of node slots `N`."""
    return self.parent.shape[0]

  @property
  def open(self) -> Bool[Array, "*B N"]:
    """Which nodes may still be extended."""
    return self.status == Status.OPEN

  @property
  def finished(self) -> Bool[Array, "*B N"]:
    """Which nodes are whole solutions."""
    return self.status == Status.FINISHED


def init(capacity: int, root_reward: float | Float[Array, ""] = 1.0) -> Tree:
  """A tree that holds only the prompt.

  Args:
    capacity: node slots `N`, at least 2.
    root_reward: the reward of the bare prompt, in [0, 1].

  Returns:
    A `Tree` with one open node.

  Raises:
    ValueError: if the capacity leaves no room for a child.
  """
  if capacity < 2:
    raise ValueError(f"tree capacity must be at least 2, got {capacity}")
  ints = jnp.full((capacity,), -1, jnp.int32)
  zeros = jnp.zeros((capacity,), jnp.float32)
  return Tree(
    parent=ints,
    depth=jnp.zeros((capacity,), jnp.int32),
    length=jnp.zeros((capacity,), jnp.int32),
    reward=zeros.at[0].set(root_reward),
    logprob=zeros,
    priority=zeros,
    status=jnp.zeros((capacity,), jnp.int8).at[0].set(Status.OPEN),
    answer=ints,
    expanded_at=ints,
    used=jnp.int32(1),
    rounds=jnp.int32(0),
  )


def child_ids(
  used: Int[Array, ""], valid: Bool[Array, "A K"]
) -> Int[Array, "A K"]:
  """Ids that `append` gives to the valid children; -1 for the others.

  Valid children are numbered row by row from `used` on. The engine calls this
  with the same arguments, to file the children's tokens under the same ids.
  """
  rank = jnp.cumsum(valid.reshape(-1)).reshape(valid.shape) - 1
  return jnp.where(valid, used + rank, -1).astype(jnp.int32)


def append(
  tree: Tree,
  node: Int[Array, " A"],
  valid: Bool[Array, "A K"],
  finished: Bool[Array, "A K"],
  length: Int[Array, "A K"],
  reward: Float[Array, "A K"],
  logprob: Float[Array, "A K"],
  answer: Int[Array, "A K"],
  priority: Float[Array, "A K"] | None = None,
) -> tuple[Tree, Int[Array, "A K"]]:
  """Adds the valid children of an expansion and closes their parents.

  Nothing is written for an invalid child. A node that was asked for is closed
  if it got a child; one that got none (its children were not paid for, or ran
  over their limit) keeps its status.

  Args:
    tree: the tree so far.
    node: i32[A], the parents.
    valid: which children came back usable.
    finished: which of them ended their solution.
    length: tokens of each child's span.
    reward: verifier's reward of the prefix that ends with the child.
    logprob: log-probability of the child's span alone.
    answer: class of a finished child's answer, -1 for none.
    priority: the decoder's order; zeros if None.

  Returns:
    The grown tree, and the children's ids (-1 for invalid ones).
  """
  ids = child_ids(tree.used, valid)
  slot = jnp.where(valid, ids, tree.capacity).reshape(-1)  # off the end: drop
  parent = jnp.broadcast_to(node[:, None], valid.shape).reshape(-1)
  if priority is None:
    priority = jnp.zeros(valid.shape, jnp.float32)

  def put(array, values):
    return array.at[slot].set(
      values.reshape(-1).astype(array.dtype), mode="drop"
    )

  status = jnp.where(finished, Status.FINISHED, Status.OPEN)
  grew = jnp.where(valid.any(axis=1), node, tree.capacity)
  fresh = jnp.where(
    tree.expanded_at[node] < 0, tree.rounds, tree.expanded_at[node]
  )
  return tree.replace(
    parent=put(tree.parent, parent),
    depth=put(tree.depth, tree.depth[parent] + 1),
    length=put(tree.length, length),
    reward=put(tree.reward, reward),
    logprob=put(tree.logprob, tree.logprob[parent] + logprob.reshape(-1)),
    priority=put(tree.priority, priority),
    status=put(tree.status.at[grew].set(Status.CLOSED, mode="drop"), status),
    answer=put(tree.answer, jnp.where(finished, answer, -1)),
    expanded_at=tree.expanded_at.at[grew].set(fresh, mode="drop"),
    used=tree.used + valid.sum(dtype=jnp.int32),
    rounds=tree.rounds + 1,
  ), ids


def put(
  array: Shaped[Array, " N"],
  ids: Int[Array, "*S"],
  values: Shaped[Array, "*S"],
) -> Shaped[Array, " N"]:
  """`array` with `values` written at `ids`; negative ids write nothing."""
  slot = jnp.where(ids >= 0, ids, array.shape[0])
  return array.at[slot].set(values.astype(array.dtype), mode="drop")


def set_status(
  tree: Tree,
  node: Int[Array, " A"],
  where: Bool[Array, " A"],
  status: Status,
) -> Tree:
  """Gives the nodes of the rows marked in `where` another status."""
  chosen = jnp.where(where, node, -1)
  values = jnp.full(node.shape, int(status), jnp.int8)
  return tree.replace(status=put(tree.status, chosen, values))


def on_path_to(
  parent: Int[Array, "*B N"], marked: Bool[Array, "*B N"]
) -> Bool[Array, "*B N"]:
  """Marks every node on the path from the root to a marked node.

  The loop carries only the marks and one cursor a node, and runs as often as
  the tree is deep. Leading axes are batch axes.
  """

  def climb(carry):
    marks, cursor = carry
    above = jnp.where(
      cursor >= 0, jnp.take_along_axis(parent, jnp.maximum(cursor, 0), -1), -1
    )
    hit = jnp.where(above >= 0, above, parent.shape[-1])
    marks = _put_true(marks, hit)
    return marks, above

  start = jnp.where(marked, jnp.arange(parent.shape[-1]), -1)
  marks, _ = jax.lax.while_loop(
    lambda carry: (carry[1] >= 0).any(), climb, (marked, start)
  )
  return marks


def _put_true(marks, index):
  if marks.ndim == 1:
    return marks.at[index].set(True, mode="drop")
  return jax.vmap(_put_true)(marks, index)


def vote(
  answer: Int[Array, " N"], weight: Float[Array, " N"]
) -> tuple[Int[Array, ""], Int[Array, ""]]:
  """The answer class with most weight, and its heaviest node.

  Args:
    answer: class of each node's answer; negative classes do not vote.
    weight: f32[N], each node's weight, >= 0. Nodes of weight 0 do not vote.

  Returns:
    (class, node), both -1 when nobody votes. Ties go to the class, then to
    the node, that appeared first.
  """
  votes = (answer >= 0) & (weight > 0)
  weight = jnp.where(votes, weight, 0.0)
  same = answer[:, None] == answer[None, :]
  total = jnp.where(votes, same @ weight, -jnp.inf)
  winner = jnp.where(votes.any(), answer[jnp.argmax(total)], -1)
  backers = votes & (answer == winner)
  node = jnp.argmax(jnp.where(backers, weight, -jnp.inf))
  return winner, jnp.where(votes.any(), node, -1).astype(jnp.int32)
