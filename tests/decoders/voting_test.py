# SPDX-License-Identifier: Apache-2.0
import collections

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base as base_lib
from jaxttc.decoders import voting
from jaxttc.testing import toy_world

SAMPLES = 9


def outcome_of(answers):
  """Samples of these answers, -1 for one that came back unusable."""
  answers = jnp.asarray(answers, jnp.int32)[None]
  usable = answers >= 0
  ones = jnp.ones(answers.shape)
  return base_lib.Outcome(
    valid=usable,
    finished=usable,
    length=jnp.ones(answers.shape, jnp.int32),
    reward=ones * jnp.nan,  # no vote may read it
    logprob=-ones,
    answer=answers,
  )


def play(decoder, answers):
  """Feeds the answers one by one; returns the answer and how many it took."""
  root = base_lib.Root(jnp.int32(1), jnp.float32(1))
  state = decoder.init(root, budget_lib.Budget())
  used = 0
  while True:
    expansion = decoder.ask(state, jax.random.key(0))
    asked = int(expansion.children[0])
    if asked == 0:
      return int(decoder.answer(state).answer), used
    columns = np.full(decoder.shape.children, -1)
    columns[:asked] = answers[used : used + asked]
    outcome = outcome_of(columns)
    paid = jnp.arange(decoder.shape.children)[None] < asked
    outcome = outcome.replace(length=paid.astype(jnp.int32))
    state = decoder.tell(state, expansion, outcome)
    used += asked


FULL = toy_world.jitted(voting.self_consistency(SAMPLES))
MAJORITY = toy_world.jitted(voting.self_consistency(SAMPLES, stop="majority"))
BETA = toy_world.jitted(voting.beta_sc(SAMPLES, threshold=0.9))
ADAPTIVE = toy_world.jitted(voting.adaptive_sc(SAMPLES))
samples = st.lists(st.integers(-1, 2), min_size=SAMPLES, max_size=SAMPLES)


def top_two(answers):
  counts = sorted(collections.Counter(a for a in answers if a >= 0).values())
  return ([0, 0] + counts)[-1], ([0, 0] + counts)[-2]


@settings(max_examples=25)
@given(samples)
def test_majority_stops_as_soon_as_the_winner_is_certain(answers):
  winner, _ = play(FULL, answers)
  early, used = play(MAJORITY, answers)
  assert early == winner
  stops = [
    drawn
    for drawn in range(1, SAMPLES + 1)
    if drawn == SAMPLES
    or np.subtract(*top_two(answers[:drawn])) > SAMPLES - drawn
  ]
  assert used == stops[0]


@settings(max_examples=25)
@given(samples)
def test_full_vote_is_the_most_common_answer(answers):
  valid = [a for a in answers if a >= 0]
  winner, used = play(FULL, answers)
  assert used == SAMPLES
  common = collections.Counter(valid).most_common(1)
  assert winner == (common[0][0] if common else -1)


@settings(max_examples=25)
@given(samples)
def test_beta_stops_by_the_incomplete_beta_function(answers):
  _, used = play(BETA, answers)
  for drawn in range(1, SAMPLES + 1):
    first, second = top_two(answers[:drawn])
    sure = 1 - scipy.special.betainc(first + 1, second + 1, 0.5)
    if (first and sure >= 0.9) or drawn == SAMPLES:
      assert used == drawn
      break


@settings(max_examples=25)
@given(samples)
def test_adaptive_stops_at_three_quarters_after_2_4_8(answers):
  _, used = play(ADAPTIVE, answers)
  for drawn in (2, 4, 8, 9):
    if top_two(answers[:drawn])[0] >= 0.75 * drawn or drawn == 9:
      assert used == drawn
      break


@pytest.mark.parametrize(
  ("n", "options", "message"),
  [
    (0, {}, "n must be at least 1"),
    (4, {"wave": 0}, "wave must be at least 1"),
    (4, {"stop": "majorty"}, "did you mean 'majority'"),
    (4, {"stop": "beta", "threshold": 0.0}, "threshold"),
  ],
)
def test_bad_settings_are_refused(n, options, message):
  with pytest.raises(ValueError, match=message):
    voting.self_consistency(n, **options)


@pytest.mark.parametrize("factory", [voting.adaptive_sc, voting.beta_sc])
def test_no_samples_are_refused(factory):
  with pytest.raises(ValueError, match="n must be at least 1"):
    factory(0)
