# SPDX-License-Identifier: Apache-2.0
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import rebase
from jaxttc.testing import toy_world

WIDTH = 8
allocate = jax.jit(rebase.allocate)
rows = st.lists(
  st.tuples(st.integers(0, 20), st.booleans()), min_size=WIDTH, max_size=WIDTH
)


def plain(width, rewards, temperature):
  """Descending pass of ceilings over the usable rewards."""
  given = [0] * len(rewards)
  usable = [i for i, r in enumerate(rewards) if r is not None]
  usable.sort(key=lambda i: -rewards[i])
  for place, i in enumerate(usable):
    waiting = usable[place:]
    share = 1 / math.fsum(
      math.exp((rewards[j] - rewards[i]) / temperature) for j in waiting
    )
    given[i] = math.ceil(width * share - 1e-4)
    width -= given[i]
  return given


@settings(max_examples=60)
@given(rows, st.integers(0, WIDTH), st.sampled_from([0.05, 0.2, 1.0]))
def test_shares_sum_to_the_width_and_equal_the_plain_pass(
  parts, width, temperature
):
  rewards = [r / 20 if usable else None for r, usable in parts]
  given = allocate(
    jnp.int32(width),
    jnp.asarray([r or 0.0 for r in rewards], jnp.float32),
    jnp.asarray([r is not None for r in rewards]),
    temperature,
  )
  any_usable = any(usable for _, usable in parts)
  assert int(given.sum()) == (width if any_usable else 0)
  assert given.tolist() == plain(width, rewards, temperature)


def test_hot_is_uniform_and_cold_is_greedy():
  rewards = jnp.asarray([0.1, 0.9, 0.5, 0.2], jnp.float32)
  everyone = jnp.ones((4,), bool)
  hot = allocate(jnp.int32(8), rewards, everyone, 1e6)
  assert hot.tolist() == [2, 2, 2, 2]
  cold = allocate(jnp.int32(8), rewards, everyone, 1e-3)
  assert cold.tolist() == [0, 8, 0, 0]


def test_every_round_asks_for_the_width_that_is_left():
  world = toy_world.random_world(5, depth=4, stop=0.3)
  decoder = toy_world.jitted(rebase.rebase(width=WIDTH, max_steps=4))
  found = toy_world.run(decoder, world, jax.random.key(1))
  finished = 0
  for expansion, outcome in found.rounds:
    assert expansion.children.sum() == WIDTH - finished
    finished += outcome.finished.sum()
  assert finished == WIDTH
  tree = found.state.tree
  weight = np.where(tree.finished, tree.reward, 0.0)
  totals = np.bincount(np.asarray(tree.answer)[weight > 0], weight[weight > 0])
  assert int(found.answer.answer) == totals.argmax()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"width": 0}, "width must be at least 1, got 0"),
    ({"temperature": 0.0}, "temperature must be > 0"),
    ({"select": "bst"}, "did you mean 'best'"),
  ],
)
def test_bad_settings_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    rebase.rebase(**options)
