# SPDX-License-Identifier: Apache-2.0
"""Particle Gibbs: particle filters in a row, each told of the last one's pick.

Andrieu, Doucet and Holenstein, "Particle Markov chain Monte Carlo methods"
(2010); for language models, Puri et al. (2025). The first iteration is a
particle filter. At its end one solution is picked by weight: the reference.
Every later iteration is a conditional filter in which row 0 walks along the
reference: it may be forked, never replaced. The picks are a Markov chain whose
stationary law is p(s_1..s_T) prod_t w(r_t), for any number of particles.

Resampling is multinomial, before every step but two kinds: the first, and
those taken when no more than one particle is unfinished. (The rule does not
look at which row is the reference, as the proof demands.) So when all but the
reference have finished, the rest of its path needs no sampling: the iteration
ends, and the next begins in the same `ask`.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import particle as particle_lib
from jaxttc.decoders import resampling as resampling_lib
from jaxttc.decoders import tree as tree_lib


@flax.struct.dataclass
class GibbsState:
  """One iteration's population, and the chain of picks.

  Attributes:
    tree: all prefixes sampled so far.
    particle: i32[P], node of each particle; row 0 walks the reference.
    log_weight: f32[P], log weight since the last resampling; -inf if dead.
    path: i32[T], nodes of the reference at depth 1, 2, ..; -1 past its end.
    reference: i32[], the last pick; -1 for none.
    step: i32[], steps told in this iteration.
    iteration: i32[], iterations ended.
    picks: f32[N], how often each node was picked.
  """

  tree: tree_lib.Tree
  particle: Int[Array, " P"]
  log_weight: Float[Array, " P"]
  path: Int[Array, " T"]
  reference: Int[Array, ""]
  step: Int[Array, ""]
  iteration: Int[Array, ""]
  picks: Float[Array, " N"]


def particle_gibbs(
  *,
  particles: int = 8,
  iterations: int = 4,
  weight: str = "odds",
  temperature: float = 1.0,
  max_steps: int = 40,
  select: str = "best",
) -> base_lib.Decoder:
  """Particle Gibbs; see the module docstring.

  A particle whose step is unusable, or is not paid for while others' are,
  dies.

  Args:
    particles: P, the reference included; at least 2.
    iterations: particle filters in a row.
    weight: w(r): `odds`, r / (1 - r), or the `reward` itself.
    temperature: w is raised to 1 / temperature.
    max_steps: longest path in steps; the last step runs to the end.
    select: `best` reward, or a `vote`, over the picks and the last population.

  Returns:
    A decoder of P rows of one child. Its answer's weights count the picks,
    and divide one more among the last population's finished particles.

  Raises:
    ValueError: for a size too small, a temperature not above 0, or an unknown
      choice.
  """
  name = "particle_gibbs"
  base_lib.require_positive(name, iterations=iterations, max_steps=max_steps)
  base_lib.require_choice(name, "weight", weight, particle_lib.WEIGHTS)
  base_lib.require_choice(name, "select", select, particle_lib.SELECTIONS)
  if particles < 2:
    raise ValueError(f"{name}: particles must be at least 2, got {particles}")
  if not temperature > 0:
    raise ValueError(f"{name}: temperature must be > 0, got {temperature}")
  shape = base_lib.SearchShape(
    nodes=1 + particles * max_steps * iterations, asks=particles, children=1
  )

  def weigh(reward: Array) -> Array:
    return particle_lib.log_weight(reward, weight, temperature)

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> GibbsState:
    del budget
    return GibbsState(
      tree=tree_lib.init(shape.nodes, root.reward),
      particle=jnp.zeros((particles,), jnp.int32),
      log_weight=jnp.zeros((particles,), jnp.float32),
      path=jnp.full((max_steps,), -1, jnp.int32),
      reference=jnp.int32(-1),
      step=jnp.int32(0),
      iteration=jnp.int32(0),
      picks=jnp.zeros((shape.nodes,), jnp.float32),
    )

  def ask(state: GibbsState, key: jax.Array) -> base_lib.Expansion:
    draw_key, pick_key = jax.random.split(key)
    index, weights = _resample(state, draw_key)
    node = state.particle[index]
    more = particle_lib.unfinished(state.tree, node, weights)
    more &= ~_reference_row(state.reference, particles)
    # Nobody is left to extend: pick a reference and start again at the root.
    again = ~more.any()
    ends, weights = _finish_reference(state, node, weights, weigh)
    picked = ends[jax.random.categorical(pick_key, weights)]
    alive = (weights > -jnp.inf).any()
    first = jnp.where(alive, picked, 0)
    fresh = jnp.zeros_like(node).at[0].set(first)
    fresh_more = jnp.ones_like(more).at[0].set(~alive)
    node = jnp.where(again, fresh, node)
    more = jnp.where(again, fresh_more, more)
    more &= ~again | (state.iteration + 1 < iterations)
    return base_lib.Expansion(
      node=node,
      children=base_lib.room(state.tree, more.astype(jnp.int32)),
      until=base_lib.reach(state.tree, node, max_steps),
    )

  def tell(
    state: GibbsState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> GibbsState:
    tree, ids = base_lib.append(state.tree, expansion, outcome)
    begun = _begin(state, expansion)
    kept = _reference_row(begun.reference, particles)
    valid = outcome.valid[:, 0]
    ahead = begun.path[jnp.minimum(begun.step, max_steps - 1)]
    after = jnp.where(kept, ahead, ids[:, 0])
    moves = valid | (kept & (ahead >= 0) & (begun.step < max_steps))
    particle = jnp.where(moves, after, begun.particle)
    gain = jnp.where(moves, weigh(tree.reward[particle]), 0.0)
    lost = (expansion.children > 0) & ~valid
    weights = jnp.where(lost, -jnp.inf, begun.log_weight + gain)
    grown = begun.replace(
      particle=particle, log_weight=weights, step=begun.step + 1
    )
    # When nothing was paid for, the population stays as it was.
    told = (outcome.length > 0).any()
    kept_or_grown = jax.tree.map(
      lambda new, old: jnp.where(told, new, old),
      grown.replace(tree=None),
      state.replace(tree=None),
    )
    return kept_or_grown.replace(tree=tree)

  def answer(state: GibbsState) -> base_lib.Answer:
    last = particle_lib.finished_mass(
      state.tree, state.particle, state.log_weight
    )
    return particle_lib.choose(state.tree, state.picks + last, select)

  return base_lib.Decoder(
    init,
    ask,
    tell,
    answer,
    shape,
    revisits=True,  # the reference path is forked where it was closed
    votes=select == "vote",
  )


def _reference_row(reference: Array, particles: int) -> Bool[Array, " P"]:
  """Marks row 0 if there is a reference."""
  return (jnp.arange(particles) == 0) & (reference >= 0)


def _resamples(state: GibbsState) -> Bool[Array, ""]:
  more = particle_lib.unfinished(state.tree, state.particle, state.log_weight)
  return (state.step > 0) & (more.sum() > 1)


def _resample(state: GibbsState, key: jax.Array) -> tuple[Array, Array]:
  """Each row's ancestor, and its log weight after the draw."""
  drawn = resampling_lib.multinomial(
    key, particle_lib.normalise(state.log_weight)
  )
  drawn = jnp.where(_reference_row(state.reference, drawn.size), 0, drawn)
  index = jnp.where(_resamples(state), drawn, jnp.arange(drawn.size))
  return index, jnp.where(_resamples(state), 0.0, state.log_weight)


