# SPDX-License-Identifier: Apache-2.0
"""What a decoder is: four pure functions over a tree of partial solutions.

    init(problem, budget)            -> state
    ask(state, key)                  -> expansion
    tell(state, expansion, outcome)  -> state
    answer(state)                    -> answer

A decoder sees numbers only. Whoever drives it (the host driver, the compiled
search, a toy world in a test) pays for the expansion, runs the model and the
verifier, and tells what came back. The driver may shorten an expansion that
the budget cannot pay for in full: children that were not paid for come back
with `length` 0 and `valid` False, and the decoder asks again or does without.
A search is over when `ask` asks for nothing, or when nothing can be paid for.

The functions serve one problem; `jax.vmap` lifts them to a batch.
"""

from collections.abc import Callable, Sequence
import dataclasses
import difflib
import enum
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import tree as tree_lib

State = Any  # a flax.struct dataclass of arrays, with a field `tree: Tree`


class Until(enum.IntEnum):
  """How far a child is sampled."""

  STEP = 0  # to the end of the step, or of the solution
  END = 1  # to the end of the solution


class Root(NamedTuple):
  """What a decoder may know about its problem.

  Attributes:
    prompt_length: i32[], tokens of the prompt.
    reward: f32[], the verifier's reward of the bare prompt, in [0, 1].
  """

  prompt_length: Int[Array, ""]
  reward: Float[Array, ""]


@flax.struct.dataclass
class Expansion:
  """Which nodes to extend, into how many children, and how far.

  A node may be named in several rows. Rows with `children` 0 are unused.

  Attributes:
    node: i32[A], nodes to extend.
    children: i32[A], samples wanted of each, 0..K.
    until: i32[A], an `Until`.
  """

  node: Int[Array, " A"]
  children: Int[Array, " A"]
  until: Int[Array, " A"]


@flax.struct.dataclass
class Outcome:
  """What engine and verifier sent back for an expansion.

  Attributes:
    valid: bool[A, K], the child is usable: it was paid for, and reached the
      end of its step (or solution) within its token limit.
    finished: bool[A, K], the child ended the solution.
    length: i32[A, K], tokens spent on the child; 0 if it was not paid for.
    reward: f32[A, K], verifier's reward of the prefix up to the child, in
      [0, 1], aggregated over its steps as the verifier is told to (last,
      min, product, mean).
    logprob: f32[A, K], log-probability of the child's span.
    answer: i32[A, K], class of a finished child's answer; -1 for none.
  """

  valid: Bool[Array, "A K"]
  finished: Bool[Array, "A K"]
  length: Int[Array, "A K"]
  reward: Float[Array, "A K"]
  logprob: Float[Array, "A K"]
  answer: Int[Array, "A K"]


