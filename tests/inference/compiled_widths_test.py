# SPDX-License-Identifier: Apache-2.0
"""Serving widths: what is compiled, and when, and what is served instead."""

from collections.abc import Iterator
import concurrent.futures
import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import compiled_widths
from jaxttc.models.slimmable import costs, network, widths

_BATCH = 2
_SPEC = network.NetworkSpec(
  encoder={"kind": "mlp", "hidden": (8, 16)},
  tasks=(("depth", 2, False), ("kind", 3, False)),
  input_shape=(5,),
  hidden=8,
  menu=(0.5, 1.0),
  norm="none",
  quantum=4,
)
_NET = _SPEC.build()
_SPACE = _NET.space
_FULL, _HALF = _SPACE.uniform(), _SPACE.uniform(0.5)
_MIXED = _SPACE.config([1.0, 0.5, 1.0, 0.5])
_X = np.random.default_rng(0).normal(size=(_BATCH, 5)).astype(np.float32)
_COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(scope="module")
def params():
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(
    lambda key: network.init(_NET, key), jax.random.key(0)
  )
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes
  )


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
  """Whatever XLA compiles meanwhile, in any part of the program."""
  seen = []

  def listen(event, seconds, **details):
    del seconds, details
    if event == _COMPILED:
      seen.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield seen
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)


def _macs(config):
  return int(costs.tabulate(_NET, _SPACE.indices(config)[None]).macs[0])


def _close(found, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    found,
    expected,
  )


def test_as_many_programs_as_entries_and_none_when_served(params):
  served = compiled_widths.CompiledWidths(_NET, params)
  configs = (_FULL, _HALF, _MIXED)
  _macs(_FULL)  # the program that counts, once a network
  with compilations() as made:
    served.prewarm((*configs, _FULL), _BATCH)
  assert len(made) == served.counters.compiled == 3
  with compilations() as made:
    served.prewarm(configs, _BATCH)
    for config in configs * 3:
      served(_X, config)
  assert not made
  assert served.counters == compiled_widths.Counters(compiled=3, served=9)
  with compilations() as made:  # the listener does hear
    jax.jit(lambda x: x * 3.0 + 11.0).lower(jnp.zeros(7)).compile()
  assert made


def test_a_call_that_snaps_compiles_nothing_either(params):
  """Not even the program that counts what the asked width costs."""
  costs._tabulate.cache_clear()
  served = compiled_widths.CompiledWidths(_NET, params)
  served.prewarm((_HALF, _FULL), _BATCH)
  with compilations() as made:
    for indices in _SPACE.all_indices():
      served(_X, _SPACE.at(indices))
  assert not made
  assert served.counters.served == 16 and served.counters.snapped == 14


def test_served_is_what_the_network_says(params):
  served = compiled_widths.CompiledWidths(_NET, params)
  configs = (_FULL, _HALF, _MIXED)
  served.prewarm(configs, _BATCH)

  @jax.jit
  def expected(params, x):
    return [
      _NET.apply({"params": params}, x, _SPACE.counts(config))[0]
      for config in configs
    ]

  for config, right in zip(configs, expected(params, _X), strict=True):
    _close(served(_X, config), right)
    _close(served(jnp.asarray(_X), config), right)


def test_numpy_parameters_are_moved_to_the_device_once(params):
  served = compiled_widths.CompiledWidths(
    _NET, jax.tree.map(np.asarray, params)
  )
  served.prewarm([_HALF], _BATCH)
  x = jax.device_put(_X)
  with jax.transfer_guard_host_to_device("disallow"):
    served(x, _HALF)


def test_what_is_not_compiled_is_served_by_the_nearest_not_dearer(params):
  served = compiled_widths.CompiledWidths(_NET, params)
  kept = (_HALF, _MIXED, _SPACE.config([0.5, 1.0, 0.5, 0.5]))
  served.prewarm(kept, _BATCH)
  for row in _SPACE.all_indices():
    asked = _SPACE.at(row)
    found = served.nearest(asked, _BATCH)
    assert found in kept and _macs(found) <= _macs(asked)
    if asked in kept:
      assert found == asked
    away = {
      config: np.abs(_SPACE.indices(config) - row).sum()
      for config in kept
      if _macs(config) <= _macs(asked)
    }
    assert away[found] == min(away.values())
    assert _macs(found) == max(
      _macs(config) for config in away if away[config] == away[found]
    )
  asked = _SPACE.config([1.0, 0.5, 1.0, 1.0])
  assert served.nearest(asked, _BATCH) == _MIXED
  _close(served(_X, asked), served(_X, _MIXED))
  assert served.counters.snapped == 1 and served.counters.compiled == 3


def test_the_program_used_longest_ago_goes_first(params):
  served = compiled_widths.CompiledWidths(_NET, params, capacity=2)
  served.prewarm([_HALF, _FULL], _BATCH)
  served(_X, _HALF)
  served.prewarm([_MIXED], _BATCH)
  assert served.counters.evicted == 1
  assert served.nearest(_FULL, _BATCH) == _MIXED  # the full one is gone
  assert served.nearest(_HALF, _BATCH) == _HALF


