# SPDX-License-Identifier: Apache-2.0
"""A sampler a row is that row's sampler, whatever the others are."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import controllers, local_engine, row_sampling
from jaxttc.inference import engine as engine_lib
from jaxttc.testing import tiny_models

_VOCAB = 23

_SAMPLERS = tuple(
  controllers.Sampler(**fields)
  for fields in (
    {},
    {"temperature": 0.0, "top_p": 0.5},
    {"temperature": 1e-3},
    {"temperature": 1.9, "top_k": 4, "min_p": 0.05},
    {"top_k": 1},
    {"top_k": 10_000, "top_p": 0.9},
    {"temperature": 0.7, "top_p": 0.05},
    {"min_p": 1.0},
  )
)


@functools.lru_cache
def _own(sampler):
  """(logits f32[1, V]) -> logits, as the sampler's own controller has it."""
  own = sampler.controller()
  return jax.jit(lambda logits: own.apply(own.init(1), logits))


@jax.jit
def _rows(sampling, logits):
  controller = row_sampling.controller(sampling)
  return controller.apply(controller.init(logits.shape[0]), logits)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.lists(st.sampled_from(_SAMPLERS), min_size=6, max_size=6),
  st.integers(0, 1000),
)
def test_rows_are_what_their_own_samplers_make_them(samplers, seed):
  logits = np.random.default_rng(seed).normal(0, 3, (6, _VOCAB))
  logits = np.round(logits, 1).astype(np.float32)  # so that some are equal
  together = np.asarray(_rows(row_sampling.of(samplers), logits))
  for row, sampler in enumerate(samplers):
    alone = _own(sampler)(logits[row : row + 1])[0]
    np.testing.assert_array_equal(np.isinf(together[row]), np.isinf(alone))
    np.testing.assert_allclose(together[row], alone, rtol=1e-6)


def test_draws_are_those_of_the_samplers():
  samplers = [_SAMPLERS[i] for i in (1, 3, 5)]
  logits = jax.random.normal(jax.random.key(0), (3, _VOCAB))
  keys = jax.random.split(jax.random.key(1), 3)
  token, _ = controllers.sample(keys, _rows(row_sampling.of(samplers), logits))
  for row, sampler in enumerate(samplers):
    one = slice(row, row + 1)
    expected, _ = sampler.draw(keys[one], _own(sampler)(logits[one]))
    assert int(token[row]) == int(expected[0])


def test_a_row_with_nan_draws_nothing_and_plain_rows_are_untouched():
  logits = jnp.array([[0.0, jnp.nan, 1.0], [0.0, 2.0, 1.0]])
  sampling = row_sampling.of(
    [controllers.Sampler(temperature=0.5, top_p=0.5)] * 2
  )
  token, _ = controllers.sample(
    jax.random.split(jax.random.key(0), 2), _rows(sampling, logits)
  )
  assert token.tolist() == [-1, 1]
  plain = row_sampling.controller()
  np.testing.assert_array_equal(plain.apply(plain.init(2), logits), logits)


def test_no_row_has_a_repetition_penalty():
  with pytest.raises(ValueError, match="repetition_penalty is 1.2; expected 1"):
    row_sampling.check(controllers.Sampler(repetition_penalty=1.2))
  with pytest.raises(ValueError, match="top_p"):
    row_sampling.check(controllers.Sampler(top_p=0.0))


def _complete(engine, samplers):
  """Tokens of one request a sampler, all at once."""
  prompt = engine.encode("Solve 3 + 4 .\n")
  work = dict(enumerate(samplers))
  engine.open({g: engine_lib.Prompt(text="", tokens=prompt) for g in work})
  engine.submit(
    [
      engine_lib.Request(
        group=g,
        ticket=0,
        node=0,
        until=engine_lib.END,
        limit=10,
        seed=(3, g),
        sampler=sampler,
      )
      for g, sampler in work.items()
    ]
  )
  found = {}
  for _ in range(20):
    for done in engine.step():
      found[done.group] = done.tokens
      engine.close(done.group)
    if len(found) == len(work):
      return found
  raise AssertionError("not all requests came back")


def test_an_engine_draws_each_request_its_own_way_with_one_program():
  policy, _ = tiny_models.tiny_bundles(0)
  sizes = {"groups": 3, "rows": 1, "steps": 4, "columns": 12}
  shared = local_engine.LocalEngine(policy, row_samplers=True, **sizes)
  samplers = [
    controllers.Sampler(temperature=0.0),
    controllers.Sampler(temperature=0.8, top_p=0.7),
    None,
  ]
  together = _complete(shared, samplers)
  traced = shared.compilations
  assert _complete(shared, samplers[::-1])[1] == together[1]
  assert shared.compilations == traced
  for g, sampler in enumerate(samplers):
    own = local_engine.LocalEngine(
      policy, sampler=sampler or controllers.Sampler(), **sizes
    )
    assert _complete(own, [None] * 3)[g] == together[g]


def test_an_engine_that_draws_all_alike_says_so():
  policy, _ = tiny_models.tiny_bundles(0)
  engine = local_engine.LocalEngine(policy, groups=1, rows=1)
  with pytest.raises(ValueError, match="make it with row_samplers=True"):
    _complete(engine, [controllers.Sampler()])


def test_tokens_so_far_are_a_prefix_of_the_completion():
  policy, _ = tiny_models.tiny_bundles(0)
  engine = local_engine.LocalEngine(policy, groups=1, rows=1, steps=2)
  engine.open({0: engine_lib.Prompt(text="", tokens=(1, 20, 30))})
  request = engine_lib.Request(
    group=0, ticket=5, node=0, until=engine_lib.END, limit=9, seed=(0, 2)
  )
  engine.submit([request])
  seen, done = [], []
  assert engine.so_far(0) == {}
  while not done:
    done = engine.step()
    seen += [engine.so_far(0)] if not done else []
  assert len(seen) >= 2
  for i, tokens in enumerate(seen, start=1):
    assert tokens == {5: done[0].tokens[: 2 * i]}
  assert engine.so_far(0) == {}
