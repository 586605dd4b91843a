# SPDX-License-Identifier: Apache-2.0
import functools
import math

import jax
import numpy as np
import pytest

from jaxttc.decoders import beam, sampling
from jaxttc.testing import toy_world


@functools.cache
def run(name, seed, **options):
  world = toy_world.random_world(2, depth=4, branching=3, stop=0.15)
  decoder = toy_world.jitted(getattr(beam, name)(max_steps=4, **options))
  return toy_world.run(decoder, world, jax.random.key(seed))


def test_survivors_are_the_best_open_children():
  found = run("prm_beam", 0, num_survivors=3, num_expansions=4)
  tree = found.state.tree
  used = 1
  for turn, (_, outcome) in enumerate(found.rounds[:-1]):
    new = np.arange(used, used + outcome.valid.sum())
    used += len(new)
    new = [i for i in new if not tree.finished[i]]
    best = sorted(new, key=lambda i: (-tree.reward[i], i))[:3]
    named = found.rounds[turn + 1].expansion
    assert sorted(named.node[named.children > 0]) == sorted(best)
  finished = np.flatnonzero(tree.finished)
  top = max(finished, key=lambda i: tree.reward[i])
  assert int(found.answer.node) == top


def test_each_subtree_goes_on_from_its_best_open_child():
  found = run("dvts", 1, subtrees=3, expansions=4)
  tree = found.state.tree
  used = 1
  for turn, (expansion, outcome) in enumerate(found.rounds[:-1]):
    named = found.rounds[turn + 1].expansion
    for row in range(3):
      count = int(outcome.valid[row].sum())
      new = [i for i in range(used, used + count) if not tree.finished[i]]
      used += count
      if expansion.children[row] and new:
        assert named.node[row] == max(new, key=lambda i: tree.reward[i])
      else:
        assert named.children[row] == 0


def test_one_subtree_is_one_survivor():
  for seed in range(3):
    one = run("prm_beam", seed, num_survivors=1, num_expansions=4)
    tree = run("dvts", seed, subtrees=1, expansions=4)
    jax.tree.map(np.testing.assert_array_equal, one.rounds, tree.rounds)
    assert int(one.answer.node) == int(tree.answer.node)


def test_one_expansion_is_best_of_n():
  world = toy_world.random_world(2, depth=3, branching=2, stop=0.2)
  chains = beam.prm_beam(num_survivors=3, num_expansions=1, max_steps=3)
  plain = sampling.best_of_n(3)
  keys = jax.random.split(jax.random.key(0), 3000)
  rates = []
  for decoder in (chains, plain):
    simulate = functools.partial(toy_world.simulate, decoder, world)
    found = jax.vmap(simulate)(keys)
    assert (np.asarray(found.state.tree.finished).sum(axis=1) == 3).all()
    node = np.asarray(found.answer.node)
    ends = np.asarray(found.situation)[np.arange(3000), node]
    rates.append(
      [(ends == path[-1]).mean() for path, _ in toy_world.paths(world)]
    )
  # The two laws are one: differences within 4 standard errors.
  first, second = np.asarray(rates)
  error = np.sqrt(2 * np.maximum(first * (1 - first), 1e-4) / 3000)
  assert (np.abs(first - second) < 4 * error).all()


@pytest.mark.parametrize("length_penalty", [0.0, 0.7])
def test_wide_likelihood_beam_is_exhaustive(length_penalty):
  world = toy_world.random_world(6, depth=5, branching=4, max_length=3)
  decoder = beam.likelihood_beam(
    width=4**5, expansions=4, max_steps=5, length_penalty=length_penalty
  )
  length = np.asarray(world.length)
  found = toy_world.run(
    toy_world.jitted(decoder),
    world,
    jax.random.key(0),
    enumerate_children=True,
  )
  best = max(
    toy_world.paths(world),
    key=lambda p: math.log(p[1]) / length[p[0]].sum() ** length_penalty,
  )
  assert found.situation[int(found.answer.node)] == best[0][-1]
  weight = np.asarray(found.answer.weight)
  assert weight.argmax() == int(found.answer.node)


@pytest.mark.parametrize(
  ("factory", "options", "message"),
  [
    (beam.prm_beam, {"num_survivors": 0}, "num_survivors must be at least 1"),
    (beam.prm_beam, {"max_steps": 0}, "max_steps must be at least 1, got 0"),
    (beam.dvts, {"subtrees": -1}, "subtrees must be at least 1, got -1"),
    (beam.likelihood_beam, {"width": 0}, "width must be at least 1"),
    (beam.likelihood_beam, {"length_penalty": -1.0}, "length_penalty"),
  ],
)
def test_bad_settings_are_refused(factory, options, message):
  with pytest.raises(ValueError, match=message):
    factory(**options)
