# SPDX-License-Identifier: Apache-2.0
"""Monte Carlo tree search over a recurrent model, for a batch of roots at once.

    output = tree_search.gumbel_policy(
      params, key, root=root, recurrent_fn=recurrent_fn, num_simulations=64
    )

A simulation walks down from each root to an action that was never taken,
asks the model for the node behind it, and backs the node's value up. The
definitions, the arguments and the splitting of keys are those of mctx, so
both give the same tree for the same key, node for node.

The cost of a simulation is proportional to the depth it reaches and does not
grow with the nodes in store, for two reasons. Walking down and backing up are
loops over the whole batch; vmapped loops would carry the tree and copy all of
it at every level, whereas here rows that are done write to a slot off the end,
which drops the write, and XLA updates in place. And statistics are kept once,
with the node they belong to; what mctx keeps a second time in its parent
(`children_visits` and so on) is looked up through `children_index`.

`B` is the number of roots, `N` = simulations + 1 the node slots, `A` the
actions.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from jaxttc.decoders import array_tree, tree_policies

Params = Any
Embedding = Any  # a pytree of arrays [B, ...]


class RootOutput(NamedTuple):
  """The model's view of the roots.

  Attributes:
    prior_logits: f32[B, A], the prior policy.
    value: f32[B], the value estimate.
    embedding: arrays [B, ...], what `recurrent_fn` continues from.
  """

  prior_logits: Float[Array, "B A"]
  value: Float[Array, " B"]
  embedding: Embedding


class RecurrentOutput(NamedTuple):
  """The model's view of what an action leads to.

  Attributes:
    reward: f32[B], reward of the transition.
    discount: f32[B], factor between the reward and the value that follows.
    prior_logits: f32[B, A], prior policy at the new node.
    value: f32[B], value of the new node.
  """

  reward: Float[Array, " B"]
  discount: Float[Array, " B"]
  prior_logits: Float[Array, "B A"]
  value: Float[Array, " B"]


# (params, key, action i32[B], embedding) -> (RecurrentOutput, embedding); any
# object with the fields of RecurrentOutput will do.
RecurrentFn = Callable[
  [Params, jax.Array, Int[Array, " B"], Embedding], tuple[Any, Embedding]
]
# (a key for each root, view) -> action i32[B].
SelectFn = Callable[[jax.Array, tree_policies.View], Int[Array, " B"]]


class PolicyOutput(NamedTuple):
  """What a search recommends.

  Attributes:
    action: i32[B], the action to take.
    action_weights: f32[B, A], the improved policy; rows sum to 1.
    search_tree: the trees behind it.
  """

  action: Int[Array, " B"]
  action_weights: Float[Array, "B A"]
  search_tree: array_tree.SearchTree


def search(
  params: Params,
  key: jax.Array,
  *,
  root: RootOutput,
  recurrent_fn: RecurrentFn,
  root_select: SelectFn,
  interior_select: SelectFn,
  num_simulations: int,
  max_depth: int | None = None,
  invalid_actions: Shaped[Array, "B A"] | None = None,
) -> array_tree.SearchTree:
  """Grows one tree from each root.

  Args:
    params: handed to `recurrent_fn`.
    key: consumed.
    root: the model's view of the roots.
    recurrent_fn: the model; see `RecurrentFn`. Called once a simulation.
    root_select: picks an action at the root.
    interior_select: picks an action anywhere else.
    num_simulations: nodes to add, at least 1.
    max_depth: most edges from root to leaf; a walk that gets there evaluates
      the leaf anew. No limit if None.
    invalid_actions: true (or not 0) where the root does not allow an action.

  Returns:
    The grown trees.

  Raises:
    ValueError: if a number is below 1 or a shape does not fit.
  """
  max_depth = num_simulations if max_depth is None else max_depth
  invalid_actions = _check(root, num_simulations, max_depth, invalid_actions)
  tree = _plant(root, num_simulations, invalid_actions)

  def simulate(simulation, carry):
    key, tree = carry
    key, walk_key, model_key = jax.random.split(key, 3)
    keys = jax.random.split(walk_key, tree.node_visits.shape[0])
    parent, action = descend(
      tree, keys, root_select, interior_select, max_depth
    )
    tree, leaf = _expand(
      tree, params, model_key, recurrent_fn, parent, action, simulation + 1
    )
    return key, _back_up(tree, leaf)

  _, tree = jax.lax.fori_loop(0, num_simulations, simulate, (key, tree))
  return tree


def _check(root, num_simulations, max_depth, invalid_actions):
  """Refuses what does not fit; returns the mask of invalid actions."""
  if num_simulations < 1 or max_depth < 1:
    raise ValueError(
      "tree_search: num_simulations and max_depth must be at least 1, got "
      f"{num_simulations} and {max_depth}"
    )
  shape = root.prior_logits.shape
  if len(shape) != 2 or root.value.shape != shape[:1]:
    raise ValueError(
      "tree_search: root.prior_logits must be [B, A] and root.value [B], got "
      f"{list(shape)} and {list(root.value.shape)}"
    )
  if invalid_actions is None:
    return jnp.zeros(shape, bool)
  if invalid_actions.shape != shape:
    raise ValueError(
      f"tree_search: invalid_actions must be {list(shape)} like "
      f"root.prior_logits, got {list(invalid_actions.shape)}"
    )
  return invalid_actions.astype(bool)


def _plant(root, num_simulations, invalid_actions) -> array_tree.SearchTree:
  """Trees that hold only their root."""
  batch, actions = root.prior_logits.shape
  nodes = (batch, num_simulations + 1)
  zeros = jnp.zeros(nodes, root.value.dtype)
  none = jnp.full(nodes, array_tree.NO_PARENT, jnp.int32)

  def stored(array):
    store = jnp.zeros(nodes + array.shape[1:], array.dtype)
    return store.at[:, 0].set(array)

  return array_tree.SearchTree(
    node_visits=jnp.zeros(nodes, jnp.int32).at[:, 0].set(1),
    raw_values=stored(root.value),
    node_values=stored(root.value),
    node_rewards=zeros,
    node_discounts=zeros,
    parents=none,
    action_from_parent=none,
    children_index=jnp.full((*nodes, actions), array_tree.UNVISITED, jnp.int32),
    children_prior_logits=stored(root.prior_logits),
    embeddings=jax.tree.map(stored, root.embedding),
    root_invalid_actions=invalid_actions,
  )


def descend(
  tree: array_tree.SearchTree,
  keys: jax.Array,
  root_select: SelectFn,
  interior_select: SelectFn,
  max_depth: int,
) -> tuple[Int[Array, " B"], Int[Array, " B"]]:
  """Walks down each tree to an action never taken, or to `max_depth`.

  Args:
    tree: the trees.
    keys: a key for each tree.
    root_select: picks an action at the root.
    interior_select: picks an action anywhere else.
    max_depth: most edges to walk.

  Returns:
    (node, action), both i32[B]: where each walk ended, and its last choice.
  """
  rows = jnp.arange(tree.node_visits.shape[0])

  def step(select, keys, node):
    split = jax.vmap(jax.random.split)(keys)
    action = select(split[:, 1], array_tree.view(tree, node))
    return split[:, 0], action, tree.children_index[rows, node, action]

  def body(carry):
    keys, node, action, behind, active, depth = carry
    node = jnp.where(active, behind, node)
    keys, chosen, behind = step(interior_select, keys, node)
    action = jnp.where(active, chosen, action)
    depth = depth + 1
    active &= (behind != array_tree.UNVISITED) & (depth < max_depth)
    return keys, node, action, behind, active, depth

  node = jnp.zeros_like(rows, jnp.int32)
  keys, action, behind = step(root_select, keys, node)
  active = (behind != array_tree.UNVISITED) & (max_depth > 1)
  carry = (keys, node, action, behind, active, jnp.int32(1))
  _, node, action, *_ = jax.lax.while_loop(lambda c: c[4].any(), body, carry)
  return node, action


def _expand(tree, params, key, recurrent_fn, parent, action, fresh):
  """Evaluates the chosen actions and files what is behind them."""
  batch, _, actions = tree.children_index.shape
  rows = jnp.arange(batch)
  behind = tree.children_index[rows, parent, action]
  # At the depth limit a walk ends on a node that is there already.
  leaf = jnp.where(behind == array_tree.UNVISITED, fresh, behind)
  embedding = jax.tree.map(
    lambda x: array_tree.gather(x, rows, parent), tree.embeddings
  )
  step, embedding = recurrent_fn(params, key, action, embedding)
  chex.assert_shape(step.prior_logits, (batch, actions))
  chex.assert_shape([step.reward, step.discount, step.value], (batch,))

  def put(array, values):
    return array_tree.scatter(array, rows, leaf, values)

  visits = array_tree.gather(tree.node_visits, rows, leaf)
  return tree.replace(
    node_visits=put(tree.node_visits, visits + 1),
    raw_values=put(tree.raw_values, step.value),
    node_values=put(tree.node_values, step.value),
    node_rewards=put(tree.node_rewards, step.reward),
    node_discounts=put(tree.node_discounts, step.discount),
    parents=put(tree.parents, parent),
    action_from_parent=put(tree.action_from_parent, action),
    children_index=tree.children_index.at[rows, parent, action].set(
      leaf, unique_indices=True, indices_are_sorted=True
    ),
    children_prior_logits=put(tree.children_prior_logits, step.prior_logits),
    embeddings=jax.tree.map(put, tree.embeddings, embedding),
  ), leaf


def _back_up(
  tree: array_tree.SearchTree, leaf: Int[Array, " B"]
) -> array_tree.SearchTree:
  """Adds the leaves' values to the means of all nodes above them."""
  batch, capacity = tree.node_visits.shape
  rows = jnp.arange(batch)

  def body(carry):
    node, gain, values, visits = carry
    parent = array_tree.gather(tree.parents, rows, jnp.maximum(node, 0))
    gain = (
      array_tree.gather(tree.node_rewards, rows, node)
      + array_tree.gather(tree.node_discounts, rows, node) * gain
    )
    # The root has no parent: rows that got there write off the end.
    slot = jnp.where(parent == array_tree.NO_PARENT, capacity, parent)
    parent = jnp.maximum(parent, 0)
    count = array_tree.gather(visits, rows, parent)
    mean = (array_tree.gather(values, rows, parent) * count + gain) / (
      count + 1.0
    )
    values = array_tree.scatter(values, rows, slot, mean)
    visits = array_tree.scatter(visits, rows, slot, count + 1)
    return parent, gain, values, visits

  gain = array_tree.gather(tree.node_values, rows, leaf)
  _, _, values, visits = jax.lax.while_loop(
    lambda carry: (carry[0] != 0).any(),
    body,
    (leaf, gain, tree.node_values, tree.node_visits),
  )
  return tree.replace(node_values=values, node_visits=visits)


