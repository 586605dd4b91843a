# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import decoders
from jaxttc.testing import toy_world

BUDGETS = np.append(np.arange(0, 160, 4), 10_000)
# The longest step has 9 tokens, and a path 4 steps.
LONGEST = 36
STRATEGIES = {
  "astar": {"children": 3, "nodes": 60, "edge_cost": "h_decrease"},
  "particle_filter": {"particles": 4, "max_steps": 4},
  "prm_beam": {"num_survivors": 2, "num_expansions": 3, "max_steps": 4},
}


@functools.cache
def world():
  return toy_world.random_world(6, depth=4, branching=3).replace(
    length=jnp.asarray(
      [0] + [9] * (toy_world.random_world(6, depth=4).length.size - 1)
    )
  )


def simulate(decoder):
  keys = jax.random.split(jax.random.key(1), len(BUDGETS))
  run = jax.vmap(functools.partial(toy_world.simulate, decoder, world()))
  return jax.tree.map(np.asarray, run(keys, jnp.asarray(BUDGETS)))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_whoever_can_pay_for_one_solution_has_one(name):
  plain = decoders.make(name, STRATEGIES[name])
  before = simulate(plain)
  after = simulate(decoders.with_finish(plain, LONGEST, step_tokens=9))
  assert (after.spent <= BUDGETS).all()
  can_pay = BUDGETS >= LONGEST
  np.testing.assert_array_equal(after.answer.answer >= 0, can_pay)
  assert (before.answer.answer[can_pay] < 0).any()
  # With tokens to spare, nothing changes.
  rich = before.answer.answer[-1:]
  np.testing.assert_array_equal(after.answer.answer[-1:], rich)


def test_unlimited_budget_changes_nothing():
  plain = decoders.make("astar", STRATEGIES["astar"])
  wrapped = decoders.with_finish(plain, LONGEST)
  key = jax.random.key(3)
  before = toy_world.run(toy_world.jitted(plain), world(), key)
  after = toy_world.run(toy_world.jitted(wrapped), world(), key)
  jax.tree.map(np.testing.assert_array_equal, before.rounds, after.rounds)
  assert after.state.tree.capacity == plain.shape.nodes


def test_deepest_open_prefers_depth_then_reward_then_id():
  tree = decoders.tree.init(5)
  assert decoders.finishing.deepest_open(tree)[0] == 0
  tree = tree.replace(
    status=jnp.asarray([2, 1, 1, 1, 3], jnp.int8),
    depth=jnp.asarray([0, 1, 1, 1, 2]),
    reward=jnp.asarray([1.0, 0.2, 0.9, 0.9, 1.0]),
  )
  node, found = decoders.finishing.deepest_open(tree)
  assert (int(node), bool(found)) == (2, True)


def test_saving_nothing_is_refused():
  with pytest.raises(ValueError, match="tokens must be at least 1, got 0"):
    decoders.with_finish(decoders.make("astar"), 0)
  with pytest.raises(ValueError, match="step_tokens must be at least 0"):
    decoders.with_finish(decoders.make("astar"), 9, step_tokens=-1)
