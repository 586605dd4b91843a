# SPDX-License-Identifier: Apache-2.0
"""A*-decoding: keep every open prefix, extend the most promising one.

Chatziveroglou, "A*-Decoding: token-efficient inference scaling" (arXiv
2505.13672, 2025). A node is a prefix of whole steps, an edge one sampled step,
a goal a finished solution. With r the verifier's reward of a prefix, the
search pops the node of least

    f(s) = g(s) + w h(s),    h(s) = 1 - r(s),

where g sums the edge costs from the root. Since no open node is dropped, a
branch that turns sour is left for an older, better prefix.

What is provable. Let w = 1, scale = 1, f_tolerance = 0, all children of a node
be asked for, and give every goal a virtual edge of cost h(goal) to a sink. For
a path with rises U and drops D of the reward, r_T = r_0 + U - D, so f is

    h_increase   1 - r_0 + 2 D - U     edge cost: the drop of the reward
    h_decrease   1 - r_0 + D           edge cost: the rise of the reward
    zero         1 - r_T               greedy best-first

`h_decrease` makes h consistent: h(s) <= c(s, s') + h(s'), so f never falls
along a path, and on a fixed finite tree the first goal popped has the least
total drop D of all. `h_increase` (the default, the paper's wording), `zero`,
`unit` and `neglogp` come with no such guarantee: a later rise of the reward
can undercut h. Nor does anything hold for f_tolerance > 0, w != 1, or trees
whose children are only sampled.

Exact order has a price: with a sharp verifier all good prefixes have nearly
the same f, deeper ones a little more, and the search turns breadth-first. So f
is compared in buckets of `f_tolerance`, and inside a bucket the deepest node
comes first.
"""

import functools
import math

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib

EDGE_COSTS = ("h_increase", "h_decrease", "zero", "unit", "neglogp")
SELECTIONS = ("first", "best", "vote", "weighted_vote")

# Keeps values at a bucket's lower edge on one side of it in any arithmetic.
_EDGE = 1e-3
# Puts every solution that is no goal behind every goal.
_NOT_A_GOAL = -1e6


@flax.struct.dataclass
class AstarState:
  """The search so far; `tree.priority` is f.

  Attributes:
    tree: all prefixes sampled so far.
    g: f32[N], sum of the edge costs from the root.
    goal_rank: i32[N], 0 for the first goal popped, and so on; -1 for others.
    goals: i32[], goals popped.
  """

  tree: tree_lib.Tree
  g: Float[Array, " N"]
  goal_rank: Int[Array, " N"]
  goals: Int[Array, ""]


