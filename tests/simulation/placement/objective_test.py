# SPDX-License-Identifier: Apache-2.0
"""The objective against plain Python, and moves against full recounts."""

import importlib.util
import pathlib

import hypothesis
from hypothesis import strategies
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.simulation.placement import cells, objective, problems

_PATH = pathlib.Path(__file__).with_name("reference.py")
_SPEC = importlib.util.spec_from_file_location("reference", _PATH)
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

SERVICES, NODES, RESOURCES = 12, 5, 2


def _problem(seed):
  rng = np.random.default_rng(seed)
  job = np.where(rng.random(SERVICES) < 0.6, rng.integers(0, 3, SERVICES), -1)
  return problems.problem(
    cells.Cell(rng.uniform(0.8, 1.5, (NODES, RESOURCES))),
    cells.Workload(rng.uniform(0.05, 0.7, (SERVICES, RESOURCES)), job=job),
    rng.integers(0, NODES, SERVICES),
    rng.uniform(0.1, 2.0, SERVICES),
    imbalance_weight=3.0,
  )


def test_terms_against_plain_python():
  for seed in range(4):
    problem = _problem(seed)
    rng = np.random.default_rng(seed + 100)
    allocations = rng.integers(0, NODES, (2, 3, SERVICES)).astype(np.int32)
    found = jax.jit(objective.cost)(problem, jnp.asarray(allocations))
    assert found.total.shape == (2, 3)
    for place in np.ndindex(2, 3):
      expected = reference.cost(problem, allocations[place])
      got = [float(term[place]) for term in found[:4]]
      np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
      total = (
        expected[0]
        + float(problem.overload_weight) * (expected[1] + expected[3])
        + 3.0 * expected[2]
      )
      np.testing.assert_allclose(found.total[place], total, rtol=1e-5)


def test_staying_moves_nothing():
  problem = _problem(0)
  assert objective.cost(problem, problem.start).migration == 0


def test_relabelling_equal_nodes_changes_no_cost():
  rng = np.random.default_rng(0)
  usage = rng.uniform(0.1, 0.6, (SERVICES, RESOURCES))
  start = rng.integers(0, NODES, SERVICES)
  names = rng.permutation(NODES)

  def total(start, allocation):
    problem = problems.problem(
      cells.Cell(np.ones((NODES, RESOURCES))),
      cells.Workload(usage),
      start,
      np.ones(SERVICES),
    )
    return objective.cost(problem, jnp.asarray(allocation, jnp.int32)).total

  other = rng.integers(0, NODES, SERVICES)
  np.testing.assert_allclose(
    total(start, other), total(names[start], names[other]), rtol=1e-5
  )


@hypothesis.given(
  strategies.integers(0, 3),
  strategies.lists(
    strategies.tuples(
      strategies.integers(0, SERVICES - 1), strategies.integers(0, NODES - 1)
    ),
    min_size=1,
    max_size=12,
  ),
)
@hypothesis.settings(max_examples=25)
def test_changes_of_moves_add_up_to_full_recounts(seed, moves):
  with jax.enable_x64(True):
    problem = _problem(seed)
    allocation = problem.start
    state = objective.tally(problem, allocation)
    total = objective.cost(problem, allocation).total
    for service, node in moves:
      made = _moved(
        problem, state, allocation, jnp.int32(service), jnp.int32(node)
      )
      state, allocation, changed = made
      total = total + changed.total
    recount = objective.cost(problem, allocation)
    fresh = objective.tally(problem, allocation)
    np.testing.assert_allclose(total, recount.total, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(state.load, fresh.load, atol=1e-9)
    np.testing.assert_allclose(state.variance, fresh.variance, atol=1e-9)
    # Nothing is lost and nothing counted twice.
    np.testing.assert_allclose(
      state.load.sum(0), problem.usage.sum(0), atol=1e-9
    )


@jax.jit
def _moved(problem, state, allocation, service, node):
  changed = objective.change(problem, state, allocation, service, node)
  state, allocation = objective.move(
    problem, state, allocation, service, node, changed, jnp.bool_(True)
  )
  return state, allocation, changed