@flax.struct.dataclass
class Answer:
  """A decoder's answer, and the distribution behind it.

  Attributes:
    answer: i32[], class of the answer; -1 if there is none.
    node: i32[], the finished node that stands for it; -1 if there is none.
    weight: f32[N], each node's weight in the decision. With `tree.answer` it
      is the distribution over answer classes.
  """

  answer: Int[Array, ""]
  node: Int[Array, ""]
  weight: Float[Array, " N"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchShape:
  """The static sizes of a decoder's arrays.

  Attributes:
    nodes: node slots `N`, root included.
    asks: rows `A` of an expansion.
    children: children `K` a row.
  """

  nodes: int
  asks: int
  children: int


class Decoder(NamedTuple):
  """A search strategy; see the module docstring.

  Attributes:
    init: (Root, Budget) -> state.
    ask: (state, key) -> Expansion. Pure: the same state and key give the same
      expansion, and asking does not change the state.
    tell: (state, Expansion, Outcome) -> state.
    answer: state -> Answer. May be called at any time: decoders are anytime.
    shape: the static sizes of trees, expansions and outcomes.
    needs_reward: whether children must be scored by a verifier.
    until: how far its children may be sampled. What a decoder never asks for
      is left out of its compiled search.
    revisits: whether it may ask for nodes that it has closed (beside the
      root). If not, the engine frees what no open node descends from.
    votes: whether it needs to know which answers are the same.
  """

  init: Callable[[Root, budget_lib.Budget], State]
  ask: Callable[[State, jax.Array], Expansion]
  tell: Callable[[State, Expansion, Outcome], State]
  answer: Callable[[State], Answer]
  shape: SearchShape
  needs_reward: bool = True
  until: tuple[Until, ...] = (Until.STEP, Until.END)
  revisits: bool = False
  votes: bool = False


def nothing(shape: SearchShape) -> Expansion:
  """The expansion that asks for nothing: the search is over."""
  zeros = jnp.zeros((shape.asks,), jnp.int32)
  return Expansion(node=zeros, children=zeros, until=zeros)


def room(tree: tree_lib.Tree, children: Int[Array, " A"]) -> Int[Array, " A"]:
  """Cuts `children` down, last rows first, to what the tree has slots for."""
  free = tree.capacity - tree.used
  before = jnp.cumsum(children) - children
  return jnp.clip(free - before, 0, children)


def reach(
  tree: tree_lib.Tree, node: Int[Array, " A"], max_steps: int
) -> Int[Array, " A"]:
  """How far to sample from each node so that no path has over `max_steps`.

  Children are steps, but the last one allowed runs to the end.
  """
  last = tree.depth[node] >= max_steps - 1
  return jnp.where(last, Until.END, Until.STEP).astype(jnp.int32)


def require_positive(strategy: str, **sizes: int) -> None:
  """Refuses sizes below 1: ValueError naming strategy, size and value."""
  for name, value in sizes.items():
    if value < 1:
      raise ValueError(f"{strategy}: {name} must be at least 1, got {value}")


def require_choice(
  strategy: str, name: str, value: str, choices: Sequence[str]
) -> None:
  """Refuses a value that is not a choice: ValueError with the nearest one."""
  if value not in choices:
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
      f"{strategy}: {name} must be one of {', '.join(choices)}, "
      f"got {value!r}{hint}"
    )


def append(
  tree: tree_lib.Tree,
  expansion: Expansion,
  outcome: Outcome,
  priority: Float[Array, "A K"] | None = None,
) -> tuple[tree_lib.Tree, Int[Array, "A K"]]:
  """`tree.append` of an outcome: the grown tree and the children's ids."""
  return tree_lib.append(
    tree,
    expansion.node,
    outcome.valid,
    outcome.finished,
    outcome.length,
    outcome.reward,
    outcome.logprob,
    outcome.answer,
    priority,
  )


def best_finished(
  tree: tree_lib.Tree, score: Float[Array, " N"]
) -> tuple[Answer, Bool[Array, ""]]:
  """The finished node of highest score, and whether there is one.

  Nodes without an answer lose to nodes with one; ties go to the first.
  """
  rank = jnp.where(tree.finished, score, -jnp.inf)
  answered = tree.finished & (tree.answer >= 0)
  rank = jnp.where(answered.any(), jnp.where(answered, rank, -jnp.inf), rank)
  node = jnp.argmax(rank).astype(jnp.int32)
  found = tree.finished.any()
  weight = jnp.where(tree.finished, jnp.maximum(score, 0.0), 0.0)
  return Answer(
    answer=jnp.where(found, tree.answer[node], -1),
    node=jnp.where(found, node, -1),
    weight=weight,
  ), found


def vote_finished(tree: tree_lib.Tree, weight: Float[Array, " N"]) -> Answer:
  """The answer class with most weight over the finished nodes.

  If no finished node with an answer has weight, all of them weigh the same.
  """
  answered = tree.finished & (tree.answer >= 0)
  weight = jnp.where(answered, weight, 0.0)
  alike = answered.astype(jnp.float32)
  weight = jnp.where((weight > 0).any(), weight, alike)
  winner, node = tree_lib.vote(tree.answer, weight)
  return Answer(answer=winner, node=node, weight=weight)
