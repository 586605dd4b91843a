# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import base as base_lib
from jaxttc.decoders import sampling
from jaxttc.testing import toy_world


def world_of(**options):
  return toy_world.random_world(1, depth=3, branching=3, **options)


def asking(children, until):
  rows = len(children)
  return base_lib.Expansion(
    node=jnp.zeros((rows,), jnp.int32),
    children=jnp.asarray(children, jnp.int32),
    until=jnp.full((rows,), until, jnp.int32),
  )


def test_paths_have_all_the_probability_and_reach_all_solutions():
  world = world_of(stop=0.3)
  found = toy_world.paths(world)
  assert sum(p for _, p in found) == pytest.approx(1.0, abs=1e-5)
  ends = sorted(path[-1] for path, _ in found)
  assert ends == np.flatnonzero(world.whole).tolist()
  assert max(len(path) for path, _ in found) <= world.depth


def test_whole_solutions_are_sampled_by_their_probability():
  world = world_of(stop=0.3)
  outcome, ends = toy_world.respond(
    world,
    jnp.zeros((1,), jnp.int32),
    asking([5000], base_lib.Until.END),
    5000,
    jax.random.key(0),
  )
  assert outcome.finished.all()
  length = np.asarray(world.length)
  for path, probability in toy_world.paths(world):
    here = np.asarray(ends[0]) == path[-1]
    error = np.sqrt(probability * (1 - probability) / 5000)
    assert abs(here.mean() - probability) < 4 * error + 1e-9
    if here.any():
      assert (np.asarray(outcome.length)[0, here] == length[path].sum()).all()
      np.testing.assert_allclose(
        np.asarray(outcome.logprob)[0, here], np.log(probability), rtol=1e-4
      )


def test_unasked_children_cost_nothing_and_broken_ones_cost_tokens():
  world = world_of(broken=1.0)
  outcome, _ = toy_world.respond(
    world,
    jnp.zeros((1,), jnp.int32),
    asking([2], base_lib.Until.STEP),
    4,
    jax.random.key(0),
  )
  assert (outcome.length[0, :2] > 0).all()
  assert (outcome.length[0, 2:] == 0).all()
  assert not outcome.valid.any()


def test_fund_never_reserves_more_than_is_left():
  world = world_of()
  longest = int(world.length.max())
  wish = asking([2, 3], base_lib.Until.STEP)
  for left in range(0, 7 * longest, 5):
    given = toy_world.fund(world, wish, jnp.int32(left)).children
    count = min(5, left // longest)
    assert given.tolist() == [min(2, count), max(count - 2, 0)]


def test_compiled_and_plain_functions_give_the_same_run():
  world = world_of(stop=0.2)
  decoder, key = sampling.best_of_n(3), jax.random.key(1)
  plain = toy_world.run(decoder, world, key)
  jitted = toy_world.run(toy_world.jitted(decoder), world, key)
  jax.tree.map(np.testing.assert_array_equal, plain.state, jitted.state)
  np.testing.assert_array_equal(plain.situation, jitted.situation)