def test_prewarming_never_gives_up_what_it_was_asked_for(params):
  served = compiled_widths.CompiledWidths(_NET, params, capacity=2)
  served.prewarm([_HALF, _FULL], _BATCH)
  served.prewarm([_HALF, _MIXED], _BATCH)
  for config in (_HALF, _MIXED):
    assert served.nearest(config, _BATCH) == config


def test_what_no_program_serves_is_refused(params):
  served = compiled_widths.CompiledWidths(_NET, params)
  with pytest.raises(
    compiled_widths.NotCompiled, match=r"no width is compiled .* \[2, 5\], flo"
  ):
    served(_X, _FULL)
  served.prewarm([], _BATCH)
  assert served.counters == compiled_widths.Counters()
  served.prewarm([_FULL], _BATCH)
  with pytest.raises(
    compiled_widths.NotCompiled,
    match=rf"costs at most {_macs(_HALF)} multiply-adds; prewarm a narrower",
  ):
    served(_X, _HALF)
  with pytest.raises(compiled_widths.NotCompiled, match=r"\[3, 5\], float32"):
    served(np.zeros((3, 5), np.float32), _FULL)
  with pytest.raises(compiled_widths.NotCompiled, match="int32"):
    served(np.zeros((_BATCH, 5), np.int32), _FULL)
  unknown = widths.WidthConfig((0.3, 1.0), _FULL.decoders)
  with pytest.raises(widths.UnknownWidth, match="'encoder0': 0.3"):
    served(_X, unknown)
  with pytest.raises(widths.UnknownWidth, match="'encoder0': 0.3"):
    served.prewarm([_FULL, unknown], _BATCH)
  assert served.counters == compiled_widths.Counters(compiled=1)


def test_capacities_are_checked(params):
  with pytest.raises(ValueError, match="capacity must be at least 1, got 0"):
    compiled_widths.CompiledWidths(_NET, params, capacity=0)
  served = compiled_widths.CompiledWidths(_NET, params, capacity=1)
  with pytest.raises(ValueError, match="2 widths exceed the capacity of 1"):
    served.prewarm([_FULL, _HALF], _BATCH)


def test_batch_norms_are_served_with_statistics_of_the_width():
  net = network.NetworkSpec(**vars(_SPEC) | {"norm": "batch"}).build()
  rng = np.random.default_rng(2)
  shapes = jax.eval_shape(lambda key: network.init(net, key), jax.random.key(0))
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes
  )
  batches = jnp.asarray(rng.normal(size=(2, 8, 5)), jnp.float32)
  measure = lambda config: network.recalibrate(net, params, config, batches)  # noqa: E731
  served = compiled_widths.CompiledWidths(net, params, statistics=measure)
  served.prewarm([_HALF], _BATCH)
  expected, _ = jax.jit(
    lambda variables, x: net.apply(variables, x, net.space.counts(_HALF))
  )(measure(_HALF), _X)
  _close(served(_X, _HALF), expected)
  bare = compiled_widths.CompiledWidths(net, params)
  with pytest.raises(ValueError, match="recalibrate this configuration"):
    bare.prewarm([_HALF], _BATCH)


def test_threads_share_programs(params):
  served = compiled_widths.CompiledWidths(_NET, params, capacity=3)
  configs = [_HALF, _FULL, _MIXED]
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: served.prewarm(configs, _BATCH), range(8)))
    assert served.counters.compiled == 3  # none of them twice
    right = {config: served(_X, config) for config in configs}
    asked = [configs[i % 3] for i in range(60)]
    for config, found in zip(
      asked, pool.map(lambda config: served(_X, config), asked), strict=True
    ):
      jax.tree.map(np.testing.assert_array_equal, found, right[config])
  assert served.counters.served == 63 and served.counters.snapped == 0


def test_images_are_served_as_the_network_says():
  """On CPUs, convolutions of few channels take neighbours together."""
  net = network.NetworkSpec(
    encoder={"kind": "residual", "stages": ((8, 1, 1), (16, 1, 2))},
    tasks=(("kind", 3, False),),
    input_shape=(8, 8, 3),
    hidden=8,
    quantum=4,
    menu=(0.5, 1.0),
  ).build()
  params = network.init(net, jax.random.key(0))
  served = compiled_widths.CompiledWidths(net, params)
  config = net.space.config([0.5, 1.0, 1.0])
  served.prewarm([config], _BATCH)
  x = np.random.default_rng(0).normal(size=(_BATCH, 8, 8, 3))
  x = jnp.asarray(x, jnp.float32)
  run = jax.jit(
    lambda params, x: net.apply({"params": params}, x, net.space.counts(config))
  )
  _close(served(x, config), run(params, x)[0])
  # This process traces everything else as before.
  assert "window_strides=(1, 4)" not in str(
    jax.make_jaxpr(lambda p: run(p, x))(params)
  )
