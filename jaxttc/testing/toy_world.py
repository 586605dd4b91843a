# SPDX-License-Identifier: Apache-2.0
"""A world small enough to enumerate, and drivers that run a decoder in it.

A world is a finite tree of situations: each has at most `C` possible next
steps with known probabilities, and every step has a length and a reward. So
whatever a decoder estimates can be computed exactly, by walking all paths.

`run` is a plain loop on the host, `simulate` the same search in one compiled
program that may be vmapped over keys. Both call `respond`, and give the same
answers for the same keys.
"""

from collections.abc import Iterator
import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib


@flax.struct.dataclass
class World:
  """A finite tree of `M` situations with at most `C` next steps each.

  Attributes:
    child: i32[M, C], situation after each step; -1 for no such step. A
      situation without steps is a whole solution.
    probability: f32[M, C], of each step; 0 where there is none.
    length: i32[M], tokens of the step that leads here; 0 for situation 0.
    reward: f32[M], the verifier's reward, in [0, 1].
    answer: i32[M], answer of a whole solution, -1 for none.
    broken: bool[M], steps that lead here run over their limit: they are paid
      for, but unusable.
    depth: the most steps a path has. Static.
  """

  child: Int[Array, "M C"]
  probability: Float[Array, "M C"]
  length: Int[Array, " M"]
  reward: Float[Array, " M"]
  answer: Int[Array, " M"]
  broken: Bool[Array, " M"]
  depth: int = flax.struct.field(pytree_node=False)

  @property
  def whole(self) -> Bool[Array, " M"]:
    """Which situations are whole solutions."""
    return self.child[:, 0] < 0


class Round(NamedTuple):
  """One turn of the host loop, as NumPy arrays."""

  expansion: base_lib.Expansion
  outcome: base_lib.Outcome


class Run(NamedTuple):
  """What a search did.

  Attributes:
    answer: the decoder's `Answer`.
    state: the decoder's last state.
    situation: i32[N], the situation of each node; -1 for empty slots.
    spent: tokens paid for.
    rounds: the turns, one after the other.
  """

  answer: base_lib.Answer
  state: base_lib.State
  situation: np.ndarray
  spent: int
  rounds: list[Round]


def random_world(
  seed: int,
  *,
  depth: int = 4,
  branching: int = 3,
  answers: int = 4,
  stop: float = 0.0,
  broken: float = 0.0,
  max_length: int = 9,
  levels: int | None = None,
) -> World:
  """A world of random probabilities, lengths, rewards and answers.

  Args:
    seed: of NumPy's generator.
    depth: steps of the longest path.
    branching: steps from every situation that is no whole solution.
    answers: answer classes.
    stop: chance that a situation ends before `depth`.
    broken: chance that a step overruns.
    max_length: tokens of the longest step.
    levels: if given, rewards are multiples of 1 / levels.
  """
  rng = np.random.default_rng(seed)
  child = [[-1] * branching]
  level = [0]
  for node in _growing(child):
    if level[node] == depth or (node and rng.random() < stop):
      continue
    child[node] = list(range(len(child), len(child) + branching))
    child.extend([-1] * branching for _ in range(branching))
    level.extend([level[node] + 1] * branching)
  count = len(child)
  reward = rng.random(count)
  if levels is not None:
    reward = np.round(reward * levels) / levels
  chances = rng.dirichlet(np.ones(branching), size=count)
  whole = np.asarray(child)[:, 0] < 0
  overruns = (rng.random(count) < broken) & (np.arange(count) > 0)
  length = rng.integers(1, max_length + 1, size=count)
  length[0] = 0
  return World(
    child=jnp.asarray(child, jnp.int32),
    probability=jnp.asarray(
      np.where(whole[:, None], 0.0, chances), jnp.float32
    ),
    length=jnp.asarray(length, jnp.int32),
    reward=jnp.asarray(reward, jnp.float32),
    answer=jnp.asarray(
      np.where(whole, rng.integers(0, answers, size=count), -1), jnp.int32
    ),
    broken=jnp.asarray(overruns),
    depth=depth,
  )


def _growing(items: list) -> Iterator[int]:
  """Indices of a list that may grow while it is walked."""
  index = 0
  while index < len(items):
    yield index
    index += 1


def paths(world: World) -> list[tuple[list[int], float]]:
  """All whole solutions: their situations below the root, and probability."""
  child = np.asarray(world.child)
  probability = np.asarray(world.probability)
  found: list[tuple[list[int], float]] = []

  def walk(node: int, path: list[int], likelihood: float) -> None:
    if child[node, 0] < 0:
      found.append((path, likelihood))
      return
    for step, after in enumerate(child[node]):
      if after >= 0:
        chance = float(probability[node, step])
        walk(int(after), [*path, int(after)], likelihood * chance)

  walk(0, [], 1.0)
  return found


