# SPDX-License-Identifier: Apache-2.0
"""Monte Carlo tree search over sampled steps: `puct` and `gumbel`.

A node's children are steps sampled from the model, and the verifier's reward
of a child is its first value. One simulation walks from the root, by the rules
of `tree_policies`, to a node without children, has children sampled for it,
and backs the mean of their rewards up the path. A walk that ends on a finished
solution needs no sampling: it backs that solution's reward up again. So does
one that ends on a dead end (all children were paid for, none was usable), with
value 0. Hence

    visits[node] = simulations through the node,
    value[node]  = (reward + sum of values backed up) / (1 + visits),

the root's visits are the simulations done, and the visits of an expanded node
are one more than those of its children together, as in mctx.

PUCT: Rosin (2011); Silver et al. (2017). Gumbel: Danihelka et al. (2022). The
references are given in full in `tree_policies`.
"""

from collections.abc import Callable
import dataclasses
import difflib
import functools

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base, tree_policies
from jaxttc.decoders import tree as tree_lib

PRIORS = ("uniform", "logprob")
SELECTIONS = ("best", "visited", "vote")

# (view of a node) -> f32[K], the score of each child.
_Score = Callable[[tree_policies.View], Float[Array, " K"]]


@flax.struct.dataclass
class State:
  """A search under way. `N` node slots, `K` children, `D` = max depth + 1.

  Attributes:
    tree: the tree of steps.
    children: i32[N, K], ids of each node's children; -1 for none.
    visits: i32[N], simulations through each node.
    value_sum: f32[N], sum of the values those simulations backed up.
    path: i32[D], the walk of the simulation under way: nodes from the root
      to the one to be extended, then `N`s.
    simulations: i32[], simulations done.
  """

  tree: tree_lib.Tree
  children: Int[Array, "N K"]
  visits: Int[Array, " N"]
  value_sum: Float[Array, " N"]
  path: Int[Array, " D"]
  simulations: Int[Array, ""]

  @property
  def value(self) -> Float[Array, "*B N"]:
    """Mean of each node's own reward and all values backed up through it."""
    return (self.tree.reward + self.value_sum) / (1 + self.visits)

  @property
  def leaf(self) -> Int[Array, ""]:
    """The node at which the simulation under way ends."""
    return self.path[(self.path < self.tree.capacity).sum() - 1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Search:
  """What `puct` and `gumbel` have in common."""

  simulations: int
  children: int
  root_children: int
  max_depth: int
  prior: str
  select: str
  root_score: _Score
  interior_score: _Score


def puct(
  *,
  simulations: int,
  children: int = 4,
  root_children: int | None = None,
  max_depth: int = 32,
  prior: str = "uniform",
  select: str = "best",
  pb_c_init: float = 1.25,
  pb_c_base: float = 19652.0,
  qtransform: tree_policies.QTransform = tree_policies.q_by_parent_and_siblings,
) -> base.Decoder:
  """Monte Carlo tree search by PUCT (Rosin 2011; Silver et al. 2017).

  Args:
    simulations: most simulations, and so most expansions, at least 1.
    children: steps sampled of each node, at least 1.
    root_children: steps sampled of the prompt; `children` if None.
    max_depth: most steps of a solution: the last one is sampled to the end.
    prior: prior over the children of a node. "uniform" fits children that
      were sampled from the policy, since sampling has weighted them already;
      "logprob" is the softmax of the log-probabilities of their spans.
    select: how to answer. "best": the finished node of largest reward;
      "visited": the finished node at the end of the most visited path;
      "vote": the answer class with most reward in all.
    pb_c_init: weight of exploration.
    pb_c_base: visits at which that weight starts to grow.
    qtransform: brings values to [0, 1].

  Returns:
    A decoder that extends one node a round; its tree has room for all
    simulations.

  Raises:
    ValueError: if a count is below 1, or a name is unknown.
  """
  score = functools.partial(
    tree_policies.puct_score,
    pb_c_init=pb_c_init,
    pb_c_base=pb_c_base,
    qtransform=qtransform,
  )
  return _decoder(
    _Search(
      simulations=simulations,
      children=children,
      root_children=children if root_children is None else root_children,
      max_depth=max_depth,
      prior=prior,
      select=select,
      root_score=score,
      interior_score=score,
    )
  )


def gumbel(
  *,
  simulations: int,
  children: int = 4,
  root_children: int | None = None,
  max_depth: int = 32,
  prior: str = "uniform",
  select: str = "visited",
  value_scale: float = 0.1,
  maxvisit_init: float = 50.0,
) -> base.Decoder:
  """Gumbel tree search: sequential halving over the first steps.

  Below the root, visits follow softmax(logits + sigma(Q)) deterministically
  (Danihelka et al. 2022). No Gumbel noise is added: it serves to draw the
  root's actions at random and without replacement, and here the first steps
  are a random draw from the policy as they come.

  Args:
    simulations: most simulations; the halving is laid out over them.
    children: steps sampled of each node, at least 1.
    root_children: first steps to halve over; `children` if None.
    max_depth: most steps of a solution: the last one is sampled to the end.
    prior: "uniform" or "logprob", see `puct`.
    select: "best", "visited" or "vote", see `puct`. "visited" is the winner
      of the halving: among equals in visits the larger value wins.
    value_scale: scale of sigma.
    maxvisit_init: offset of visits in sigma.

  Returns:
    A decoder that extends one node a round.

  Raises:
    ValueError: if a count is below 1, or a name is unknown.
  """

  def qtransform(view):
    return tree_policies.q_completed_by_mixed_value(
      _without_gaps(view), value_scale=value_scale, maxvisit_init=maxvisit_init
    )

  width = children if root_children is None else root_children
  # The root's expansion is a simulation too, of which no child is visited.
  table = tree_policies.halving_table(max(width, 0), max(simulations, 1))

  def root_score(view):
    turn = jnp.asarray(table)[view.child_known.sum(), view.child_visits.sum()]
    return tree_policies.gumbel_root_score(
      view, jnp.zeros_like(view.child_q), turn, qtransform=qtransform
    )

  return _decoder(
    _Search(
      simulations=simulations,
      children=children,
      root_children=width,
      max_depth=max_depth,
      prior=prior,
      select=select,
      root_score=root_score,
      interior_score=functools.partial(
        tree_policies.gumbel_interior_score, qtransform=qtransform
      ),
    )
  )


def view(
  state: State, node: Int[Array, ""], prior: str = "uniform"
) -> tree_policies.View:
  """The statistics of one node, for a selection rule.

  Args:
    state: the search.
    node: i32[], the node.
    prior: "uniform" or "logprob", see `puct`.

  Returns:
    A view without batch axes. Every child that exists counts as known, since
    the verifier has seen it; slots without a child have next to no prior.
  """
  child = state.children[node]
  known = child >= 0
  slot = jnp.maximum(child, 0)
  logprob = state.tree.logprob
  span = logprob[slot] - logprob[node]
  logits = span if prior == "logprob" else jnp.zeros_like(span)
  value = state.value
  return tree_policies.View(
    visits=state.visits[node],
    value=value[node],
    raw_value=state.tree.reward[node],
    child_visits=jnp.where(known, state.visits[slot], 0),
    child_q=jnp.where(known, value[slot], 0.0),
    child_known=known,
    prior_logits=jnp.where(known, logits, jnp.finfo(logits.dtype).min),
  )


def _without_gaps(view: tree_policies.View) -> tree_policies.View:
  """Gives slots without a child a q that leaves the range of q as it is."""
  known = view.child_known
  most = jnp.where(known, view.child_q, -jnp.inf).max(axis=-1, keepdims=True)
  most = jnp.where(known.any(axis=-1, keepdims=True), most, 0.0)
  return view._replace(
    child_q=jnp.where(known, view.child_q, most),
    child_known=jnp.ones_like(known),
  )


def _decoder(search: _Search) -> base.Decoder:
  _check(search)
  nodes = 1 + search.root_children + (search.simulations - 1) * search.children
  shape = base.SearchShape(
    nodes=nodes,
    asks=1,
    children=max(search.root_children, search.children),
  )
  return base.Decoder(
    init=functools.partial(_init, search, shape),
    ask=functools.partial(_ask, search),
    tell=functools.partial(_tell, search),
    answer=functools.partial(_answer, search),
    shape=shape,
    votes=search.select == "vote",
  )


def _check(search: _Search) -> None:
  for name in ("simulations", "children", "root_children", "max_depth"):
    if getattr(search, name) < 1:
      raise ValueError(
        f"mcts: {name} must be at least 1, got {getattr(search, name)}"
      )
  for name, choices in (("prior", PRIORS), ("select", SELECTIONS)):
    given = getattr(search, name)
    if given not in choices:
      near = difflib.get_close_matches(given, choices, 1, 0.0)[0]
      raise ValueError(
        f"mcts: {name} must be one of {', '.join(choices)}, got {given!r} "
        f"(did you mean {near!r}?)"
      )


def _init(
  search: _Search,
  shape: base.SearchShape,
  root: base.Root,
  budget: budget_lib.Budget,
) -> State:
  del budget  # whoever drives the search keeps to it
  tree = tree_lib.init(shape.nodes)
  return State(
    tree=tree.replace(reward=tree.reward.at[0].set(root.reward)),
    children=jnp.full((shape.nodes, shape.children), -1, jnp.int32),
    visits=jnp.zeros((shape.nodes,), jnp.int32),
    value_sum=jnp.zeros((shape.nodes,), jnp.float32),
    path=jnp.full((search.max_depth + 1,), shape.nodes, jnp.int32).at[0].set(0),
    simulations=jnp.int32(0),
  )


def _ask(search: _Search, state: State, key: jax.Array) -> base.Expansion:
  """Asks for the children of the node that the last walk ended on."""
  del key  # the walk is deterministic
  leaf = state.leaf
  wanted = jnp.where(leaf == 0, search.root_children, search.children)
  more = (state.simulations < search.simulations) & _extends(
    search, state, leaf
  )
  last = state.tree.depth[leaf] + 1 >= search.max_depth
  until = jnp.where(last, base.Until.END, base.Until.STEP)
  return base.Expansion(
    node=leaf[None].astype(jnp.int32),
    children=jnp.where(more, wanted, 0)[None].astype(jnp.int32),
    until=until[None].astype(jnp.int32),
  )


def _tell(
  search: _Search,
  state: State,
  expansion: base.Expansion,
  outcome: base.Outcome,
) -> State:
  """Adds the children, backs their mean reward up, and walks again."""
  paid = (outcome.valid | (outcome.length > 0)).any()
  usable = outcome.valid.sum()
  reward = jnp.where(outcome.valid, outcome.reward, 0.0).sum()
  tree, ids = base.append(state.tree, expansion, outcome)
  leaf, capacity = expansion.node[0], tree.capacity
  # Children that were paid for in vain would be as dear the next time.
  dead = jnp.where(paid & (usable == 0), leaf, capacity)
  status = tree.status.at[dead].set(tree_lib.Status.CLOSED, mode="drop")
  grew = jnp.where(usable > 0, leaf, capacity)
  state = state.replace(
    tree=tree.replace(status=status),
    children=state.children.at[grew].set(ids[0], mode="drop"),
  )
  done = _back_up(state, reward / jnp.maximum(usable, 1))
  state = jax.tree.map(lambda new, old: jnp.where(paid, new, old), done, state)
  return _walk_on(search, state)


def _back_up(state: State, value: Float[Array, ""]) -> State:
  """Ends the simulation under way with a value."""
  return state.replace(
    visits=state.visits.at[state.path].add(1, mode="drop"),
    value_sum=state.value_sum.at[state.path].add(value, mode="drop"),
    simulations=state.simulations + 1,
  )


def _extends(search, state, node):
  """Whether a node without children may be given some."""
  return state.tree.open[node] & (state.tree.depth[node] < search.max_depth)


def _walk_on(search: _Search, state: State) -> State:
  """Plays all simulations that need no sampling, up to one that does."""

  def free(carry):
    current = with_statistics(carry)
    return (current.simulations < search.simulations) & ~_extends(
      search, current, current.leaf
    )

  def replay(carry):
    current = with_statistics(carry)
    leaf, tree = current.leaf, current.tree
    value = jnp.where(tree.finished[leaf], tree.reward[leaf], 0.0)
    current = _back_up(current, value)
    return statistics(current.replace(path=_walk(search, current)))

  # What a simulation changes, and nothing else, so that under vmap the loop
  # does not copy the tree.
  def statistics(state):
    return state.visits, state.value_sum, state.path, state.simulations

  def with_statistics(carry):
    visits, value_sum, path, simulations = carry
    return state.replace(
      visits=visits, value_sum=value_sum, path=path, simulations=simulations
    )

  state = state.replace(path=_walk(search, state))
  return with_statistics(jax.lax.while_loop(free, replay, statistics(state)))


def _walk(search: _Search, state: State) -> Int[Array, " D"]:
  """The path from the root to the node without children to search next."""

  def choose(score, node):
    seen = view(state, node, search.prior)
    slot = tree_policies.masked_argmax(score(seen), ~seen.child_known)
    return state.children[node, slot]

  def body(carry):
    node, depth, path = carry
    return (
      choose(search.interior_score, node),
      depth + 1,
      path.at[depth].set(node),
    )

  root = jnp.int32(0)
  path = jnp.full_like(state.path, state.tree.capacity)
  first = choose(search.root_score, root)
  # An unexpanded root has no first child: its walk ends where it starts.
  started = first >= 0
  node = jnp.where(started, first, root)
  path = jnp.where(started, path.at[0].set(root), path)
  node, depth, path = jax.lax.while_loop(
    lambda carry: (state.children[carry[0]] >= 0).any(),
    body,
    (node, started.astype(jnp.int32), path),
  )
  return path.at[depth].set(node)


def _answer(search: _Search, state: State) -> base.Answer:
  tree = state.tree
  best, found = base.best_finished(tree, tree.reward)
  if search.select == "best":
    return best
  if search.select == "vote":
    weight = jnp.where(tree.finished, tree.reward, 0.0)
    answer, node = tree_lib.vote(tree.answer, weight)
    return base.Answer(answer=answer, node=node, weight=weight)
  node = _most_visited(state)
  weight = jnp.where(tree.finished, 1.0 + state.visits, 0.0)
  return base.Answer(
    answer=jnp.where(found, tree.answer[node], -1),
    node=jnp.where(found, node, -1),
    weight=weight,
  )


def _most_visited(state: State) -> Int[Array, ""]:
  """The finished node reached by following visits, then values.

  Only steps that lead to a finished node are taken, and to one with an answer
  where there is any.
  """
  tree = state.tree
  answered = tree.finished & (tree.answer >= 0)
  goals = jnp.where(answered.any(), answered, tree.finished)
  leads = tree_lib.on_path_to(tree.parent, goals)

  def usable(node):
    child = state.children[node]
    return (child >= 0) & leads[jnp.maximum(child, 0)]

  def body(node):
    slot = jnp.maximum(state.children[node], 0)
    visits = jnp.where(usable(node), state.visits[slot], -1)
    value = jnp.where(visits == visits.max(), state.value[slot], -jnp.inf)
    return state.children[node, jnp.argmax(value)]

  return jax.lax.while_loop(lambda n: usable(n).any(), body, jnp.int32(0))
