# SPDX-License-Identifier: Apache-2.0
import functools
import heapq

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import astar
from jaxttc.testing import toy_world

WORLDS = 200
# A full tree of this depth and branching has 40 situations.
TREE = dict(depth=3, branching=3)


@functools.cache
def worlds(levels):
  """Random trees of one shape, stacked."""
  made = [
    toy_world.random_world(seed, levels=levels, **TREE)
    for seed in range(WORLDS)
  ]
  return jax.tree.map(lambda *x: jnp.stack(x), *made)


def one(stacked, row):
  return jax.tree.map(lambda x: np.asarray(x[row]), stacked)


def search(decoder, stacked):
  """A* on all the trees; every expansion gets all children, in order."""
  keys = jax.random.split(jax.random.key(0), WORLDS)
  simulate = functools.partial(
    toy_world.simulate, decoder, enumerate_children=True
  )
  found = jax.vmap(simulate, in_axes=(0, 0))(stacked, keys)
  return jax.tree.map(np.asarray, found)


def decoder(**options):
  settings = dict(children=3, nodes=40, f_tolerance=0.0) | options
  return astar.astar(**settings)


@functools.cache
def four_goals():
  return decoder(goals=4)


def reference(world, *, cost, tolerance, goals, least=0.0):
  """Best-first search with a heap: situations expanded, and goals popped."""
  reward = world.reward
  ids = iter(range(1, len(reward) + 1))

  def entry(f, depth, node, g, number):
    order = np.floor(f / np.float32(tolerance) + 1e-3) if tolerance else f
    return (order, -depth, number, node, g)

  heap = [entry(np.float32(1) - reward[0], 0, 0, np.float32(0), 0)]
  expanded, popped = [], []
  while heap and len(popped) < goals:
    _, depth, _, node, g = heapq.heappop(heap)
    if world.child[node, 0] < 0:
      popped.append(node)
      continue
    expanded.append(node)
    for after in world.child[node]:
      number = next(ids)
      g_after = g + cost(reward[node], reward[after])
      f = g_after + (np.float32(1) - reward[after])
      if world.child[after, 0] >= 0 or reward[after] >= least:
        heapq.heappush(heap, entry(f, 1 - depth, after, g_after, number))
  return expanded, popped


def situations_in_order(found, row, rank):
  """Situations of the nodes that have a rank, by rank."""
  nodes = np.flatnonzero(rank[row] >= 0)
  nodes = nodes[np.argsort(rank[row][nodes], kind="stable")]
  return found.situation[row][nodes].tolist()


COSTS = {
  "h_increase": lambda a, b: max(a - b, np.float32(0)),
  "h_decrease": lambda a, b: max(b - a, np.float32(0)),
  "zero": lambda a, b: np.float32(0),
  "unit": lambda a, b: np.float32(1),
}


@pytest.mark.parametrize(
  ("edge_cost", "tolerance", "goals", "least", "levels"),
  [
    ("h_increase", 0.05, 1, 0.0, None),
    ("h_decrease", 0.0, 4, 0.0, 8),  # many ties
    ("zero", 0.2, 2, 0.6, None),
    ("unit", 0.0, 3, 0.3, 4),
  ],
)
def test_equals_a_heap(edge_cost, tolerance, goals, least, levels):
  found = search(
    decoder(
      edge_cost=edge_cost,
      f_tolerance=tolerance,
      goals=goals,
      goal_min_reward=least,
    ),
    worlds(levels),
  )
  for row in range(WORLDS):
    expanded, popped = reference(
      one(worlds(levels), row),
      cost=COSTS[edge_cost],
      tolerance=tolerance,
      goals=goals,
      least=least,
    )
    order = found.state.tree.expanded_at
    assert situations_in_order(found, row, order) == expanded
    rank = found.state.goal_rank
    assert situations_in_order(found, row, rank) == popped


def drops(world, path):
  reward = [world.reward[i] for i in [0, *path]]
  return sum(max(a - b, 0) for a, b in zip(reward, reward[1:], strict=False))


def test_h_decrease_finds_the_least_total_drop_and_f_never_falls():
  found = search(decoder(edge_cost="h_decrease"), worlds(None))
  for row in range(WORLDS):
    world = one(worlds(None), row)
    least = min(drops(world, path) for path, _ in toy_world.paths(world))
    (goal,) = np.flatnonzero(found.state.goal_rank[row] == 0)
    situation = found.situation[row][goal]
    (path,) = [p for p, _ in toy_world.paths(world) if p[-1] == situation]
    assert drops(world, path) == pytest.approx(least, abs=1e-6)
    f = found.state.tree.priority[row]
    rounds = found.state.tree.expanded_at[row]
    popped = np.flatnonzero(rounds >= 0)
    popped = popped[np.argsort(rounds[popped])]
    in_time = [*f[popped], f[goal]]
    assert (np.diff(in_time) >= -1e-6).all()
    parent = found.state.tree.parent[row]
    children = np.flatnonzero(parent >= 0)
    assert (f[children] >= f[parent[children]] - 1e-6).all()