class _Walk(NamedTuple):
  """Where children have got to: arrays of any one shape."""

  situation: Array
  length: Array
  logprob: Array
  usable: Array


def _step(world: World, walk: _Walk, column: Array, moving: Array) -> _Walk:
  after = world.child[walk.situation, column]
  moving = moving & walk.usable & ~world.whole[walk.situation]
  chance = world.probability[walk.situation, column]
  gone = _Walk(
    situation=after,
    length=walk.length + world.length[after],
    logprob=walk.logprob + jnp.log(chance),
    usable=walk.usable & ~world.broken[after],
  )
  return jax.tree.map(lambda a, b: jnp.where(moving, a, b), gone, walk)


def respond(
  world: World,
  situation: Int[Array, " N"],
  expansion: base_lib.Expansion,
  children: int,
  key: jax.Array,
  *,
  enumerate_children: bool = False,
) -> tuple[base_lib.Outcome, Int[Array, "A K"]]:
  """Plays engine and verifier.

  Args:
    world: the world.
    situation: of each node of the decoder's tree.
    expansion: what was paid for.
    children: columns `K` of the outcome.
    key: consumed.
    enumerate_children: the k-th child of a row is the k-th step of its node,
      instead of a sampled one.

  Returns:
    The outcome, and the situations of the children.
  """
  rows = expansion.node.shape[0]
  shape = (rows, children)
  start = jnp.broadcast_to(situation[expansion.node][:, None], shape)
  number = jnp.broadcast_to(jnp.arange(children), shape)
  asked = number < expansion.children[:, None]
  to_end = (expansion.until == base_lib.Until.END)[:, None]
  walk = _Walk(
    situation=start,
    length=jnp.zeros(shape, jnp.int32),
    logprob=jnp.zeros(shape, jnp.float32),
    usable=asked,
  )

  def turn(walk, drawn):
    index, u = drawn
    ends = jnp.cumsum(world.probability[walk.situation], axis=-1)
    column = (u[..., None] * ends[..., -1:] >= ends).sum(-1)
    column = jnp.minimum(column, world.child.shape[1] - 1)
    first = index == 0
    if enumerate_children:
      column = jnp.where(first, number, column)
    return _step(world, walk, column, first | to_end), None

  u = jax.random.uniform(key, (world.depth, *shape))
  walk, _ = jax.lax.scan(turn, walk, (jnp.arange(world.depth), u))
  finished = walk.usable & world.whole[walk.situation]
  return base_lib.Outcome(
    valid=walk.usable & (walk.length > 0),
    finished=finished & (walk.length > 0),
    length=walk.length,
    reward=world.reward[walk.situation],
    logprob=walk.logprob,
    answer=jnp.where(finished, world.answer[walk.situation], -1),
  ), walk.situation