def astar(
  *,
  children: int = 4,
  nodes: int = 256,
  pops: int = 1,
  edge_cost: str = "h_increase",
  scale: float = 1.0,
  heuristic_weight: float = 1.0,
  f_tolerance: float = 0.05,
  goals: int = 1,
  goal_min_reward: float = 0.0,
  reopen_penalty: float | None = None,
  max_steps: int = 40,
  select: str = "first",
) -> base_lib.Decoder:
  """A*-decoding; the module docstring says what it does and what is provable.

  Args:
    children: steps sampled from a popped node.
    nodes: node slots, root included. A full tree ends the search.
    pops: nodes popped a round: the best few, for parallelism. More than one
      trades tokens for fewer rounds.
    edge_cost: `h_increase` (drop of the reward), `h_decrease` (its rise),
      `zero`, `unit` (1 a step) or `neglogp` (-log p of the step).
    scale: factor of the edge cost.
    heuristic_weight: w, the weight of h. Large is greedy.
    f_tolerance: width of the buckets in which f is compared; 0 for exact f.
    goals: goals to pop before the search stops.
    goal_min_reward: finished nodes of less reward are no goals. They may
      still answer if the search ends without a goal.
    reopen_penalty: if given, a popped node goes back to the queue with f
      raised by this much, and may be given more children (progressive
      widening). If None, a node is extended once.
    max_steps: longest path in steps; the last step runs to the end.
    select: which goal answers: the `first`, the one of `best` reward, a `vote`
      or a vote weighted by reward.

  Returns:
    A decoder. The root's f is w (1 - `Root.reward`).

  Raises:
    ValueError: for a size below 1, fewer slots than one expansion needs, a
      negative scale, weight, tolerance or penalty, a `goal_min_reward` outside
      [0, 1], or an unknown `edge_cost` or `select`.
  """
  base_lib.require_positive(
    "astar", children=children, pops=pops, goals=goals, max_steps=max_steps
  )
  base_lib.require_choice("astar", "edge_cost", edge_cost, EDGE_COSTS)
  base_lib.require_choice("astar", "select", select, SELECTIONS)
  _require_numbers(
    scale=scale,
    heuristic_weight=heuristic_weight,
    f_tolerance=f_tolerance,
    goal_min_reward=goal_min_reward,
    reopen_penalty=reopen_penalty or 0.0,
  )
  if goal_min_reward > 1:
    raise ValueError(
      f"astar: goal_min_reward must be in [0, 1], got {goal_min_reward}"
    )
  if nodes < 1 + children:
    raise ValueError(
      f"astar: nodes must be at least 1 + children = {1 + children}, "
      f"got {nodes}"
    )
  shape = base_lib.SearchShape(nodes=nodes, asks=pops, children=children)
  settle = functools.partial(
    _pop_goals,
    f_tolerance=f_tolerance,
    wanted=goals,
    min_reward=goal_min_reward,
  )

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> AstarState:
    del budget
    tree = tree_lib.init(nodes, root.reward)
    f_root = heuristic_weight * (1.0 - tree.reward[0])
    return AstarState(
      tree=tree.replace(priority=tree.priority.at[0].set(f_root)),
      g=jnp.zeros((nodes,), jnp.float32),
      goal_rank=jnp.full((nodes,), -1, jnp.int32),
      goals=jnp.int32(0),
    )

  def ask(state: AstarState, key: jax.Array) -> base_lib.Expansion:
    del key
    node, found = _least_few(state.tree, pops, f_tolerance)
    wanted = jnp.where(found & (state.goals < goals), children, 0)
    return base_lib.Expansion(
      node=node,
      children=base_lib.room(state.tree, wanted),
      until=base_lib.reach(state.tree, node, max_steps),
    )

  def tell(
    state: AstarState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> AstarState:
    parent = expansion.node[:, None]
    before = state.tree.reward[parent]
    cost = _edge_cost(edge_cost, before, outcome.reward, outcome.logprob)
    g = state.g[parent] + scale * cost
    f = g + heuristic_weight * (1.0 - outcome.reward)
    tree, ids = base_lib.append(state.tree, expansion, outcome, f)
    tree = _requeue(tree, expansion, outcome, reopen_penalty)
    grown = state.replace(tree=tree, g=tree_lib.put(state.g, ids, g))
    return settle(grown)

  answer = functools.partial(_answer, select=select)
  votes = select in ("vote", "weighted_vote")
  return base_lib.Decoder(init, ask, tell, answer, shape, votes=votes)


def _require_numbers(**numbers: float) -> None:
  for name, value in numbers.items():
    if not (math.isfinite(value) and value >= 0):
      raise ValueError(
        f"astar: {name} must be finite and not negative, got {value}"
      )


def _edge_cost(kind: str, before: Array, after: Array, logprob: Array) -> Array:
  """Cost of the edge from a node of reward `before` to one of `after`."""
  costs = {
    "h_increase": lambda: jnp.maximum(before - after, 0.0),
    "h_decrease": lambda: jnp.maximum(after - before, 0.0),
    "zero": lambda: jnp.zeros_like(after),
    "unit": lambda: jnp.ones_like(after),
    "neglogp": lambda: -logprob,
  }
  return costs[kind]()


def bucket(f: Float[Array, " N"], f_tolerance: float) -> Float[Array, " N"]:
  """Number of the bucket that f falls into; f itself if the width is 0."""
  if f_tolerance == 0:
    return f
  return jnp.floor(f / f_tolerance + _EDGE)


def _least(
  tree: tree_lib.Tree, queued: Bool[Array, " N"], f_tolerance: float
) -> tuple[Int[Array, ""], Bool[Array, ""]]:
  """The queued node of least (bucket of f, -depth, id); whether one is."""
  order = jnp.where(queued, bucket(tree.priority, f_tolerance), jnp.inf)
  tied = queued & (order == order.min())
  deepest = jnp.where(tied, tree.depth, -1)
  return jnp.argmax(deepest).astype(jnp.int32), queued.any()


def _least_few(
  tree: tree_lib.Tree, count: int, f_tolerance: float
) -> tuple[Int[Array, " A"], Bool[Array, " A"]]:
  def pop(queued, _):
    node, found = _least(tree, queued, f_tolerance)
    return queued.at[node].set(False), (node, found)

  _, popped = jax.lax.scan(pop, tree.open, length=count)
  return popped


def _requeue(
  tree: tree_lib.Tree,
  expansion: base_lib.Expansion,
  outcome: base_lib.Outcome,
  penalty: float | None,
) -> tree_lib.Tree:
  """What becomes of the nodes that were extended.

  Without a penalty they are closed, also if no child was usable. With one they
  are opened again, later in the order. Nodes that were not paid for stay.
  """
  paid = (outcome.length > 0).any(axis=1)
  if penalty is None:
    return tree_lib.set_status(
      tree, expansion.node, paid, tree_lib.Status.CLOSED
    )
  tree = tree_lib.set_status(tree, expansion.node, paid, tree_lib.Status.OPEN)
  chosen = jnp.where(paid, expansion.node, -1)
  later = tree.priority[expansion.node] + penalty
  return tree.replace(priority=tree_lib.put(tree.priority, chosen, later))


def _pop_goals(
  state: AstarState, *, f_tolerance: float, wanted: int, min_reward: float
) -> AstarState:
  """Pops finished nodes off the front of the queue until an open one leads."""
  tree = state.tree
  able = tree.finished & (tree.reward >= min_reward)

  def pop(_, carry):
    rank, count = carry
    queued = tree.open | (able & (rank < 0))
    node, found = _least(tree, queued, f_tolerance)
    goal = found & tree.finished[node] & (count < wanted)
    rank = tree_lib.put(rank, jnp.where(goal, node, -1), count)
    return rank, count + goal

  # At most `wanted` goals are missing; unfit solutions are never queued.
  rank, count = jax.lax.fori_loop(
    0, wanted, pop, (state.goal_rank, state.goals)
  )
  return state.replace(goal_rank=rank, goals=count)


def _answer(state: AstarState, select: str) -> base_lib.Answer:
  """Answers from the goals; without any, from what else was finished."""
  tree = state.tree
  goal = state.goal_rank >= 0
  pool = jnp.where(goal.any(), goal, tree.finished)
  if select == "vote":
    return base_lib.vote_finished(tree, pool.astype(jnp.float32))
  if select == "weighted_vote":
    return base_lib.vote_finished(tree, jnp.where(pool, tree.reward, 0.0))
  if select == "best":
    score = jnp.where(pool, tree.reward, _NOT_A_GOAL)
  else:
    turn = jnp.where(goal, -state.goal_rank.astype(jnp.float32), _NOT_A_GOAL)
    score = jnp.where(goal.any(), turn, -tree.priority)
  best, _ = base_lib.best_finished(tree, score)
  return best.replace(weight=pool.astype(jnp.float32))
