# SPDX-License-Identifier: Apache-2.0
"""REBASE: divide the width among open prefixes by their rewards.

Wu et al., "Inference scaling laws: an empirical analysis of compute-optimal
inference for LLM problem-solving" (2024), reward balanced search. Every round,
the width that finished solutions have not used up is shared out among the
prefixes sampled in the round before, in proportion to exp(r / temperature);
none is dropped by rank, and a good one gets many children.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib

SELECTIONS = ("weighted_vote", "best")

# Keeps shares that are whole numbers up to rounding from being rounded up.
_ROUNDING = 1e-4


@flax.struct.dataclass
class RebaseState:
  """The prefixes to share the width among.

  Attributes:
    tree: all prefixes sampled so far.
    frontier: i32[B], open nodes of the last round; -1 for unused rows.
  """

  tree: tree_lib.Tree
  frontier: Int[Array, " B"]


def allocate(
  width: Int[Array, ""],
  reward: Float[Array, " B"],
  usable: Bool[Array, " B"],
  temperature: float | Float[Array, ""],
) -> Int[Array, " B"]:
  """Shares out `width` children by softmax(reward / temperature).

  From the largest reward down, each gets the ceiling of its share of the width
  still left, among those still waiting; ties go to the first. So the shares
  are integers and sum to the width.

  Args:
    width: children to share out.
    reward: rewards, in any order.
    usable: which of them take part.
    temperature: above 0. Small gives all to the best, large an even split.

  Returns:
    i32[B], children of each; zeros if none is usable.
  """
  logit = jnp.where(usable, reward / temperature, -jnp.inf)
  order = jnp.argsort(-logit)
  peak = jnp.where(usable.any(), logit.max(), 0.0)
  share = jnp.where(usable, jnp.exp(logit - peak), 0.0)[order]
  waiting = jnp.cumsum(share[::-1])[::-1]

  def give(left, part):
    share, waiting = part
    fraction = jnp.where(share > 0, share / jnp.maximum(waiting, share), 0.0)
    given = jnp.ceil(left * fraction - _ROUNDING).astype(jnp.int32)
    return left - given, given

  _, given = jax.lax.scan(give, width.astype(jnp.int32), (share, waiting))
  return jnp.zeros_like(given).at[order].set(given)


def rebase(
  *,
  width: int = 16,
  temperature: float = 0.2,
  max_steps: int = 25,
  select: str = "weighted_vote",
) -> base_lib.Decoder:
  """Reward balanced search of `width` solutions.

  Args:
    width: B, solutions wanted, and steps sampled in the first round.
    temperature: of the softmax over rewards.
    max_steps: longest path in steps; the last step runs to the end.
    select: a `weighted_vote` over the finished by reward, or the `best`.

  Returns:
    A decoder of `width` rows of one child: a node is named once a child.

  Raises:
    ValueError: for a size below 1, a temperature not above 0, or an unknown
      `select`.
  """
  base_lib.require_positive("rebase", width=width, max_steps=max_steps)
  base_lib.require_choice("rebase", "select", select, SELECTIONS)
  if not temperature > 0:
    raise ValueError(f"rebase: temperature must be > 0, got {temperature}")
  shape = base_lib.SearchShape(
    nodes=1 + width * max_steps, asks=width, children=1
  )

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> RebaseState:
    del budget
    frontier = jnp.full((width,), -1, jnp.int32).at[0].set(0)
    return RebaseState(
      tree=tree_lib.init(shape.nodes, root.reward), frontier=frontier
    )

  def ask(state: RebaseState, key: jax.Array) -> base_lib.Expansion:
    del key
    tree, usable = state.tree, state.frontier >= 0
    left = jnp.maximum(width - tree.finished.sum(), 0)
    shares = allocate(left, tree.reward[state.frontier], usable, temperature)
    ends, row = jnp.cumsum(shares), jnp.arange(width)
    place = jnp.searchsorted(ends, row, side="right")
    node = jnp.maximum(state.frontier[jnp.minimum(place, width - 1)], 0)
    wanted = (row < ends[-1]).astype(jnp.int32)
    return base_lib.Expansion(
      node=node,
      children=base_lib.room(tree, wanted),
      until=base_lib.reach(tree, node, max_steps),
    )

  def tell(
    state: RebaseState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> RebaseState:
    tree, ids = base_lib.append(state.tree, expansion, outcome)
    grown = (outcome.valid & ~outcome.finished)[:, 0]
    # A round in which nothing was paid for leaves the frontier as it is.
    paid = (outcome.length > 0).any()
    frontier = jnp.where(grown, ids[:, 0], -1)
    return RebaseState(
      tree=tree, frontier=jnp.where(paid, frontier, state.frontier)
    )

  def answer(state: RebaseState) -> base_lib.Answer:
    reward = state.tree.reward
    if select == "best":
      return base_lib.best_finished(state.tree, reward)[0]
    return base_lib.vote_finished(state.tree, reward)

  votes = select != "best"
  return base_lib.Decoder(init, ask, tell, answer, shape, votes=votes)
