# SPDX-License-Identifier: Apache-2.0
"""Particle filtering: sequential Monte Carlo over steps.

Puri et al., "Rollout roulette: a probabilistic inference approach to
inference-time scaling of LLMs using particle-based Monte Carlo methods"
(2025). A population of prefixes grows step by step; after each step, prefixes
are drawn anew in proportion to a weight w(r) made from the verifier's reward r
of the prefix.

The target has to be named. With p the sampler and s_1..s_T the steps,

    target="product"   p(s_1..s_T) prod_t w(r_t)
    target="last"      p(s_1..s_T) w(r_T)

The first weighs each step by w(r_t), as the paper's code does; the second
needs the increment w(r_t) / w(r_{t-1}). A finished solution takes no more
steps, so its later increments are 1. (The paper's code weighs it by its last
reward again every round, which favours short solutions:
`resample_finished=True`.)

The population after resampling is what `ask` names, row by row. `tell` reads
it there, so no random choice is made twice.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import resampling as resampling_lib
from jaxttc.decoders import tree as tree_lib

TARGETS = ("product", "last")
WEIGHTS = ("odds", "reward")
SELECTIONS = ("best", "vote")

# Rewards are kept this far from 0 and 1, where log-odds are infinite.
_CLIP = 1e-7


@flax.struct.dataclass
class ParticleState:
  """The population.

  Attributes:
    tree: all prefixes sampled so far.
    particle: i32[P], node of each particle.
    log_weight: f32[P], log weight since the last resampling; -inf if dead.
    ancestor: i32[P], node from which each particle took its last step.
    log_z: f32[], log of the estimate of the target's normaliser Z up to the
      last resampling; `log_normaliser` adds the weights since.
  """

  tree: tree_lib.Tree
  particle: Int[Array, " P"]
  log_weight: Float[Array, " P"]
  ancestor: Int[Array, " P"]
  log_z: Float[Array, ""]


def log_weight(
  reward: Float[Array, "*S"], weight: str, temperature: float = 1.0
) -> Float[Array, "*S"]:
  """log w(r): log-odds or log of the reward, over the temperature."""
  reward = jnp.clip(reward, _CLIP, 1.0 - _CLIP)
  log_odds = jnp.log(reward) - jnp.log1p(-reward)
  chosen = log_odds if weight == "odds" else jnp.log(reward)
  return chosen / temperature


def log_mean(log_weights: Float[Array, " P"]) -> Float[Array, ""]:
  """log of the mean weight; -inf if all are dead."""
  return jax.nn.logsumexp(log_weights) - jnp.log(log_weights.shape[0])


def normalise(log_weights: Float[Array, " P"]) -> Float[Array, " P"]:
  """Weights that sum to 1; zeros if all are dead."""
  peak = jnp.maximum(log_weights.max(), jnp.finfo(jnp.float32).min)
  weight = jnp.exp(log_weights - peak)
  return weight / jnp.maximum(weight.sum(), 1.0)


def effective_size(log_weights: Float[Array, " P"]) -> Float[Array, ""]:
  """(sum w)^2 / sum w^2, between 1 and P; 0 if all are dead."""
  weight = normalise(log_weights)
  square = (weight**2).sum()
  return jnp.where(square > 0, 1.0 / jnp.maximum(square, 1e-30), 0.0)


def log_normaliser(state: ParticleState) -> Float[Array, ""]:
  """log of an unbiased estimate of Z = sum over solutions of the target."""
  return state.log_z + log_mean(state.log_weight)


def unfinished(
  tree: tree_lib.Tree,
  particle: Int[Array, " P"],
  log_weights: Float[Array, " P"],
) -> Bool[Array, " P"]:
  """Which particles are alive and may take another step."""
  return ~tree.finished[particle] & (log_weights > -jnp.inf)


def choose(
  tree: tree_lib.Tree, weight: Float[Array, " N"], select: str
) -> base_lib.Answer:
  """Answers from a population, given the weight of each node in it.

  Args:
    tree: the prefixes.
    weight: f32[N], weight of each finished node; 0 for what has none.
    select: `best`, the largest reward in the population, or a `vote`. If no
      finished node has weight, all finished nodes are the population.
  """
  if select == "vote":
    return base_lib.vote_finished(tree, weight)
  score = jnp.where(weight > 0, tree.reward, tree.reward - 2.0)
  best, _ = base_lib.best_finished(tree, score)
  return best.replace(weight=weight)


def particle_filter(
  *,
  particles: int = 8,
  target: str = "product",
  weight: str = "odds",
  temperature: float = 1.0,
  resampling: str = "multinomial",
  ess_threshold: float = 1.0,
  resample_finished: bool = False,
  max_steps: int = 40,
  select: str = "best",
) -> base_lib.Decoder:
  """A particle filter of `particles` prefixes; see the module docstring.

  A particle whose step comes back unusable dies. One whose step was not paid
  for waits.

  Args:
    particles: P, prefixes carried along.
    target: `product` or `last`.
    weight: w(r): `odds`, r / (1 - r), or the `reward` itself.
    temperature: w is raised to 1 / temperature.
    resampling: `multinomial`, `systematic`, `stratified` or `residual`.
    ess_threshold: resample when the effective size is below this share of P;
      1 resamples every round, 0 never.
    resample_finished: weigh finished particles by their last w every round;
      only with target `product`.
    max_steps: longest path in steps; the last step runs to the end.
    select: `best` reward in the population, or a `vote` by weight.

  Returns:
    A decoder of P rows of one child. Its answer's weights are those of the
    finished particles. `log_normaliser(state)` estimates log Z.

  Raises:
    ValueError: for a size below 1, a temperature not above 0, a threshold
      outside [0, 1], an unknown choice, or `resample_finished` with `last`.
  """
  name = "particle_filter"
  base_lib.require_positive(name, particles=particles, max_steps=max_steps)
  schemes = tuple(resampling_lib.SCHEMES)
  base_lib.require_choice(name, "target", target, TARGETS)
  base_lib.require_choice(name, "weight", weight, WEIGHTS)
  base_lib.require_choice(name, "resampling", resampling, schemes)
  base_lib.require_choice(name, "select", select, SELECTIONS)
  if not temperature > 0:
    raise ValueError(f"{name}: temperature must be > 0, got {temperature}")
  if not 0 <= ess_threshold <= 1:
    raise ValueError(
      f"{name}: ess_threshold must be in [0, 1], got {ess_threshold}"
    )
  if resample_finished and target != "product":
    raise ValueError(f"{name}: resample_finished needs target='product'")
  shape = base_lib.SearchShape(
    nodes=1 + particles * max_steps, asks=particles, children=1
  )

  def weigh(reward: Array) -> Array:
    return log_weight(reward, weight, temperature)

  def increment(tree: tree_lib.Tree, after: Array, before: Array) -> Array:
    gain = weigh(tree.reward[after])
    if target == "last":
      gain -= jnp.where(before > 0, weigh(tree.reward[before]), 0.0)
    return gain

  def init(root: base_lib.Root, budget: budget_lib.Budget) -> ParticleState:
    del budget
    return ParticleState(
      tree=tree_lib.init(shape.nodes, root.reward),
      particle=jnp.zeros((particles,), jnp.int32),
      log_weight=jnp.zeros((particles,), jnp.float32),
      ancestor=jnp.zeros((particles,), jnp.int32),
      log_z=jnp.float32(0.0),
    )

  def resamples(state: ParticleState) -> Array:
    if ess_threshold in (0, 1):
      return jnp.asarray(ess_threshold == 1)
    return effective_size(state.log_weight) < ess_threshold * particles

  def ask(state: ParticleState, key: jax.Array) -> base_lib.Expansion:
    drawn = resampling_lib.SCHEMES[resampling](key, normalise(state.log_weight))
    kept = jnp.arange(particles)
    index = jnp.where(resamples(state), drawn, kept)
    more = unfinished(state.tree, state.particle, state.log_weight)
    node = state.particle[index]
    return base_lib.Expansion(
      node=node,
      children=base_lib.room(state.tree, more[index].astype(jnp.int32)),
      until=base_lib.reach(state.tree, node, max_steps),
    )

  def tell(
    state: ParticleState,
    expansion: base_lib.Expansion,
    outcome: base_lib.Outcome,
  ) -> ParticleState:
    tree, ids = base_lib.append(state.tree, expansion, outcome)
    before, valid = expansion.node, outcome.valid[:, 0]
    after = jnp.where(valid, ids[:, 0], before)
    drawn = resamples(state)
    weights = jnp.where(drawn, 0.0, state.log_weight)
    gain = jnp.where(valid, increment(tree, after, before), 0.0)
    if resample_finished:
      again = state.tree.finished[before]
      gain = jnp.where(again, weigh(tree.reward[before]), gain)
    died = (outcome.length[:, 0] > 0) & ~valid
    weights = jnp.where(died, -jnp.inf, weights + gain)
    log_z = jnp.where(drawn, log_normaliser(state), state.log_z)
    # When nothing was paid for, the population stays as it was.
    told = (outcome.length > 0).any()
    return ParticleState(
      tree=tree,
      particle=jnp.where(told, after, state.particle),
      log_weight=jnp.where(told, weights, state.log_weight),
      ancestor=jnp.where(told, before, state.ancestor),
      log_z=jnp.where(told, log_z, state.log_z),
    )

  def answer(state: ParticleState) -> base_lib.Answer:
    return choose(state.tree, mass(state), select)

  return base_lib.Decoder(
    init,
    ask,
    tell,
    answer,
    shape,
    revisits=True,  # a particle that was not paid for waits at its parent
    votes=select == "vote",
  )


def mass(state: ParticleState) -> Float[Array, " N"]:
  """Share of the population's weight that each finished node holds."""
  return finished_mass(state.tree, state.particle, state.log_weight)


def finished_mass(
  tree: tree_lib.Tree,
  particle: Int[Array, " P"],
  log_weights: Float[Array, " P"],
) -> Float[Array, " N"]:
  """Weights of the finished particles, summed by node, as shares of all."""
  done = jnp.where(tree.finished[particle], log_weights, -jnp.inf)
  share = normalise(done)
  return jnp.zeros_like(tree.reward).at[particle].add(share)
