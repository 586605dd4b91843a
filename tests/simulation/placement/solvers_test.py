# SPDX-License-Identifier: Apache-2.0
"""All solvers: exact on small cells, honest about budgets, never worse."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.simulation.placement import (
  annealing,
  bounds,
  cells,
  constraints,
  genetic,
  instances,
  objective,
  problems,
  proposals,
  solvers,
)

HEURISTICS = [name for name in solvers.SOLVERS if name != "full_scan"]
BUDGET = 3000


@pytest.fixture(scope="module")
def small():
  return [
    instances.hot_start(seed, services=6, nodes=3, resources=2, load=0.6)
    for seed in range(3)
  ]


@pytest.fixture(scope="module")
def medium():
  return [instances.hot_start(seed, services=40, nodes=8) for seed in range(3)]


@pytest.fixture(scope="module")
def ruled():
  """Services with constraints, jobs that must be apart, and a hot node."""
  rng = np.random.default_rng(0)
  services, nodes = 40, 8
  rule = (constraints.Constraint(">", "kernel", "3"),)
  asked = [rule if one % 5 == 0 else () for one in range(services)]
  start = np.where(np.arange(services) % 5 == 0, 4, 0)
  return problems.problem(
    cells.Cell(
      np.ones((nodes, 3)),
      [{"kernel": str(one)} for one in range(nodes)],
    ),
    cells.Workload(
      rng.uniform(0.05, 0.15, (services, 3)),
      constraints=asked,
      job=np.where(np.arange(services) < 24, np.arange(services) % 6, -1),
    ),
    start,
    rng.uniform(0.5, 1.5, services),
  )


def _solve(name, problem, seed=0, budget=BUDGET):
  return solvers.solver(name)(problem, jax.random.key(seed), budget)


def test_full_scan_against_itertools(small):
  for problem in small[:1]:
    everything = np.array(list(itertools.product(range(3), repeat=6)), np.int32)
    totals = objective.cost(problem, jnp.asarray(everything)).total
    found = _solve("full_scan", problem)
    np.testing.assert_allclose(found.cost.total, totals.min(), rtol=1e-6)
    assert found.evals == 3**6


def test_full_scan_refuses_what_it_cannot_pay(small):
  with pytest.raises(ValueError, match=r"3 \*\* 6 = 729 allocations"):
    _solve("full_scan", small[0], budget=700)


@pytest.mark.parametrize("name", HEURISTICS)
def test_small_cells(name, small):
  """Exact for the populations; the others at least mend what is broken."""
  gaps = []
  for problem in small:
    best = float(_solve("full_scan", problem).cost.total)
    found = float(_solve(name, problem).cost.total)
    start = float(objective.cost(problem, problem.start).total)
    assert best - 1e-4 <= found <= start
    gaps.append(found - best)
  if "genetic" in name:
    assert max(gaps) < 1e-3


@pytest.mark.parametrize("name", HEURISTICS)
def test_medium_cells(name, medium):
  for problem in medium:
    start = float(objective.cost(problem, problem.start).total)
    found = _solve(name, problem)
    assert float(found.cost.total) <= 0.1 * start
    assert 0 < int(found.evals) <= BUDGET
    history = np.asarray(found.history)
    assert (np.diff(history) <= 0).all()
    assert (np.diff(found.history_evals) >= 0).all()
    np.testing.assert_allclose(history[-1], found.cost.total, rtol=1e-3)
    again = _solve(name, problem)
    np.testing.assert_array_equal(found.allocation, again.allocation)


@pytest.mark.parametrize("name", HEURISTICS)
def test_rules_are_kept(name, ruled):
  found = _solve(name, ruled)
  allowed = np.asarray(ruled.eligible)[ruled.kind, found.allocation]
  assert allowed.all()
  assert float(found.cost.conflicts) == 0
  assert float(found.cost.overload) < 1e-4


@pytest.mark.parametrize("name", HEURISTICS)
def test_budgets_that_pay_for_nothing(name, small):
  with pytest.raises(ValueError, match="does not pay for one step"):
    _solve(name, small[0], budget=1)


def test_seeded_genetic_is_never_worse_than_a_seed(medium):
  for number, problem in enumerate(medium):
    key = jax.random.key(number)
    seeds = genetic.seeds(problem, key, BUDGET // 2)
    found = genetic.seeded_genetic(problem, key, BUDGET)
    least = min(float(seed.cost.total) for seed in seeds)
    assert float(found.cost.total) <= least + 1e-4
    # The seeds were paid for.
    spent = sum(int(seed.evals) for seed in seeds)
    assert spent < int(found.evals) <= BUDGET


def test_pinned_services_stay(medium):
  problem = medium[0]
  free = np.arange(0, 40, 2)
  order = np.concatenate([free, np.arange(1, 40, 2)]).astype(np.int32)
  pinned = problem.replace(
    movable=jnp.asarray(order), movable_count=jnp.int32(len(free))
  )
  for name in HEURISTICS:
    found = _solve(name, pinned)
    moved = np.flatnonzero(found.allocation != problem.start)
    assert len(moved) and not (moved % 2).any()


def test_cold_annealing_never_steps_up(medium):
  problem = medium[0]
  nobody = proposals.Hot(jnp.zeros(1, jnp.int32), jnp.int32(0))
  draws = jax.random.uniform(jax.random.key(0), (500, 5))
  start = objective.cost(problem, problem.start).total
  carry = objective.tally(problem, problem.start), problem.start, start
  _, totals = jax.lax.scan(
    lambda carry, row: annealing.walk(
      problem, nobody, 0.0, carry, (jnp.float32(1e-9), row)
    ),
    carry,
    draws,
  )
  assert (np.diff(totals) <= 0).all()
  assert totals[-1] < start


def test_annealing_at_a_fixed_temperature_visits_as_boltzmann_says():
  """One service, three nodes: the start is free, the others cost."""
  problem = problems.problem(
    cells.Cell(np.array([[1.0], [0.8], [2.0]])),
    cells.Workload(np.array([[0.5]])),
    np.array([0]),
    np.array([0.7]),
    overload_weight=1.0,
    imbalance_weight=4.0,
  )
  places = jnp.arange(3, dtype=jnp.int32)[:, None]
  totals = np.asarray(objective.cost(problem, places).total)
  temperature = 0.8
  expected = np.exp(-totals / temperature)
  expected /= expected.sum()
  nobody = proposals.Hot(jnp.zeros(1, jnp.int32), jnp.int32(0))
  draws = jax.random.uniform(jax.random.key(1), (20_000, 5))

  def step(carry, row):
    carry, _ = annealing.walk(
      problem, nobody, 0.0, carry, (jnp.float32(temperature), row)
    )
    return carry, carry[1][0]

  carry = objective.tally(problem, problem.start), problem.start, totals[0]
  _, visited = jax.lax.scan(step, carry, draws)
  shares = np.bincount(visited, minlength=3) / len(visited)
  np.testing.assert_allclose(shares, expected, atol=0.02)


def test_bad_settings(small):
  with pytest.raises(ValueError, match="hottest >= coldest > 0"):
    annealing.annealing(small[0], jax.random.key(0), 100, coldest=0.0)
  with pytest.raises(ValueError, match="seed_share must lie in"):
    genetic.seeded_genetic(small[0], jax.random.key(0), 100, seed_share=1.0)
  with pytest.raises(ValueError, match="solver 'tabo' is not one of greedy"):
    solvers.solver("tabo")
  with pytest.raises(ValueError, match="load must lie in"):
    instances.hot_start(0, services=3, nodes=2, load=1.5)


def test_integer_bound_is_the_optimum_without_imbalance(small):
  for problem in small:
    linear = problem.replace(imbalance_weight=jnp.float32(0.0))
    best = float(_solve("full_scan", linear).cost.total)
    bound = bounds.integer_bound(linear)
    assert bound.optimal
    np.testing.assert_allclose([bound.total, bound.lower], best, atol=1e-3)
    counted = objective.cost(linear, jnp.asarray(bound.allocation))
    np.testing.assert_allclose(counted.total, best, atol=1e-3)
    # Relaxed, or with imbalance on top: bounds from below.
    assert bounds.linear_bound(linear).lower <= best + 1e-6
    assert bound.lower <= float(_solve("full_scan", problem).cost.total) + 1e-6


def test_integer_bound_keeps_rules(ruled):
  found = bounds.integer_bound(ruled, seconds=20.0)
  assert np.asarray(ruled.eligible)[ruled.kind, found.allocation].all()
  counted = objective.cost(ruled, jnp.asarray(found.allocation))
  assert float(counted.conflicts) == 0
  for name in HEURISTICS:
    assert float(_solve(name, ruled).cost.total) >= found.lower - 1e-3
