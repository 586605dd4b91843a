# SPDX-License-Identifier: Apache-2.0
"""Agents and solvers mend overloads, keep rules, and count what they do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.simulation.placement import (
  cluster,
  events,
  masb,
  migration,
  negotiation,
  policies,
  rebalancing,
  replay,
  taxonomy,
)

NODES, SLOTS = 8, 32
RULES = negotiation.Rules(brokers=2, named=12, asked=6, pool=16, staleness=1)
LINK = migration.Link()


def _cell(nodes, usage, *, capacity=None, job=None, eligible=None):
  """Tasks on nodes, all of them running."""
  count = len(nodes)
  empty = cluster.empty(
    nodes=NODES, slots=SLOTS, resources=2, kinds=2, jobs=2, peers=4
  )
  live = jnp.arange(SLOTS) < count
  full = jnp.zeros((SLOTS, 2)).at[:count].set(jnp.asarray(usage, jnp.float32))
  roster = np.full((2, 4), -1)
  jobs = np.full(SLOTS, -1)
  for slot in job or ():
    jobs[slot] = 0
    roster[0, (roster[0] >= 0).sum()] = slot
  cell = dataclasses.replace(
    empty,
    live=live,
    node=empty.node.at[:count].set(jnp.asarray(nodes, jnp.int32)),
    usage=full,
    request=full,
    job=jnp.asarray(jobs, jnp.int32),
    roster=jnp.asarray(roster, jnp.int32),
    memory_bytes=jnp.float32(2.0**33),
  )
  if capacity is None:
    capacity = jnp.ones((NODES, 2))
  if eligible is None:
    eligible = jnp.ones((2, NODES), bool)
  return cluster.set_machines(cell, capacity, eligible)


def _step(cell, rules=RULES, seed=0, periods=1):
  state = masb.MasbState(cell, masb.init(cell, rules))
  total = None
  for number in range(periods):
    key = jax.random.key(seed * 100 + number)
    state, moves = masb.masb_step(state, key, rules, LINK)
    total = moves if total is None else jax.tree.map(jnp.add, total, moves)
    later = dataclasses.replace(state.cluster, time=state.cluster.time + 300.0)
    state = state.replace(cluster=cluster.land(later))
  return state.cluster, total


def test_an_overloaded_machine_lets_the_cheapest_task_go_that_ends_it():
  usage = [(0.5, 0.6), (0.3, 0.2), (0.3, 0.1)]
  cell = _cell([0, 0, 0], usage)
  assert bool(cluster.overloaded(cell)[0])
  after, moves = _step(cell)
  # Slots 1 and 2 both end it; slot 2 has less memory to move.
  assert np.asarray(after.node)[:3].tolist()[:2] == [0, 0]
  assert int(after.node[2]) not in (0, -1)
  assert (int(moves.started), int(moves.decisions)) == (1, 1)
  sent = cluster.transfers(cell, jnp.array([2]), LINK).bytes[0]
  np.testing.assert_allclose(moves.bytes, sent, rtol=1e-6)
  assert not cluster.overloaded(after).any()


def test_a_task_counts_where_it_is_until_it_has_arrived():
  cell = _cell([0, 0], [(0.6, 0.5), (0.6, 0.4)])
  state = masb.MasbState(cell, masb.init(cell, RULES))
  state, moves = masb.masb_step(state, jax.random.key(0), RULES, LINK)
  moving = state.cluster
  assert int(moves.started) == 1
  np.testing.assert_allclose(moving.load, cell.load)
  np.testing.assert_allclose(moving.promised.sum(0), [0.6, 0.4], rtol=1e-6)
  assert int((moving.heading >= 0).sum()) == 1
  # Before the transfer is over nothing has changed.
  early = cluster.land(dataclasses.replace(moving, time=jnp.float32(0.01)))
  np.testing.assert_array_equal(early.node, cell.node)
  done = cluster.land(dataclasses.replace(moving, time=jnp.float32(1e4)))
  assert (np.asarray(done.heading) == -1).all()
  np.testing.assert_allclose(done.load.sum(0), cell.load.sum(0), rtol=1e-6)
  assert float(done.promised.sum()) == 0


def test_promises_are_kept_under_a_crowd():
  """Many tasks want the one free machine: it agrees to what fits, no more."""
  nodes = [n for n in range(7) for _ in range(4)]
  cell = _cell(nodes, [(0.3, 0.1)] * 28)
  after, moves = _step(cell, periods=6)
  used = np.asarray(after.load)
  assert used[7, 0] <= 0.85 + 1e-6
  assert int(moves.started) >= 2
  np.testing.assert_allclose(used.sum(0), cell.load.sum(0), rtol=1e-5)


def test_messages_are_a_multiple_of_the_machines_asked():
  usage = [(0.6, 0.1)] * 2
  after, moves = _step(_cell([0, 0], usage))
  most = 2 + 2 * RULES.asked + 2 + RULES.brokers * NODES
  assert int(after.node[0]) != int(after.node[1])
  assert 0 < int(moves.messages) <= most


def test_constraints_and_jobs_that_must_be_apart():
  eligible = jnp.zeros((2, NODES), bool).at[0, :4].set(True)
  # Tasks 0 and 1 are of one job: task 1 sits on node 1, so 0 may not go there.
  usage = [(0.6, 0.2), (0.1, 0.1), (0.6, 0.3)]
  for seed in range(5):
    cell = _cell([0, 1, 0], usage, job=(0, 1), eligible=eligible)
    after, moves = _step(cell, seed=seed)
    assert int(moves.started) == 1
    node = np.asarray(after.node)[:3]
    assert (node < 4).all() and node[0] != node[1]


def test_force_pushes_a_cheaper_task_out():
  """The heavy task fits machine 1 only, once the light one there has left."""
  capacity = jnp.full((NODES, 2), 0.5).at[:2].set(1.0)
  usage = [(0.6, 0.3), (0.6, 0.4), (0.45, 0.1)]
  cell = _cell([0, 0, 1], usage, capacity=capacity)
  # All machines are asked, so that chance plays no part.
  rules = RULES._replace(headroom=0.05, named=60, asked=60)
  after, moves = _step(cell, rules)
  node = np.asarray(after.node)[:3]
  assert node[2] > 1 and sorted(node[:2]) == [0, 1]
  assert (int(moves.started), int(moves.forced)) == (2, 2)
  assert not cluster.overloaded(after).any()
  # Without force the task stays, and that is told.
  stuck, refused = _step(cell, rules._replace(depth=0))
  np.testing.assert_array_equal(stuck.node, cell.node)
  assert (int(refused.started), int(refused.failed)) == (0, 1)


def test_a_chain_that_finds_no_end_moves_nobody():
  capacity = jnp.zeros((NODES, 2)).at[:2].set(1.0)
  usage = [(0.6, 0.3), (0.6, 0.4), (0.45, 0.1)]
  cell = _cell([0, 0, 1], usage, capacity=capacity)
  after, moves = _step(cell, RULES._replace(headroom=0.05))
  np.testing.assert_array_equal(after.node, cell.node)
  assert (int(moves.started), int(moves.failed)) == (0, 1)
  assert float(after.promised.sum()) == 0


def test_stale_summaries_only_cost_bids():
  """Brokers that heard of nobody name nobody; reports change that."""
  cell = _cell([0, 0], [(0.6, 0.5), (0.6, 0.4)])
  rules = RULES._replace(staleness=4, brokers=1, depth=0)
  _, moves = _step(cell, rules, periods=4)
  assert int(moves.started) == 1


def test_settings():
  for field, message in (
    ({"pool": 0}, "pool must be >= 1"),
    ({"named": 2}, "named=2 must be >= asked"),
    ({"depth": -1}, "depth must be >= 0"),
    ({"trigger": 2.0}, "trigger must lie in"),
  ):
    with pytest.raises(ValueError, match=message):
      masb.masb(negotiation.Rules(**field))
  with pytest.raises(ValueError, match="expected every >= 1"):
    rebalancing.rebalancing(every=0)
  with pytest.raises(ValueError, match=r"trigger 0.0 is not in \(0, 1\]"):
    rebalancing.rebalancing(trigger=0.0)
  with pytest.raises(ValueError, match="solver 'magic'"):
    rebalancing.rebalancing("magic")


def test_centralised_rebalancing_mends_what_it_sees():
  cell = _cell([0, 0, 0, 1], [(0.5, 0.6), (0.3, 0.2), (0.3, 0.1), (0.1, 0.1)])
  policy = rebalancing.rebalancing("greedy", budget_evals=2000)
  memory = policy.init(cell)
  memory, after, moves = policy.balance(memory, cell, jax.random.key(0))
  assert int(moves.started) == 1 and int(after.heading[2]) >= 0
  # What moves already is left alone, and counts where it goes.
  _, again, none = policy.balance(memory, after, jax.random.key(1))
  assert int(none.started) == 0
  np.testing.assert_array_equal(again.heading, after.heading)


def test_policies_move_tasks_in_a_replay():
  """Four machines are filled, twelve more come, and all tasks use more."""
  trace = [events.MachineEvent(0.0, n, "add", (1.0, 1.0)) for n in range(4)]
  tasks = [(job, 0) for job in range(16)]
  trace += [
    events.TaskEvent(1.0, task, "submit", None, (0.1, 0.1)) for task in tasks
  ]
  trace += [
    events.MachineEvent(310.0, n, "add", (1.0, 1.0)) for n in range(4, 16)
  ]
  for period in range(1, 7):
    time = 300.0 * period + 20.0
    trace += [
      events.UsageSample(time, time + 280.0, task, None, (0.4, 0.2))
      for task in tasks
    ]
  made = {}
  for policy in (
    policies.power_of_k(6),
    masb.masb(RULES),
    rebalancing.rebalancing("greedy", budget_evals=2000),
  ):
    made[policy.name] = replay.replay(trace, policy, seed=1)
    assert policy.taxon == taxonomy.OURS[policy.name]
  still = made.pop("power_of_k")
  assert sum(one.migrations for one in still) == 0 < still[-1].overloaded
  for found in made.values():
    assert sum(one.migrations for one in found) > 0
    assert sum(one.bytes for one in found) > 0
    assert found[-1].overloaded == 0
