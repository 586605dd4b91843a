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
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models.slimmable import costs, network, widths


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
  """No program serves this width, or a narrower one, at this input shape."""


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
    self._params = params
    self._statistics = statistics or (lambda config: {})
    self._capacity = capacity
    self._programs: collections.OrderedDict = collections.OrderedDict()
    self._macs: dict[widths.WidthConfig, int] = {}
    self._lock = threading.Lock()

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
    space = self._net.space
    indices = np.array([space.indices(config) for config in configs])
    prices = costs.tabulate(self._net, indices).macs
    inputs = jax.ShapeDtypeStruct(
      (batch, *self._net.input_shape), jnp.dtype(dtype)
    )
    for config, price in zip(configs, prices, strict=True):
      key = (config, inputs.shape, inputs.dtype)
      with self._lock:
        self._macs[config] = int(price)
        if key in self._programs:
          continue
      entry = self._compile(config, inputs)
      with self._lock:
        self.counters.compiled += 1
        self._programs[key] = entry
        while len(self._programs) > self._capacity:
          self._programs.popitem(last=False)
          self.counters.evicted += 1

  def __call__(
    self, inputs: jax.Array, config: widths.WidthConfig
  ) -> dict[str, jax.Array]:
    """Predictions by task; compiles nothing.

    Raises:
      NotCompiled: if no program takes such inputs at this cost or less.
    """
    key = (config, inputs.shape, inputs.dtype)
    with self._lock:
      if key not in self._programs:
        key = (self._nearest(config, *key[1:]), *key[1:])
        self.counters.snapped += 1
      self._programs.move_to_end(key)
      self.counters.served += 1
      program, variables = self._programs[key]
    return program(self._params, variables, inputs)

  def nearest(
    self, config: widths.WidthConfig, batch: int, dtype=jnp.float32
  ) -> widths.WidthConfig:
    """The width that a call would be served at.

    Raises:
      NotCompiled: if there is none.
    """
    shape = (batch, *self._net.input_shape)
    with self._lock:
      if (config, shape, jnp.dtype(dtype)) in self._programs:
        return config
      return self._nearest(config, shape, jnp.dtype(dtype))

  def _nearest(self, config, shape, dtype):
    space = self._net.space
    indices = space.indices(config)
    most = self._macs.get(config)
    if most is None:
      most = int(costs.tabulate(self._net, indices[None]).macs[0])
      self._macs[config] = most
    known = [
      other
      for other, *inputs in self._programs
      if tuple(inputs) == (shape, dtype) and self._macs[other] <= most
    ]
    if not known:
      raise NotCompiled(
        f"no compiled width costs at most {most} multiply-adds for inputs of "
        f"shape {list(shape)}, {dtype}; prewarm a narrower one"
      )
    away = lambda other: (  # noqa: E731
      int(np.abs(space.indices(other) - indices).sum()),
      -self._macs[other],
    )
    return min(known, key=away)

  def _compile(self, config, inputs):
    counts = self._net.space.counts(config)
    variables = self._statistics(config)

    def predict(params, variables, inputs):
      return self._net.apply({"params": params} | variables, inputs, counts)[0]

    program = jax.jit(predict).lower(self._params, variables, inputs).compile()
    return program, variables
