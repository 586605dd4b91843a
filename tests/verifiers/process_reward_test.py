# SPDX-License-Identifier: Apache-2.0
"""Tests of process rewards: aggregates, and reading through the cache."""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import generation, stop, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import reward_model, transformer
from jaxttc.verifiers import process_reward

_CONFIG = config_lib.TransformerConfig(
  vocab_size=17,
  width=16,
  layers=2,
  heads=2,
  kv_heads=1,
  head_dim=8,
  mlp_width=16,
)
_MODELS = {  # without and with layers that read what the trunk expected
  reading: reward_model.ProcessRewardModel(
    dataclasses.replace(_CONFIG, reading_layers=reading)
  )
  for reading in (0, 1)
}
_AGGREGATE = process_reward.Aggregate

# Rewards of up to eight steps, in two spans, as (reward, is an end) pairs.
_SPAN = st.lists(
  st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=4, max_size=4
)


@jax.jit
def _aggregates(reward, at):
  """Of rewards [2 spans, B, W], read one span after the other."""
  running = process_reward.StepRewards.none(reward.shape[1:-1])
  for span in range(2):
    running = running.extended(reward[span], at[span])
  return running, {how: running.aggregate(how) for how in _AGGREGATE}


@hypothesis.given(st.lists(_SPAN, min_size=6, max_size=6))
@hypothesis.settings(max_examples=50)
def test_aggregates_against_numpy(spans):
  drawn = np.asarray(spans, np.float32).reshape(2, 3, 4, 2)
  reward, at = drawn[..., 0], drawn[..., 1] > 0
  running, got = _aggregates(jnp.asarray(reward), jnp.asarray(at))
  for row in range(3):
    steps = np.concatenate([reward[s, row][at[s, row]] for s in range(2)])
    none = not steps.size
    expected = {
      _AGGREGATE.LAST: 1.0 if none else steps[-1],
      _AGGREGATE.MIN: 1.0 if none else steps.min(),
      _AGGREGATE.PRODUCT: steps.prod(),
      _AGGREGATE.MEAN: 1.0 if none else steps.mean(),
    }
    for how, value in expected.items():
      np.testing.assert_allclose(got[how][row], value, rtol=1e-5, atol=1e-7)
    assert running.steps[row] == steps.size


def test_aggregates_are_known_by_name():
  assert _AGGREGATE("product") is _AGGREGATE.PRODUCT
  with pytest.raises(ValueError, match="median"):
    _AGGREGATE("median")


@pytest.fixture(scope="module", params=_MODELS)
def model(request):
  return _MODELS[request.param]


@pytest.fixture(scope="module")
def params(model):
  return jax.jit(lambda k: transformer.init(k, model))(jax.random.key(0))


@pytest.fixture(scope="module")
def whole(model, params):
  """Rewards of every prefix of a text, without cache; texts up to 12."""

  @jax.jit
  def run(row, length):
    index = jnp.arange(12)[None]
    segments = (index < length).astype(jnp.int32)
    logits = transformer.forward(model, params, row, segments, index)
    return jax.nn.sigmoid(logits)[0]

  def whole(text):
    row = np.zeros((1, 12), np.int32)
    row[0, : len(text)] = text
    return np.asarray(run(jnp.asarray(row), len(text)))[: len(text)]

  return whole


def test_reading_span_after_span_equals_a_whole_forward(model, params, whole):
  """Prompts of two problems, a child each, a grandchild each."""
  prompts = [[3, 4, 5, 6], [7, 8]]
  children = [[9, 10, 11], [12]]
  grandchildren = [[13, 14], [15, 16, 3]]

  def padded(rows):
    out = np.full((2, 4), -1, np.int32)
    for i, row in enumerate(rows):
      out[i, : len(row)] = row
    return jnp.asarray(out)

  def sizes(rows):
    return jnp.asarray([len(row) for row in rows])

  parent = jnp.asarray([[-1, 0, 1]] * 2)

  @jax.jit
  def read(prompt, length, child, child_length, grandchild):
    keys_values, judged = generation.prefill(
      model, params, jnp.maximum(prompt, 0), length
    )
    cache = tree_cache.init(_CONFIG, 2, 9)
    cache = tree_cache.write_prompt(cache, keys_values, length, jnp.arange(2))
    rewards = []
    context = length
    before = process_reward.prompts(judged, length).hidden
    for node, span in enumerate((child, grandchild)):
      path = tree_cache.path_mask(cache.owner, parent, jnp.full((2, 1), node))
      reward, hidden, keys_values = process_reward.score(
        model,
        params,
        cache,
        path,
        context[:, None],
        span[:, None],
        before[:, None],
      )
      cache = tree_cache.commit(
        cache,
        keys_values,
        jnp.full((2, 1), node + 1),
        jnp.zeros((2, 1), jnp.int32),
        child_length[:, None],
      )
      rewards.append(reward[:, 0])
      context, before = context + child_length, hidden[:, 0]
    return rewards

  first, second = read(
    padded(prompts),
    sizes(prompts),
    padded(children),
    sizes(children),
    padded(grandchildren),
  )
  for g in range(2):
    text = prompts[g] + children[g] + grandchildren[g]
    n, m = len(children[g]), len(grandchildren[g])
    expected = whole(text)
    at = len(prompts[g])
    np.testing.assert_allclose(first[g, :n], expected[at : at + n], atol=1e-5)
    np.testing.assert_allclose(second[g, :m], expected[at + n :], atol=1e-5)


def test_step_ends_are_line_ends_and_the_end_of_a_finished_solution():
  ends = jax.jit(
    lambda tokens, finished: process_reward.step_ends(
      tokens, finished, stop.build([[1], [5, 6]])
    )
  )
  spans = [
    ([3, 1, 4, -1, -1], False),
    ([3, 1, 4, -1, -1], True),
    ([1, 1, 1, 1, 1], True),
    ([5, 5, 6, 6, -1], False),
    ([-1, -1, -1, -1, -1], False),
    ([-1, -1, -1, -1, -1], True),
  ]
  tokens, finished = zip(*spans, strict=True)
  got = ends(jnp.asarray([tokens]), jnp.asarray([finished]))[0]
  places = [np.flatnonzero(row).tolist() for row in np.asarray(got)]
  assert places == [[1], [1, 2], [0, 1, 2, 3, 4], [2], [], []]
