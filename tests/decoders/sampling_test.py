# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import sampling
from jaxttc.testing import toy_world

WORLD = dict(depth=3, branching=3, stop=0.2, broken=0.2)


def test_best_of_n_is_the_argmax_and_weighted_the_heaviest_answer():
  single = sampling.best_of_n(7)
  weighted = sampling.weighted_best_of_n(7)
  world = toy_world.random_world(1, **WORLD)
  keys = jax.random.split(jax.random.key(0), 40)
  best = jax.vmap(lambda k: toy_world.simulate(single, world, k))(keys)
  heavy = jax.vmap(lambda k: toy_world.simulate(weighted, world, k))(keys)
  reward, answer = np.asarray(world.reward), np.asarray(world.answer)
  for row in range(len(keys)):
    drawn = [i for i in np.asarray(best.situation)[row, 1:] if i >= 0]
    assert best.answer.answer[row] == answer[max(drawn, key=reward.__getitem__)]
    totals = {}
    for i in drawn:
      totals[answer[i]] = totals.get(answer[i], 0.0) + reward[i]
    assert heavy.answer.answer[row] == max(totals, key=totals.__getitem__)


@pytest.mark.parametrize(
  "make", [sampling.best_of_n, sampling.weighted_best_of_n]
)
def test_waves_draw_as_many_in_more_rounds(make):
  world = toy_world.random_world(1, **(WORLD | {"broken": 0.0}))
  for wave, rounds in ((None, 1), (5, 1), (3, 2), (2, 3), (1, 5)):
    decoder = toy_world.jitted(make(5, wave=wave))
    found = toy_world.run(decoder, world, jax.random.key(2))
    assert int(found.state.drawn) == 5
    assert len(found.rounds) == rounds
    assert decoder.shape.children == min(wave or 5, 5)
  with pytest.raises(ValueError, match="wave must be at least 1"):
    make(5, wave=0)


def test_unpaid_samples_are_asked_for_again_and_unusable_ones_are_not():
  world = toy_world.random_world(1, **(WORLD | {"broken": 0.5}))
  decoder = toy_world.jitted(sampling.best_of_n(6))
  found = toy_world.run(decoder, world, jax.random.key(5), max_rounds=1)
  (expansion, outcome), *_ = found.rounds
  expansion = jax.tree.map(jnp.asarray, expansion)
  assert not outcome.valid.all(), "the case needs an unusable sample"
  assert outcome.length.min() > 0
  assert int(found.state.drawn) == 6
  again = decoder.ask(found.state, jax.random.key(0))
  assert int(again.children.sum()) == 0
  cut = jax.tree.map(
    lambda x: jnp.where(jnp.arange(6)[None] < 4, jnp.asarray(x), 0).astype(
      x.dtype
    ),
    outcome,
  )
  start = toy_world.run(decoder, world, jax.random.key(5), max_rounds=0)
  state = decoder.tell(start.state, expansion, cut)
  assert int(decoder.ask(state, jax.random.key(0)).children.sum()) == 2


def test_weights_of_zero_still_answer():
  world = toy_world.random_world(2, depth=2, branching=2)
  world = world.replace(reward=world.reward * 0)
  found = toy_world.simulate(
    sampling.weighted_best_of_n(3), world, jax.random.key(0)
  )
  assert int(found.answer.answer) >= 0


@pytest.mark.parametrize(
  "factory", [sampling.best_of_n, sampling.weighted_best_of_n]
)
def test_no_samples_are_refused(factory):
  with pytest.raises(ValueError, match="n must be at least 1, got 0"):
    factory(0)
