# SPDX-License-Identifier: Apache-2.0
"""How long every width of a network takes on this machine, from a table.

There are too many configurations to time each. But decoders do not see each
other, so what one adds to the latency depends on its own width and on that of
the encoder's last group, whose features it reads:

  latency = encoder with the narrowest decoders + what each wider decoder adds.

menu ** stages programs time the encoder, menu * (menu - 1) a task the decoders.
Prices must not fall when a width rises, and measured times do, by noise; so
each entry is raised to the largest of those that are nowhere wider.
"""

from collections.abc import Callable
import dataclasses
import hashlib
import json
import os
import pathlib
import statistics as statistics_lib
import time
from typing import Any
import uuid

import jax
import numpy as np

from jaxttc import results
from jaxttc.inference import compiled_widths
from jaxttc.models import slimmable

MOST_PROGRAMS = 1024  # that anyone will wait for
_KIND = "width_latency"
_WARM_UP = 3  # calls


@dataclasses.dataclass(frozen=True)
class LatencyTable:
  """Milliseconds of every configuration; a function for `WidthPrices`.

  Attributes:
    encoder: f64[menu, .., menu], an axis an encoder group: with the narrowest
      decoders.
    decoders: f64[menu, K, menu]: what the decoder of a task adds, by the menu
      index of the encoder's last group, task, and its own menu index.
    batch: examples a call.
  """

  encoder: np.ndarray
  decoders: np.ndarray
  batch: int

  def __call__(self, indices: np.ndarray) -> np.ndarray:
    """Milliseconds f64[N] a batch, at menu indices i32[N, groups]."""
    indices = np.asarray(indices)
    stages, tasks = self.encoder.ndim, self.decoders.shape[1]
    encoder, own = indices[:, :stages], indices[:, stages:]
    last = encoder[:, -1, None]
    added = self.decoders[last, np.arange(tasks)[None], own]
    return self.encoder[tuple(encoder.T)] + added.sum(1)


def programs(space: slimmable.WidthSpace) -> int:
  """How many programs a table of a network takes."""
  entries = len(space.menu)
  tasks = len(space.tasks)
  return entries ** len(space.encoder) + entries * (entries - 1) * tasks


def compose(
  space: slimmable.WidthSpace,
  latency_ms: Callable[[slimmable.WidthConfig], float],
  batch: int,
) -> LatencyTable:
  """Makes a table from timings of single configurations.

  Args:
    space: the widths.
    latency_ms: times one configuration, in milliseconds a batch.
    batch: examples a call, for the record.

  Raises:
    ValueError: if it would take more than `MOST_PROGRAMS` timings.
  """
  stages, entries = len(space.encoder), len(space.menu)
  tasks = len(space.tasks)
  if programs(space) > MOST_PROGRAMS:
    raise ValueError(
      f"a table of latencies would take {programs(space)} programs, more than "
      f"{MOST_PROGRAMS}: the encoder has {stages} width groups of {entries} "
      "widths each; give the budget in macs instead"
    )
  shared = space.all_indices(stages)
  narrow = np.zeros(tasks, np.int32)
  at = lambda encoder, own: latency_ms(  # noqa: E731
    space.at(np.concatenate([encoder, own]))
  )
  encoder = np.array([at(row, narrow) for row in shared])
  encoder = encoder.reshape((entries,) * stages)
  decoders = np.zeros((entries, tasks, entries))
  for last in range(entries):
    before = np.zeros(stages, np.int32)
    before[-1] = last
    for task in range(tasks):
      for own in range(1, entries):
        wider = narrow.copy()
        wider[task] = own
        added = at(before, wider) - encoder[tuple(before)]
        decoders[last, task, own] = added
  for axis in range(stages):
    encoder = np.maximum.accumulate(encoder, axis)
  for axis in (0, 2):
    decoders = np.maximum.accumulate(decoders, axis)
  return LatencyTable(encoder, decoders, batch)


