# SPDX-License-Identifier: Apache-2.0
"""The planted task: matcher, rewards, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import planted


def _search(tokens, gold):
  """The first token, from 1, that ends an occurrence; a plain string search."""
  for end in range(len(gold), len(tokens) + 1):
    if tuple(tokens[end - len(gold) : end]) == tuple(gold):
      return end
  return 0


_ALL = np.array(list(itertools.product(range(3), repeat=8)))


@pytest.mark.parametrize(
  "gold", [(0,), (0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1, 0), (2, 2, 2, 2)]
)
def test_matcher_and_automaton_equal_a_string_search(gold):
  """On all strings of eight tokens over three, golds that overlap included."""
  expected = [_search(tokens, gold) for tokens in _ALL]
  found = planted.first_solved(
    jnp.array(_ALL), jnp.broadcast_to(jnp.array(gold), (len(_ALL), len(gold)))
  )
  np.testing.assert_array_equal(found, expected)
  moves = np.asarray(planted.automaton(jnp.array(gold), 3))
  state, solved = np.zeros(len(_ALL), int), np.zeros(len(_ALL), int)
  for t in range(8):
    state = moves[state, _ALL[:, t]]
    solved = np.where((state == len(gold)) & (solved == 0), t + 1, solved)
    state = np.where(state == len(gold), 0, state)  # ignored: solved is kept
  np.testing.assert_array_equal(solved, expected)


def test_bilevel_rewards_count_what_is_left():
  solved = jnp.array([0, 1, 5, 8, 9])
  np.testing.assert_array_equal(
    planted.bilevel_reward(solved, 8), [0, 8, 4, 1, 0]
  )


def test_a_base_emits_its_gold_token_with_the_odds_of_its_style():
  spec = planted.PlantedSubsequence(
    vocab=5, length=2, horizon=4, gammas=(3.0, 10.0), mixture=(0.25, 0.75)
  )
  instance = spec.draw(jax.random.key(0), styles=3)
  opening = jax.nn.softmax(instance.base.opening)
  np.testing.assert_allclose(opening, [0.25, 0.75, 0], atol=1e-6)
  emission = jax.nn.softmax(instance.base.emission)
  for s, gamma in enumerate(spec.gammas):
    for row, token in enumerate(np.asarray(instance.symbol_map)):
      np.testing.assert_allclose(
        emission[s, row, token], gamma / (gamma + 4), rtol=1e-6
      )
  assert spec.optimum == 3


def test_contextual_prompts_differ_and_others_do_not():
  fixed = planted.PlantedSubsequence(length=3).draw(jax.random.key(0))
  assert (fixed.prompts(jax.random.key(1), 5) == jnp.arange(3)[None]).all()
  spec = planted.PlantedSubsequence(length=3, contextual=True, symbols=6)
  instance = spec.draw(jax.random.key(0))
  drawn = np.asarray(instance.prompts(jax.random.key(1), 64))
  assert drawn.min() == 0 and drawn.max() == 5 and len(np.unique(drawn, axis=0))
  assert instance.symbol_map.shape == (6,)
  assert len(set(np.asarray(instance.symbol_map).tolist())) == 6


@pytest.mark.parametrize(
  "changed, said",
  [
    ({"horizon": 3}, r"length must lie in \[1, horizon=3\], got 4"),
    ({"vocab": 1}, "vocab must be at least 2, got 1"),
    ({"vocab": 3}, "4 prompt symbols do not fit vocab=3"),
    ({"gammas": (1.0, -1.0)}, "gammas must be finite and positive"),
    ({"gammas": ()}, "gammas must be finite and positive"),
    ({"mixture": (0.5, 0.5)}, "mixture has 2 weights for 1 styles"),
    ({"mixture": (0.7,)}, "mixture must be non-negative and sum to 1"),
  ],
)
def test_tasks_that_cannot_be_are_refused(changed, said):
  with pytest.raises(ValueError, match=said):
    planted.PlantedSubsequence(**changed)


def test_too_few_styles_and_too_long_golds_are_refused():
  spec = planted.PlantedSubsequence(gammas=(1.0, 2.0))
  with pytest.raises(ValueError, match="styles must be at least 2, got 1"):
    spec.draw(jax.random.key(0), styles=1)
  with pytest.raises(ValueError, match="gold has 3 tokens, traces only 2"):
    planted.first_solved(jnp.zeros(2, int), jnp.zeros(3, int))
