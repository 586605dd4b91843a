# SPDX-License-Identifier: Apache-2.0
"""Batches of requests against one request after the other."""

import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.allocators import width_planner, width_prices, width_requests
from jaxttc.inference import compiled_widths
from jaxttc.models import slimmable

_SPEC = slimmable.NetworkSpec(
  encoder={"kind": "residual", "stages": ((8, 1, 1),)},
  tasks=(("kind", 3, False), ("depth", 1, True)),
  input_shape=(4, 4, 2),
  hidden=8,
  menu=(0.5, 1.0),
  quantum=4,
)
_NETWORK = _SPEC.build()
_PRICES = width_prices.WidthPrices(_NETWORK)
_PREFERENCES = (
  {"kind": 1.0, "depth": 0.0},
  {"kind": 0.0, "depth": 1.0},
  {"kind": 1.0, "depth": 1.0},
)
_BUDGETS = (0.4, 0.7, 1.0)
_RNG = np.random.default_rng(0)
_INPUTS = _RNG.normal(size=(12, 4, 4, 2)).astype(np.float32)


def _plan(request):
  return width_planner.plan(
    _NETWORK.space,
    request.preference,
    request.budget,
    _PRICES,
    lambda i: np.log1p(i[:, :1] + i[:, 1:]),
    rule="value",
  )


@pytest.fixture(scope="module")
def params():
  return slimmable.init(_NETWORK, jax.random.key(0))


@pytest.fixture(scope="module")
def server(params):
  menu = width_requests.menu_of(_plan, _BUDGETS, _PREFERENCES)
  return width_requests.RequestServer(
    _NETWORK, params, _plan, menu, sizes=(4, 1, 2)
  )


@functools.cache
def _alone(params_key, config):
  params = slimmable.init(_NETWORK, jax.random.key(params_key))
  counts = _NETWORK.space.counts(config)
  run = jax.jit(
    lambda params, x: _NETWORK.apply({"params": params}, x, counts)[0]
  )
  return lambda x: jax.device_get(run(params, x))


_REQUESTS = st.lists(
  st.builds(
    width_requests.Request,
    st.sampled_from(_BUDGETS),
    st.sampled_from(_PREFERENCES),
  ),
  min_size=1,
  max_size=12,
)


@hypothesis.settings(max_examples=20)
@hypothesis.given(_REQUESTS)
def test_every_request_gets_what_it_would_get_alone(server, requests):
  inputs = _INPUTS[: len(requests)]
  answers = server(inputs, requests)
  for row, request in enumerate(requests):
    config = _plan(request).config
    assert answers.configs[row] == config
    one = _alone(0, config)(inputs[row : row + 1])
    for task, values in one.items():
      np.testing.assert_allclose(
        answers.predictions[task][row], values[0], rtol=1e-4, atol=1e-5
      )


def test_any_order_gives_the_same_answers(server):
  requests = [
    width_requests.Request(b, p)
    for b, p in itertools.product(_BUDGETS, _PREFERENCES)
  ]
  inputs = _INPUTS[: len(requests)]
  first = server(inputs, requests)
  assert set(first.predictions) == {"kind", "depth"}
  assert first.predictions["depth"].shape == (9, 4, 4, 1)
  for seed in range(3):
    order = np.random.default_rng(seed).permutation(len(requests))
    again = server(inputs[order], [requests[i] for i in order])
    assert again.configs == tuple(first.configs[i] for i in order)
    for task, values in again.predictions.items():
      np.testing.assert_allclose(
        values, first.predictions[task][order], rtol=1e-4, atol=1e-5
      )


def test_nothing_is_compiled_once_it_is_warm(server):
  rng = np.random.default_rng(1)
  before = server.compiled.counters.compiled
  events = []

  def listen(name, *_, **__):
    events.append(name)

  server(_INPUTS[:1], [width_requests.Request(0.4, _PREFERENCES[0])])
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    for _ in range(10):
      count = int(rng.integers(1, 13))
      requests = [
        width_requests.Request(
          _BUDGETS[rng.integers(3)], _PREFERENCES[rng.integers(3)]
        )
        for _ in range(count)
      ]
      server(_INPUTS[:count], requests)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  seen = [name for name in events if "backend_compile" in name]
  assert not seen
  assert server.compiled.counters.compiled == before
  assert not server.compiled.counters.evicted


def test_plans_outside_the_menu_are_served_for_no_more(params):
  narrow = _NETWORK.space.uniform(0.5)
  server = width_requests.RequestServer(
    _NETWORK, params, _plan, [narrow], sizes=(2,)
  )
  requests = [width_requests.Request(1.0, p) for p in _PREFERENCES]
  answers = server(_INPUTS[:3], requests)
  assert set(answers.configs) == {narrow}
  assert (answers.programs, answers.padding) == (2, 1)
  wide = width_requests.RequestServer(
    _NETWORK, params, _plan, [_NETWORK.space.uniform()], sizes=(1,)
  )
  with pytest.raises(compiled_widths.NotCompiled, match="prewarm a narrower"):
    wide(_INPUTS[:1], [width_requests.Request(0.4, _PREFERENCES[0])])


@hypothesis.given(
  st.integers(0, 200), st.sets(st.integers(1, 64), min_size=1, max_size=5)
)
def test_pieces_hold_all_and_waste_little(count, sizes):
  sizes = sorted(sizes)
  found = width_requests.pieces(count, sizes)
  assert set(found) <= set(sizes)
  assert sum(found) >= count
  assert sum(found[:-1]) < max(count, 1)
  if sizes[0] == 1:
    assert sum(found) - count <= count / 3


def test_pieces_by_hand():
  of = lambda count: width_requests.pieces(count, (1, 4, 16))  # noqa: E731
  assert of(0) == []
  assert of(3) == [4]
  assert of(2) == [1, 1]
  assert of(13) == [16]
  assert of(37) == [16, 16, 4, 1]


@pytest.mark.parametrize(
  ("rows", "requests", "message"),
  [
    (0, [], "at least one request"),
    (
      2,
      [width_requests.Request(0.5, _PREFERENCES[0])],
      r"\[1, 4, 4, 2\] for 1",
    ),
    (1, [width_requests.Request(-1.0, _PREFERENCES[0])], "request 0: a budget"),
    (1, [width_requests.Request(0.5, {"kind": 1.0})], "request 0: .*'depth'"),
    (1, [width_requests.Request(1e-3, _PREFERENCES[0])], "the smallest costs"),
  ],
)
def test_requests_that_cannot_be_are_refused(server, rows, requests, message):
  with pytest.raises(ValueError, match=message):
    server(_INPUTS[:rows], requests)


def test_empty_menus_are_refused(params):
  with pytest.raises(ValueError, match="must not be empty"):
    width_requests.RequestServer(_NETWORK, params, _plan, [])
  with pytest.raises(ValueError, match="at least 1, got 0"):
    width_requests.RequestServer(
      _NETWORK, params, _plan, [_NETWORK.space.uniform()], sizes=(0, 2)
    )