def _finish_reference(
  state: GibbsState,
  node: Array,
  weights: Array,
  weigh: Callable[[Array], Array],
) -> tuple[Array, Array]:
  """Lets the reference row walk to its end, gaining the weights on its way."""
  ahead = (jnp.arange(state.path.size) >= state.step) & (state.path >= 0)
  gain = jnp.where(ahead, weigh(state.tree.reward[state.path]), 0.0).sum()
  has = state.reference >= 0
  node = node.at[0].set(jnp.where(has, state.reference, node[0]))
  return node, weights.at[0].add(jnp.where(has, gain, 0.0))


def _begin(state: GibbsState, expansion: base_lib.Expansion) -> GibbsState:
  """The state in which the asked steps are taken.

  Mid-iteration, that is the resampled population. If the expansion starts at
  the root again, it is a new iteration's, and row 0 names its reference.
  """
  rows = expansion.node.shape[0]
  at_root = (expansion.node == 0) & (expansion.children > 0)
  first = at_root.any()
  weights = jnp.where(_resamples(state) | first, 0.0, state.log_weight)
  next_iteration = first & (state.step > 0)
  leaf = jnp.where(expansion.node[0] > 0, expansion.node[0], -1)
  reference = jnp.where(next_iteration, leaf, state.reference)
  path = _path(state.tree, reference, state.path.size)
  return state.replace(
    particle=jnp.where(first, jnp.zeros((rows,), jnp.int32), expansion.node),
    log_weight=weights,
    path=jnp.where(next_iteration, path, state.path),
    reference=reference,
    step=jnp.where(next_iteration, 0, state.step),
    iteration=state.iteration + next_iteration,
    picks=tree_lib.put(
      state.picks,
      jnp.where(next_iteration, leaf, -1),
      state.picks[leaf] + 1.0,
    ),
  )


def _path(
  tree: tree_lib.Tree, leaf: Int[Array, ""], size: int
) -> Int[Array, " T"]:
  """Nodes between the root and a leaf, by depth - 1; -1 past the leaf."""

  def climb(_, carry):
    path, node = carry
    path = tree_lib.put(
      path, jnp.where(node > 0, tree.depth[node] - 1, -1), node
    )
    return path, jnp.where(node > 0, tree.parent[node], -1)

  path = jnp.full((size,), -1, jnp.int32)
  return jax.lax.fori_loop(0, size, climb, (path, leaf))[0]