def test_closed_forms_of_f():
  stacked = worlds(None)
  root = np.asarray(stacked.reward)[:, 0]
  for edge_cost, form in {
    "h_increase": lambda r0, down, up: 1 - r0 + 2 * down - up,
    "h_decrease": lambda r0, down, up: 1 - r0 + down,
    "zero": lambda r0, down, up: 1 - r0 - up + down,
  }.items():
    found = search(decoder(edge_cost=edge_cost), stacked)
    for row in range(20):
      tree = one(found.state.tree, row)
      for node in range(1, int(tree.used)):
        down = up = 0.0
        at = node
        while tree.parent[at] >= 0:
          change = tree.reward[at] - tree.reward[tree.parent[at]]
          down, up = down + max(-change, 0), up + max(change, 0)
          at = tree.parent[at]
        expected = form(root[row], down, up)
        assert tree.priority[node] == pytest.approx(expected, abs=1e-5)


def handmade(child, reward):
  child = np.asarray(child)
  whole = child[:, 0] < 0
  size = len(child)
  return toy_world.World(
    child=jnp.asarray(child),
    probability=jnp.asarray((child >= 0) / 2, jnp.float32),
    length=jnp.asarray(np.arange(size) > 0, jnp.int32),
    reward=jnp.asarray(reward, jnp.float32),
    answer=jnp.asarray(np.where(whole, np.arange(size), -1), jnp.int32),
    broken=jnp.zeros((size,), bool),
    depth=2,
  )


def test_h_increase_may_miss_the_least_total_drop():
  # Up to 1 and down by .2, against level and down by .05.
  world = handmade(
    [[1, 2], [3, -1], [4, -1], [-1, -1], [-1, -1]],
    [0.5, 1.0, 0.5, 0.8, 0.45],
  )
  answers = {}
  for edge_cost in ("h_increase", "h_decrease"):
    found = toy_world.simulate(
      decoder(edge_cost=edge_cost, children=2, nodes=9),
      world,
      jax.random.key(0),
      enumerate_children=True,
    )
    answers[edge_cost] = int(found.answer.answer)
  assert answers == {"h_increase": 3, "h_decrease": 4}


def test_one_child_is_plain_sampling():
  world = toy_world.random_world(4, depth=3, branching=2, stop=0.3)
  single = astar.astar(children=1, nodes=8)
  keys = jax.random.split(jax.random.key(1), 4000)
  found = jax.vmap(lambda key: toy_world.simulate(single, world, key))(keys)
  ends = np.asarray(found.situation)[np.arange(4000), found.answer.node]
  depth = np.asarray(found.state.tree.depth).max(axis=1)
  np.testing.assert_array_equal(np.asarray(found.state.tree.used), depth + 1)
  for path, probability in toy_world.paths(world):
    error = np.sqrt(probability * (1 - probability) / 4000)
    assert abs((ends == path[-1]).mean() - probability) < 4 * error + 1e-9


def test_reopened_parents_get_more_children():
  # The only child of the root's first expansion is a dead end of no reward.
  world = handmade([[1, 2], [-1, -1], [-1, -1]], [1.0, 0.1, 1.0]).replace(
    depth=1
  )
  keys = jax.random.split(jax.random.key(0), 64)
  rates = []
  for penalty in (None, 0.1):
    single = astar.astar(
      children=1, nodes=12, goal_min_reward=0.5, reopen_penalty=penalty
    )
    found = jax.vmap(lambda k, d=single: toy_world.simulate(d, world, k))(keys)
    rates.append(float((found.answer.answer == 2).mean()))
  assert rates[0] < 0.75
  assert rates[1] > 0.95


@pytest.mark.parametrize("select", astar.SELECTIONS)
def test_selections_over_several_goals(select):
  stacked = worlds(None)
  found = search(four_goals(), stacked)
  answer = jax.vmap(decoder(goals=4, select=select).answer)(found.state)
  for row in range(0, WORLDS, 10):
    world = one(stacked, row)
    goals = situations_in_order(found, row, found.state.goal_rank)
    assert len(goals) == 4
    totals = {}
    for goal in found.situation[row][found.state.goal_rank[row] >= 0]:
      vote = world.reward[goal] if select == "weighted_vote" else 1.0
      totals[world.answer[goal]] = totals.get(world.answer[goal], 0.0) + vote
    expected = {
      "first": world.answer[goals[0]],
      "best": world.answer[max(goals, key=world.reward.__getitem__)],
    }.get(select, max(totals, key=totals.__getitem__))
    assert answer.answer[row] == expected


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"children": 0}, "children must be at least 1, got 0"),
    ({"goals": 0}, "goals must be at least 1"),
    ({"children": 8, "nodes": 8}, "nodes must be at least 1 \\+ children = 9"),
    ({"edge_cost": "h_incraese"}, "did you mean 'h_increase'"),
    ({"select": "worst"}, "select must be one of"),
    ({"scale": -1.0}, "scale must be finite and not negative"),
    ({"f_tolerance": float("nan")}, "f_tolerance"),
    ({"goal_min_reward": 1.5}, "goal_min_reward must be in"),
  ],
)
def test_bad_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    astar.astar(**options)
