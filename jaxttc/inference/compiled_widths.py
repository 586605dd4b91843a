# SPDX-License-Identifier: Apache-2.0
"""Serving a slimmable network: one compiled program a width, made beforehand.

Each program cuts its weights out of the one set of parameters, so that a switch
costs a dictionary look-up: nothing is compiled, and no weights are copied but
the slices that the program reads. There are more configurations than anyone can
compile; a request for one without a program is served by the nearest that has
one and does not cost more.
"""

import collections
from collections.abc import Callable, Iterable
import dataclasses
import functools
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models.slimmable import costs, network, widths, windows

_REMEMBERED = 4096  # configurations whose price is at hand


@dataclasses.dataclass
class Counters:
  """What a `CompiledWidths` has done.

  Attributes:
    compiled: programs made.
    served: calls answered.
    snapped: calls answered at another width than asked for.
    evicted: programs given up for newer ones.
  """

  compiled: int = 0
  served: int = 0
  snapped: int = 0
  evicted: int = 0


class NotCompiled(ValueError):
  """No program serves this width, or a cheaper one, at this input shape."""


class _Program(NamedTuple):
  """A width's program: run(params, variables, inputs) -> predictions.

  Attributes:
    run: compiled for one input shape and dtype.
    variables: what it reads besides parameters.
    indices: places of its ratios in the menu, i32[groups].
    macs: what it costs an example.
  """

  run: Callable[..., dict[str, jax.Array]]
  variables: dict[str, Any]
  indices: np.ndarray
  macs: int


class CompiledWidths:
  """Programs of one network, by width and input shape. Threads may share it."""

  def __init__(
    self,
    net: network.MultiTaskNetwork,
    params: Any,
    *,
    statistics: Callable[[widths.WidthConfig], dict[str, Any]] | None = None,
    capacity: int = 32,
  ):
    """Holds a network; compiles nothing yet.

    Args:
      net: the network.
      params: its parameters, at full width. They are never donated.
      statistics: config -> further variables, such as the "batch_stats" that
        `network.recalibrate` measures; None if the norms need none.
      capacity: programs kept; the one used longest ago goes first.

    Raises:
      ValueError: if the capacity is not positive.
    """
    if capacity < 1:
      raise ValueError(f"capacity must be at least 1, got {capacity}")
    self.counters = Counters()
    self._net = net
    self._space = net.space
    self._params = jax.tree.map(jnp.asarray, params)  # on the device, once
    devices = jax.tree.leaves(self._params)[0].devices()
    self._on_cpu = all(device.platform == "cpu" for device in devices)
    self._statistics = statistics or (lambda config: {})
    self._capacity = capacity
    self._programs: collections.OrderedDict = collections.OrderedDict()
    self._macs = functools.lru_cache(_REMEMBERED)(self._count_macs)
    self._lock = threading.Lock()  # of programs and counters
    self._compiling = threading.Lock()  # no program is made twice

  def prewarm(
    self,
    configs: Iterable[widths.WidthConfig],
    batch: int,
    dtype: jax.typing.DTypeLike = jnp.float32,
  ) -> None:
    """Compiles the programs of some widths for batches of one size.

    Raises:
      UnknownWidth: if the network is not trained at a width.
      ValueError: if they are more than the capacity.
    """
    configs = list(dict.fromkeys(configs))
    if len(configs) > self._capacity:
      raise ValueError(
        f"{len(configs)} widths exceed the capacity of {self._capacity}"
      )
    for config in configs:
      self._space.check(config)
    inputs = jax.ShapeDtypeStruct(
      (batch, *self._net.input_shape), jnp.dtype(dtype)
    )
    with self._compiling:
      for config in configs:
        self._keep(config, inputs)

  def _keep(self, config, inputs):
    """Makes a program unless it is there; it is now the newest."""
    key = (config, inputs.shape, inputs.dtype)
    with self._lock:
      if key in self._programs:
        self._programs.move_to_end(key)
        return
    program = self._compile(config, inputs)
    with self._lock:
      self.counters.compiled += 1
      self._programs[key] = program
      while len(self._programs) > self._capacity:
        self._programs.popitem(last=False)
        self.counters.evicted += 1

  def __call__(
    self, inputs: jax.Array | np.ndarray, config: widths.WidthConfig
  ) -> dict[str, jax.Array]:
    """Predictions by task; compiles nothing.

    Raises:
      NotCompiled: if no program takes such inputs at this cost or less.
      UnknownWidth: if the network is not trained at this width.
    """
    key = (config, inputs.shape, inputs.dtype)
    with self._lock:
      if key not in self._programs:
        key = (self._nearest(*key), *key[1:])
        self.counters.snapped += 1
      self._programs.move_to_end(key)
      self.counters.served += 1
      program = self._programs[key]
    return program.run(self._params, program.variables, inputs)

  def nearest(
    self,
    config: widths.WidthConfig,
    batch: int,
    dtype: jax.typing.DTypeLike = jnp.float32,
  ) -> widths.WidthConfig:
    """The width that a call would be served at.

    Raises:
      NotCompiled: if there is none.
      UnknownWidth: if the network is not trained at this width.
    """
    key = (config, (batch, *self._net.input_shape), jnp.dtype(dtype))
    with self._lock:
      return config if key in self._programs else self._nearest(*key)

  def _nearest(self, config, shape, dtype):
    """Fewest steps of the menu away; of those that are as near, the dearest."""
    indices = self._space.indices(config)
    most = self._macs(config)
    known = {
      other: program
      for (other, *inputs), program in self._programs.items()
      if tuple(inputs) == (shape, dtype)
    }
    if not known:
      raise NotCompiled(
        f"no width is compiled for inputs of shape {list(shape)}, {dtype}; "
        "prewarm one"
      )
    away = {
      other: (int(np.abs(program.indices - indices).sum()), -program.macs)
      for other, program in known.items()
      if program.macs <= most
    }
    if not away:
      raise NotCompiled(
        f"no width compiled for inputs of shape {list(shape)}, {dtype} costs "
        f"at most {most} multiply-adds; prewarm a narrower one"
      )
    return min(away, key=lambda other: away[other])

  def _count_macs(self, config):
    indices = self._space.indices(config)[None]
    return int(costs.tabulate(self._net, indices).macs[0])

  def _compile(self, config, inputs):
    counts = self._space.counts(config)
    variables = jax.tree.map(jnp.asarray, self._statistics(config))

    def predict(params, variables, inputs):
      return self._net.apply({"params": params} | variables, inputs, counts)[0]

    with windows.form_for_cpus(self._on_cpu):
      lowered = jax.jit(predict).lower(self._params, variables, inputs)
    run = lowered.compile()
    # Counting compiles as well, once a network: now, not when a call snaps.
    macs = self._macs(config)
    return _Program(run, variables, self._space.indices(config), macs)
