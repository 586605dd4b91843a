# SPDX-License-Identifier: Apache-2.0
"""Saves the end of a token budget for one whole solution.

A step-wise search that runs out of tokens in mid-air has spent them on
nothing. `with_finish` wraps any such decoder: while nothing has been finished
and the tokens left get scarce, the deepest open prefix is run to its end. All
strategies get the same treatment, so a comparison under a budget is fair. The
finish is charged like any other expansion.
"""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib


@flax.struct.dataclass
class FinishState:
  """A wrapped decoder's state, and what its children have cost.

  Attributes:
    inner: the wrapped decoder's state.
    left: i32[], tokens of the budget that are left.
    spent: i32[], tokens spent on children.
    drawn: i32[], children paid for.
  """

  inner: base_lib.State
  left: Int[Array, ""]
  spent: Int[Array, ""]
  drawn: Int[Array, ""]

  @property
  def tree(self) -> tree_lib.Tree:
    """The wrapped decoder's tree."""
    return self.inner.tree


def deepest_open(
  tree: tree_lib.Tree,
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
  """The deepest open node, then the best rewarded, then the first; if any."""
  depth = jnp.where(tree.open, tree.depth, -1)
  deep = tree.open & (depth == depth.max())
  merit = jnp.where(deep, tree.reward, -jnp.inf)
  return jnp.argmax(merit).astype(jnp.int32), tree.open.any()


def with_finish(
  decoder: base_lib.Decoder, tokens: int, *, step_tokens: int = 0
) -> base_lib.Decoder:
  """Lets a step-wise decoder finish one solution before its tokens run out.

  The finish comes when nothing is finished and another full round of children
  would likely leave fewer generated tokens in the budget than `tokens`. A child
  is likely to cost the mean length so far, and at least `step_tokens`. With
  `step_tokens` the longest step that the engine allows, the finish can always
  be paid for, if it can at the start.

  The finish is one child of the deepest open node, until the end. A node whose
  finish was paid for and came back unusable is closed, and the next deepest is
  tried. Once a solution is finished, the wrapped decoder goes on. Without a
  limit on generated tokens nothing changes.

  Args:
    decoder: the decoder to wrap.
    tokens: what to save for the finish: at least what the driver reserves for
      one child until the end.
    step_tokens: least that a step is taken to cost; matters most in the first
      round, when no length has been seen.

  Returns:
    A decoder of the same shape, whose state keeps the wrapped one's in
    `inner`.

  Raises:
    ValueError: if `tokens` is less than 1 or `step_tokens` negative.
  """
  base_lib.require_positive("with_finish", tokens=tokens)
  if step_tokens < 0:
    raise ValueError(
      f"with_finish: step_tokens must be at least 0, got {step_tokens}"
    )
  shape = decoder.shape

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> FinishState:
    limit = budget.generated_tokens
    if limit is None:
      limit = jnp.iinfo(jnp.int32).max
    return FinishState(
      inner=decoder.init(root, budget),
      left=jnp.asarray(limit, jnp.int32),
      spent=jnp.int32(0),
      drawn=jnp.int32(0),
    )

  def scarce(state: FinishState) -> Bool[Array, ""]:
    mean = state.spent / jnp.maximum(state.drawn, 1)
    likely = jnp.maximum(mean, step_tokens)
    reserve = tokens + shape.asks * shape.children * likely
    free = state.tree.used < state.tree.capacity
    _, found = deepest_open(state.tree)
    return (state.left < reserve) & ~state.tree.finished.any() & found & free

  def ask(state: FinishState, key: jax.Array) -> base_lib.Expansion:
    node, _ = deepest_open(state.tree)
    idle = base_lib.nothing(shape)
    finish = base_lib.Expansion(
      node=idle.node.at[0].set(node),
      children=idle.children.at[0].set(1),
      until=jnp.full_like(idle.until, base_lib.Until.END),
    )
    usual = decoder.ask(state.inner, key)
    return _either(scarce(state), finish, usual)

  def tell(
    state: FinishState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> FinishState:
    tree, _ = base_lib.append(state.tree, expansion, outcome)
    paid = outcome.length > 0
    tree = tree_lib.set_status(
      tree, expansion.node, paid.any(axis=1), tree_lib.Status.CLOSED
    )
    finished = dataclasses.replace(state.inner, tree=tree)
    usual = decoder.tell(state.inner, expansion, outcome)
    spent = outcome.length.sum(dtype=jnp.int32)
    return FinishState(
      inner=_either(scarce(state), finished, usual),
      left=state.left - spent,
      spent=state.spent + spent,
      drawn=state.drawn + paid.sum(dtype=jnp.int32),
    )

  def answer(state: FinishState) -> base_lib.Answer:
    return decoder.answer(state.inner)

  return base_lib.Decoder(
    init,
    ask,
    tell,
    answer,
    shape,
    decoder.needs_reward,
    revisits=decoder.revisits,
    votes=decoder.votes,
  )


def _either(
  condition: Bool[Array, ""], yes: base_lib.State, no: base_lib.State
) -> base_lib.State:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