def puct_policy(
  params: Params,
  key: jax.Array,
  root: RootOutput,
  recurrent_fn: RecurrentFn,
  num_simulations: int,
  invalid_actions: Shaped[Array, "B A"] | None = None,
  max_depth: int | None = None,
  *,
  qtransform: tree_policies.QTransform = tree_policies.q_by_parent_and_siblings,
  dirichlet_fraction: float = 0.25,
  dirichlet_alpha: float = 0.3,
  pb_c_init: float = 1.25,
  pb_c_base: float = 19652.0,
  temperature: float = 1.0,
) -> PolicyOutput:
  """Searches by PUCT and samples an action by visits^(1 / temperature).

  Silver et al. (2017); Schrittwieser et al. (2020), appendix B.

  Args:
    params: handed to `recurrent_fn`.
    key: consumed.
    root: the model's view of the roots.
    recurrent_fn: the model; see `RecurrentFn`.
    num_simulations: simulations a root, at least 1.
    invalid_actions: true (or not 0) where the root does not allow an action.
    max_depth: most edges from root to leaf; no limit if None.
    qtransform: brings Q to [0, 1].
    dirichlet_fraction: share of noise in the root's prior, in [0, 1].
    dirichlet_alpha: concentration of that noise.
    pb_c_init: weight of exploration.
    pb_c_base: visits at which that weight starts to grow.
    temperature: of the final choice; 0 takes the most visited action.

  Returns:
    Action, visit frequencies, and the trees.

  Raises:
    ValueError: see `search`.
  """
  key, noise_key, search_key = jax.random.split(key, 3)
  alpha = jnp.full((root.prior_logits.shape[-1],), dirichlet_alpha)
  noise = jax.random.dirichlet(noise_key, alpha, root.prior_logits.shape[:1])
  prior = jax.nn.softmax(root.prior_logits)
  prior = (1 - dirichlet_fraction) * prior + dirichlet_fraction * noise
  root = RootOutput(
    prior_logits=_forbid(_log(prior), invalid_actions),
    value=root.value,
    embedding=root.embedding,
  )

  def select(keys, node, invalid):
    score = tree_policies.puct_score(
      node, pb_c_init=pb_c_init, pb_c_base=pb_c_base, qtransform=qtransform
    )
    # Breaks ties at random, and nothing else.
    jitter = jax.vmap(lambda k: jax.random.uniform(k, score.shape[1:]))(keys)
    return tree_policies.masked_argmax(score + 1e-7 * jitter, invalid)

  nowhere = jnp.zeros(root.prior_logits.shape, bool)
  forbidden = nowhere if invalid_actions is None else invalid_actions
  tree = search(
    params,
    search_key,
    root=root,
    recurrent_fn=recurrent_fn,
    root_select=functools.partial(select, invalid=forbidden.astype(bool)),
    interior_select=functools.partial(select, invalid=nowhere),
    num_simulations=num_simulations,
    max_depth=max_depth,
    invalid_actions=invalid_actions,
  )
  visits = _root_view(tree).child_visits.astype(root.value.dtype)
  weights = visits / visits.sum(axis=-1, keepdims=True)
  logits = _log(weights)
  logits = logits - logits.max(axis=-1, keepdims=True)
  logits = logits / jnp.maximum(jnp.finfo(logits.dtype).tiny, temperature)
  action = jax.random.categorical(key, logits).astype(jnp.int32)
  return PolicyOutput(action, weights, tree)