def measure(
  spec: slimmable.NetworkSpec,
  params: Any,
  *,
  batch: int = 32,
  repeats: int = 15,
  statistics: Callable[[slimmable.WidthConfig], dict[str, Any]] | None = None,
) -> LatencyTable:
  """Times a network on this machine.

  Args:
    spec: the network.
    params: its parameters, at full width.
    batch: examples a call.
    repeats: timed calls of each program, of which the median counts.
    statistics: as `CompiledWidths` takes them.

  Raises:
    ValueError: as `compose`, or if a number is not positive.
  """
  network = spec.build()
  one = compiled_widths.CompiledWidths(
    network, params, statistics=statistics, capacity=1
  )
  return compose(
    network.space,
    lambda config: median_ms(one, network, config, batch, repeats),
    batch,
  )


def median_ms(
  compiled: compiled_widths.CompiledWidths,
  network: slimmable.MultiTaskNetwork,
  config: slimmable.WidthConfig,
  batch: int,
  repeats: int = 15,
) -> float:
  """Median wall time of a call in milliseconds, after a warm-up.

  Raises:
    ValueError: if batch or repeats are not positive.
    UnknownWidth: if the network is not trained at this width.
  """
  if batch < 1 or repeats < 1:
    raise ValueError(
      f"batch and repeats must be at least 1, got {batch} and {repeats}"
    )
  rng = np.random.default_rng(0)
  shape = (batch, *network.input_shape)
  inputs = jax.device_put(rng.normal(size=shape).astype(np.float32))
  compiled.prewarm([config], batch)
  seconds = []
  for _ in range(_WARM_UP + repeats):
    start = time.perf_counter()
    jax.block_until_ready(compiled(inputs, config))
    seconds.append(time.perf_counter() - start)
  return 1e3 * statistics_lib.median(seconds[_WARM_UP:])


def save(
  path: str | os.PathLike[str], table: LatencyTable, spec: slimmable.NetworkSpec
) -> None:
  """Writes a table, with the network and the machine it is of, as JSON.

  Raises:
    ValueError: if it cannot be written.
  """
  content = {
    "kind": _KIND,
    "network": _fingerprint(spec),
    "environment": results.environment(),
    "batch": table.batch,
    "encoder": table.encoder.tolist(),
    "decoders": table.decoders.tolist(),
  }
  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
  try:
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    os.replace(partial, path)
  except OSError as error:
    raise ValueError(f"{path}: cannot be written: {error.strerror}") from None
  finally:
    partial.unlink(missing_ok=True)


def load(
  path: str | os.PathLike[str], spec: slimmable.NetworkSpec, batch: int
) -> LatencyTable:
  """Reads what `save` wrote, on the same machine.

  Args:
    path: the file.
    spec: the network that it must be of.
    batch: examples a call that it must be of.

  Raises:
    ValueError: if the file is missing or damaged, or is of another network,
      batch or machine.
  """
  path = pathlib.Path(path)
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["kind"] != _KIND:
      raise ValueError(f"is of kind {content['kind']!r}")
    table = LatencyTable(
      np.array(content["encoder"], np.float64),
      np.array(content["decoders"], np.float64),
      int(content["batch"]),
    )
    environment, network = dict(content["environment"]), content["network"]
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path}: expected a table of latencies: {error}"
    ) from None
  here = results.environment()
  if environment != here:
    other = next(name for name in here if environment.get(name) != here[name])
    raise ValueError(
      f"{path}: measured on another machine: its {other} was "
      f"{environment.get(other)}, here it is {here[other]}"
    )
  if network != _fingerprint(spec):
    raise ValueError(f"{path}: measured of another network")
  if table.batch != batch:
    raise ValueError(f"{path}: measured at batch {table.batch}, not {batch}")
  _check(path, table, spec)
  return table


def _check(path, table, spec):
  space = spec.build().space
  entries, stages, tasks = (
    len(space.menu),
    len(space.encoder),
    len(space.tasks),
  )
  shapes = (table.encoder.shape, table.decoders.shape)
  expected = ((entries,) * stages, (entries, tasks, entries))
  if shapes != expected:
    raise ValueError(f"{path}: has shapes {shapes}, expected {expected}")
  for values in (table.encoder, table.decoders):
    if not (np.isfinite(values).all() and (values >= 0).all()):
      raise ValueError(f"{path}: latencies must be finite and not negative")


def _fingerprint(spec: slimmable.NetworkSpec) -> str:
  text = json.dumps(spec.to_dict(), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
