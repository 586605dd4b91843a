# SPDX-License-Identifier: Apache-2.0
"""What holds for every decoder, whatever its strategy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import tree as tree_lib
from jaxttc.testing import toy_world

STRATEGIES = {
  "sample": {},
  "best_of_n": {"n": 5},
  "weighted_best_of_n": {"n": 5},
  "self_consistency": {"n": 6, "stop": "majority", "wave": 2},
  "prm_beam": {"num_survivors": 2, "num_expansions": 3, "max_steps": 3},
  "dvts": {"subtrees": 2, "expansions": 3, "max_steps": 3},
  "likelihood_beam": {"width": 2, "expansions": 3, "max_steps": 3},
  "puct": {"simulations": 6, "children": 2},
  "gumbel_mcts": {"simulations": 6, "children": 2},
  "rebase": {"width": 5, "max_steps": 3},
  "particle_filter": {"particles": 4, "max_steps": 3, "ess_threshold": 0.7},
  "particle_gibbs": {"particles": 3, "iterations": 3, "max_steps": 3},
  "astar": {"children": 3, "nodes": 40, "pops": 2, "reopen_penalty": 0.3},
}
BUDGETS = (0, 1, 9, 26, 30, 45, 70, 120, 10_000)
every_strategy = pytest.mark.parametrize("name", sorted(STRATEGIES))


@functools.cache
def make(name: str) -> base_lib.Decoder:
  return decoders.make(name, STRATEGIES[name])


@functools.cache
def compiled(name: str) -> base_lib.Decoder:
  return toy_world.jitted(make(name))


@functools.cache
def world() -> toy_world.World:
  return toy_world.random_world(1, depth=3, stop=0.2, broken=0.15)


@functools.cache
def simulations(name: str) -> toy_world.Simulation:
  """The strategy under every budget, all at once."""
  keys = jax.random.split(jax.random.key(7), len(BUDGETS))
  simulate = jax.vmap(
    functools.partial(toy_world.simulate, make(name), world())
  )
  found = simulate(keys, jnp.asarray(BUDGETS))
  return jax.tree.map(np.asarray, found)


@every_strategy
def test_budget_is_kept_and_answers_are_anytime(name):
  found = simulations(name)
  assert (found.spent <= np.asarray(BUDGETS)).all()
  whole = found.state.tree.status == tree_lib.Status.FINISHED
  finished = whole.any(axis=1)
  np.testing.assert_array_equal(found.answer.node >= 0, finished)
  assert (found.answer.answer[~finished] == -1).all()
  assert not finished[0]
  assert finished[-1]
  for row in np.flatnonzero(finished):
    node = found.answer.node[row]
    assert whole[row, node]
    assert found.state.tree.answer[row, node] == found.answer.answer[row]
  assert (found.answer.weight >= 0).all()
  assert np.isfinite(found.answer.weight).all()


@every_strategy
def test_host_loop_equals_vmapped_program(name):
  found = simulations(name)
  keys = jax.random.split(jax.random.key(7), len(BUDGETS))
  for row in (3, len(BUDGETS) - 1):
    single = toy_world.run(
      compiled(name), world(), keys[row], tokens=BUDGETS[row]
    )
    assert single.spent == found.spent[row]
    np.testing.assert_array_equal(single.situation, found.situation[row])
    assert int(single.answer.answer) == found.answer.answer[row]
    assert int(single.answer.node) == found.answer.node[row]
    for field in ("parent", "depth", "length", "status", "used"):
      np.testing.assert_array_equal(
        getattr(single.state.tree, field),
        getattr(found.state.tree, field)[row],
        err_msg=field,
      )


@every_strategy
def test_search_resumed_from_saved_leaves_gives_the_same_answer(name):
  key = jax.random.key(11)
  whole = toy_world.run(compiled(name), world(), key)
  part = toy_world.run(compiled(name), world(), key, max_rounds=1)
  leaves, shape = jax.tree.flatten(part.state)
  saved = [np.asarray(leaf) for leaf in leaves]
  restored = jax.tree.unflatten(shape, [jnp.asarray(leaf) for leaf in saved])
  resumed = toy_world.run(
    compiled(name), world(), key, resume=part._replace(state=restored)
  )
  assert resumed.spent == whole.spent
  jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)
  jax.tree.map(np.testing.assert_array_equal, resumed.answer, whole.answer)


@every_strategy
def test_telling_of_nothing_changes_no_answer_and_no_request(name):
  decoder, key = compiled(name), jax.random.key(2)
  state = toy_world.run(decoder, world(), key, max_rounds=2).state
  shape = decoder.shape
  size = (shape.asks, shape.children)
  nothing = base_lib.Outcome(
    valid=jnp.zeros(size, bool),
    finished=jnp.zeros(size, bool),
    length=jnp.zeros(size, jnp.int32),
    reward=jnp.zeros(size),
    logprob=jnp.zeros(size),
    answer=jnp.full(size, -1, jnp.int32),
  )
  told = decoder.tell(state, base_lib.nothing(shape), nothing)
  jax.tree.map(
    np.testing.assert_array_equal, decoder.answer(told), decoder.answer(state)
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    decoder.ask(told, key),
    decoder.ask(state, key),
  )


@every_strategy
def test_no_expansion_asks_for_more_than_it_may(name):
  shape = make(name).shape
  found = toy_world.run(compiled(name), world(), jax.random.key(4))
  for expansion, outcome in found.rounds:
    assert expansion.children.max() <= shape.children
    assert expansion.children.min() >= 0
    assert outcome.valid.shape == (shape.asks, shape.children)
  assert int(found.state.tree.used) <= shape.nodes
  assert int(found.state.tree.depth.max()) <= world().depth