def gumbel_policy(
  params: Params,
  key: jax.Array,
  root: RootOutput,
  recurrent_fn: RecurrentFn,
  num_simulations: int,
  invalid_actions: Shaped[Array, "B A"] | None = None,
  max_depth: int | None = None,
  *,
  qtransform: tree_policies.QTransform = (
    tree_policies.q_completed_by_mixed_value
  ),
  max_num_considered_actions: int = 16,
  gumbel_scale: float = 1.0,
) -> PolicyOutput:
  """Searches by sequential halving with Gumbel noise, and takes the winner.

  Danihelka et al. (2022): full Gumbel MuZero.

  Args:
    params: handed to `recurrent_fn`.
    key: consumed.
    root: the model's view of the roots.
    recurrent_fn: the model; see `RecurrentFn`.
    num_simulations: simulations a root, at least 1.
    invalid_actions: true (or not 0) where the root does not allow an action.
    max_depth: most edges from root to leaf; no limit if None.
    qtransform: sigma(completed Q).
    max_num_considered_actions: actions that the halving starts with; fewer
      where fewer are valid.
    gumbel_scale: scale of the noise; 0 makes the search deterministic.

  Returns:
    Action, improved policy softmax(logits + sigma(Q)), and the trees.

  Raises:
    ValueError: see `search`; or if no action is to be considered.
  """
  if max_num_considered_actions < 1:
    raise ValueError(
      "gumbel_policy: max_num_considered_actions must be at least 1, got "
      f"{max_num_considered_actions}"
    )
  root = RootOutput(
    prior_logits=_forbid(root.prior_logits, invalid_actions),
    value=root.value,
    embedding=root.embedding,
  )
  key, noise_key = jax.random.split(key)
  gumbel = gumbel_scale * jax.random.gumbel(
    noise_key, root.prior_logits.shape, root.prior_logits.dtype
  )
  forbidden = jnp.zeros(gumbel.shape, bool)
  if invalid_actions is not None:
    forbidden = invalid_actions.astype(bool)
  table = jnp.asarray(
    tree_policies.halving_table(max_num_considered_actions, num_simulations)
  )
  valid = (~forbidden).sum(axis=-1)
  considered = jnp.minimum(max_num_considered_actions, valid)

  def root_select(keys, node):
    del keys
    turn = table[considered, node.child_visits.sum(axis=-1)]
    score = tree_policies.gumbel_root_score(
      node, gumbel, turn, qtransform=qtransform
    )
    return tree_policies.masked_argmax(score, forbidden)

  def interior_select(keys, node):
    del keys
    score = tree_policies.gumbel_interior_score(node, qtransform=qtransform)
    return jnp.argmax(score, axis=-1).astype(jnp.int32)

  tree = search(
    params,
    key,
    root=root,
    recurrent_fn=recurrent_fn,
    root_select=root_select,
    interior_select=interior_select,
    num_simulations=num_simulations,
    max_depth=max_depth,
    invalid_actions=invalid_actions,
  )
  top = _root_view(tree)
  score = tree_policies.gumbel_root_score(
    top, gumbel, top.child_visits.max(axis=-1), qtransform=qtransform
  )
  action = tree_policies.masked_argmax(score, forbidden)
  improved = _forbid(root.prior_logits + qtransform(top), invalid_actions)
  return PolicyOutput(action, jax.nn.softmax(improved), tree)


def _root_view(tree: array_tree.SearchTree) -> tree_policies.View:
  return array_tree.view(tree, jnp.zeros(tree.node_visits.shape[:1], jnp.int32))


def _forbid(logits, invalid_actions):
  """Takes all probability from invalid actions."""
  if invalid_actions is None:
    return logits
  # Large but finite, so that a softmax with no valid action stays finite.
  logits = logits - logits.max(axis=-1, keepdims=True)
  return jnp.where(
    invalid_actions.astype(bool), jnp.finfo(logits.dtype).min, logits
  )


def _log(probabilities):
  tiny = jnp.finfo(probabilities.dtype).tiny
  return jnp.log(jnp.maximum(probabilities, tiny))