def fund(
  world: World, expansion: base_lib.Expansion, left: Int[Array, ""]
) -> base_lib.Expansion:
  """Shortens an expansion to what `left` tokens pay for at worst.

  A step reserves the world's longest step, a child until the end that many
  tokens times the depth. Rows are served in order.
  """
  longest = world.length.max()
  to_end = expansion.until == base_lib.Until.END
  price = jnp.where(to_end, longest * world.depth, longest)

  def serve(left, row):
    wanted, price = row
    given = jnp.minimum(wanted, left // price)
    return left - given * price, given

  _, given = jax.lax.scan(serve, left, (expansion.children, price))
  return expansion.replace(children=given)


def jitted(decoder: base_lib.Decoder) -> base_lib.Decoder:
  """The decoder with its four functions compiled."""
  return decoder._replace(
    init=jax.jit(decoder.init),
    ask=jax.jit(decoder.ask),
    tell=jax.jit(decoder.tell),
    answer=jax.jit(decoder.answer),
  )


_respond = jax.jit(respond, static_argnames=("children", "enumerate_children"))
_fund = jax.jit(fund)


def root_of(world: World) -> base_lib.Root:
  """The root that a decoder starts from in this world."""
  return base_lib.Root(prompt_length=jnp.int32(1), reward=world.reward[0])


def place(
  situation: Int[Array, " N"],
  used: Int[Array, ""],
  valid: Bool[Array, "A K"],
  after: Int[Array, "A K"],
) -> Int[Array, " N"]:
  """Files the children's situations under the ids that the tree gives them."""
  ids = tree_lib.child_ids(used, valid)
  return tree_lib.put(situation, ids, after)


def _keys(key: jax.Array, turn: Array | int) -> tuple[jax.Array, jax.Array]:
  ask_key, engine_key = jax.random.split(jax.random.fold_in(key, turn))
  return ask_key, engine_key


def run(
  decoder: base_lib.Decoder,
  world: World,
  key: jax.Array,
  *,
  tokens: int | None = None,
  enumerate_children: bool = False,
  max_rounds: int = 1000,
  resume: Run | None = None,
) -> Run:
  """Runs a search to its end, one turn at a time.

  Args:
    decoder: compiled by `jitted`, or not.
    world: the world.
    key: turn t uses `fold_in(key, t)`.
    tokens: budget of generated tokens; unlimited if None.
    enumerate_children: see `respond`.
    max_rounds: turns after which to stop, those of `resume` included.
    resume: an unfinished run of the same search, to go on from.

  Returns:
    The `Run`.
  """
  if resume is None:
    budget = budget_lib.Budget(generated_tokens=tokens)
    state = decoder.init(root_of(world), budget)
    where = np.full((decoder.shape.nodes,), -1, np.int32)
    where[0] = 0
    spent, rounds = 0, []
  else:
    state, where = resume.state, resume.situation
    spent, rounds = resume.spent, list(resume.rounds)
  while len(rounds) < max_rounds:
    ask_key, engine_key = _keys(key, len(rounds))
    expansion = decoder.ask(state, ask_key)
    if tokens is not None:
      expansion = _fund(world, expansion, jnp.int32(tokens - spent))
    if not np.asarray(expansion.children).any():
      break
    outcome, after = _respond(
      world,
      jnp.asarray(where),
      expansion,
      decoder.shape.children,
      engine_key,
      enumerate_children=enumerate_children,
    )
    where = np.asarray(
      place(jnp.asarray(where), state.tree.used, outcome.valid, after)
    )
    state = decoder.tell(state, expansion, outcome)
    spent += int(outcome.length.sum())
    rounds.append(jax.tree.map(np.asarray, Round(expansion, outcome)))
  return Run(decoder.answer(state), state, where, spent, rounds)


class Simulation(NamedTuple):
  """What a compiled search did: the like-named fields of `Run`."""

  answer: base_lib.Answer
  state: base_lib.State
  situation: Int[Array, " N"]
  spent: Int[Array, ""]


@functools.partial(
  jax.jit, static_argnames=("decoder", "enumerate_children", "max_rounds")
)
def simulate(
  decoder: base_lib.Decoder,
  world: World,
  key: jax.Array,
  tokens: Int[Array, ""] | int = 1_000_000_000,
  *,
  enumerate_children: bool = False,
  max_rounds: int = 1000,
) -> Simulation:
  """`run` as one compiled program; vmap it over keys, worlds or budgets.

  Args:
    decoder: not compiled. Make it once: each new one compiles anew.
    world: the world.
    key: turn t uses `fold_in(key, t)`.
    tokens: budget of generated tokens.
    enumerate_children: see `respond`.
    max_rounds: turns after which to stop.

  Returns:
    The `Simulation`.
  """
  tokens = jnp.asarray(tokens, jnp.int32)

  def going(carry):
    _, _, _, turn, more = carry
    return more & (turn < max_rounds)

  def take_turn(carry):
    state, where, spent, turn, _ = carry
    ask_key, engine_key = _keys(key, turn)
    expansion = fund(world, decoder.ask(state, ask_key), tokens - spent)
    more = (expansion.children > 0).any()
    outcome, after = respond(
      world,
      where,
      expansion,
      decoder.shape.children,
      engine_key,
      enumerate_children=enumerate_children,
    )
    where = place(where, state.tree.used, outcome.valid, after)
    told = decoder.tell(state, expansion, outcome)
    state = jax.tree.map(lambda a, b: jnp.where(more, a, b), told, state)
    spent += outcome.length.sum(dtype=jnp.int32)
    return state, where, spent, turn + 1, more

  state = decoder.init(
    root_of(world), budget_lib.Budget(generated_tokens=tokens)
  )
  where = jnp.full((decoder.shape.nodes,), -1, jnp.int32).at[0].set(0)
  state, where, spent, _, _ = jax.lax.while_loop(
    going,
    take_turn,
    (state, where, jnp.int32(0), jnp.int32(0), jnp.bool_(True)),
  )
  return Simulation(decoder.answer(state), state, where, spent)
