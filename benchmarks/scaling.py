# SPDX-License-Identifier: Apache-2.0
"""What a decoding step costs, against branches, depth and capacity.

Beside each measurement stands its floor, the roofline of this core: the longer
of the time that the matrix products take at the measured peak, and the time
that weights, keys and values take at the measured bandwidth.
"""

from collections.abc import Callable, Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
from matplotlib import figure as figure_lib
from matplotlib import ticker

from benchmarks import decoding, timing
from jaxttc.cost import transformer_flops
from jaxttc.inference import controllers, generation, tree_cache
from jaxttc.models import config as config_lib
from jaxttc.models import transformer

_STEPS = (8, 40)  # timed lengths; their difference has no fixed costs
_COLUMNS = 64
_BYTES = 4  # float32
_PASSES = 20  # over the weights, in one timed run


def measured_peaks(weights: int, repeats: int = 9) -> dict[str, float]:
  """What this core can do at best, by two programs that do little else.

  Args:
    weights: float32 numbers to stream. A model that fits a cache is read
      faster than memory allows, so take as many as the model has.
    repeats: timed runs of each; the least time counts.

  Returns:
    FLOP/s of a float32 matrix product, and bytes/s of streaming reads.
  """
  square = jnp.ones((1024, 1024))
  matrix = jnp.ones((weights // 512, 512))
  product = jax.jit(lambda a: a @ a)

  @jax.jit
  def stream(matrix, x):
    # Each pass depends on the one before, so none is left out.
    one = lambda _, x: (x @ matrix)[:1] * 0 + x  # noqa: E731
    return jax.lax.fori_loop(0, _PASSES, one, x)

  seconds = timing.by_turns(
    {
      "product": lambda: product(square),
      "stream": lambda: stream(matrix, jnp.ones((matrix.shape[0],))),
    },
    repeats,
  )
  read = _PASSES * matrix.size * _BYTES
  return {
    "flops_per_s": 2 * 1024**3 / min(seconds["product"]),
    "bytes_per_s": read / min(seconds["stream"]),
  }


def floor_seconds(
  config: config_lib.TransformerConfig,
  peaks: dict[str, float],
  branches: int,
  shared: int,
) -> float:
  """The roofline of a step: `branches` rows after `shared` cached tokens.

  The prefix is read once for all rows; rows have half their scratch behind
  them, on average.
  """
  shape = config.shape()
  own = _COLUMNS // 2
  flops = branches * transformer_flops.decode_flops(shape, shared + own)
  cached = (shared + branches * own) * transformer_flops.kv_bytes_per_token(
    shape, _BYTES
  )
  weights = transformer_flops.matmul_weights(shape) * _BYTES
  return max(
    flops / peaks["flops_per_s"], (weights + cached) / peaks["bytes_per_s"]
  )


def step_seconds(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  branches: int,
  capacity: int,
  used: int,
  repeats: int = 4,
) -> float:
  """CPU seconds of one decoding step of one tree.

  Args:
    config: sizes of the model.
    params: its parameters.
    branches: rows.
    capacity: slots of the tree cache.
    used: of which hold the prefix.
    repeats: timed runs; the least counts.
  """
  run = _steps(config, branches, capacity, used)
  seconds = timing.by_turns(
    {str(n): lambda n=n: run(params, n) for n in _STEPS}, repeats
  )
  few, many = (min(seconds[str(n)]) for n in _STEPS)
  return (many - few) / (_STEPS[1] - _STEPS[0])


def _steps(config, branches, capacity, used) -> Callable[[Any, int], Any]:
  """(params, steps) -> what `steps` steps have written."""
  bend = controllers.identity()
  cache = tree_cache.init(config, 1, capacity)
  filled = jnp.arange(capacity)[None] < used
  cache = cache.replace(owner=jnp.where(filled, 0, tree_cache.FREE))
  work = decoding.requests(
    jnp.zeros((1, used), jnp.int32),
    jnp.full((1,), used - 1, jnp.int32),
    branches,
    _COLUMNS,
    jax.random.key(0),
  )

  @jax.jit
  def run(params, steps):
    path = tree_cache.path_mask(
      cache.owner, jnp.full((1, 1), -1, jnp.int32), work.node
    )
    rows = generation.idle_rows(config, 1, branches, _COLUMNS, capacity, bend)
    rows = generation.decode(
      transformer.Transformer(config),
      params,
      cache,
      generation.assign(rows, work, path, bend),
      decoding.endless(config.vocab_size),
      bend,
      controllers.sample,
      steps,
    )
    return rows.written

  return run


def measure(
  config: config_lib.TransformerConfig,
  params: Any,
  *,
  branches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
  capacities: Sequence[int] = (64, 128, 256, 512, 1024, 2048, 4096),
  prefix: int = 256,
) -> dict[str, Any]:
  """Times a step against branches, and against capacity.

  Args:
    config: sizes of the model.
    params: its parameters.
    branches: rows of one tree, after `prefix` tokens that fill the cache.
    capacities: slots of a tree of 16 rows, 64 of them used.
    prefix: tokens behind the branches.

  Returns:
    `peaks`, and two tables of seconds a step and floors.
  """
  peaks = measured_peaks(transformer_flops.matmul_weights(config.shape()))

  def row(rows, capacity, used):
    return {
      "branches": rows,
      "capacity": capacity,
      "used": used,
      "seconds": step_seconds(
        config, params, branches=rows, capacity=capacity, used=used
      ),
      "floor": floor_seconds(config, peaks, rows, used),
    }

  return {
    "peaks": peaks,
    "branches": [row(r, prefix, prefix) for r in branches],
    "capacity": [row(16, c, 64) for c in capacities],
  }


def draw(
  scaling: dict[str, Any],
  tree_rows: Sequence[dict[str, Any]],
  path: str | os.PathLike[str],
) -> None:
  """Draws time against branches, depth and capacity.

  Args:
    scaling: what `measure` returns.
    tree_rows: rows of `tree_reuse.against_recompute`; the last is drawn.
    path: the picture's file.
  """
  figure = figure_lib.Figure(figsize=(9.0, 3.2), layout="constrained")
  panels = figure.subplots(1, 3)
  for panel, name in ((panels[0], "branches"), (panels[2], "capacity")):
    table = scaling[name]
    x = [row[name] for row in table]
    for key, style, label in (
      ("seconds", "o-", "measured"),
      ("floor", "--", "roofline"),
    ):
      panel.plot(x, [1e3 * row[key] for row in table], style, label=label)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_minor_formatter(ticker.NullFormatter())
    for axis in (panel.xaxis, panel.yaxis):
      axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    panel.set_ylabel("ms a step")
  panels[0].set_xlabel("branches of one tree")
  panels[2].set_xlabel("cache capacity (64 tokens used)")
  levels = tree_rows[-1]["levels"]
  for name, label in (
    ("recomputed", "prefixes recomputed"),
    ("remembered", "tree cache"),
  ):
    depth = range(1, len(levels[name]) + 1)
    panels[1].plot(depth, levels[name], "o-", label=label)
  panels[1].set_xlabel("depth of the search, steps")
  panels[1].set_ylabel("s, up to this depth")
  panels[1].set_ylim(bottom=0)
  for panel in panels:
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
  figure.suptitle("One core, one thread, float32", fontsize=11)
  figure.savefig(path, dpi=200, facecolor="white")
