# SPDX-License-Identifier: Apache-2.0
"""What a run computes, by five methods, each as sure as it can be.

  from_config     sizes and tokens, in closed form
  from_hf_config  the same, of a checkpoint's config.json
  from_trace      the jaxpr, walked
  from_compiled   what the compiler reports, with its loops put right
  from_hardware   devices, seconds, and a utilisation

One multiply-add is two FLOP. FLOP is an amount, FLOP/s a rate.

References:
  Sevilla et al. (2022), Estimating training compute of deep learning models
    (Epoch AI): counting operations, and hardware time by a utilisation that is
    0.3 for language models and 0.4 for others where it is unknown.
  Chowdhery et al. (2022), PaLM, table 3, for utilisations of large runs.
"""

from collections.abc import Callable, Iterable
import dataclasses
import math
import os
from typing import Any, Protocol, runtime_checkable

import jax

from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import jaxpr_flops, stored_shape, transformer_flops

Estimate = estimate_lib.Estimate

WORK = ("train", "forward", "decode")
# What is added to a dense rectangle for what is not a matrix product: norms,
# softmax, activations, losses. Compilers report 4 % on a tiny transformer.
_ELEMENTWISE = 0.05
# Nine of ten published utilisations of large runs lie within this factor of
# Epoch's 0.3 (0.17 to 0.53); small or untuned runs may lie far below.
_UTILISATION_FACTOR = 1.75
UTILISATION = {"language": 0.3, "other": 0.4}


@runtime_checkable
class HasShape(Protocol):
  """A model's config, of a room above."""

  def shape(self) -> transformer_flops.TransformerShape:
    """The sizes that its cost depends on."""
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
  """What a model was made to do.

  Attributes:
    tokens: processed, padding included.
    length: tokens of one sequence, or of a decoded text with its prompt.
    kind: "train" (forward and backward), "forward" (scores, prefills,
      teachers), or "decode" (one token after the other, over a cache).
    remat: whether the forward pass is computed again for the backward one.
    trainable: share of the matrix weights that get a gradient; 1 is all. Low-
      rank adapters beside the model are a model of their own.
    masked: whether the kernel is known to compute scores that a mask hides.
  """

  tokens: int | float
  length: int | float
  kind: str = "train"
  remat: bool = False
  trainable: float = 1.0
  masked: bool = False

  def __post_init__(self):
    if self.kind not in WORK:
      raise ValueError(
        f"Work.kind must be one of {', '.join(WORK)}, got {self.kind!r}"
      )
    for name, least in (("tokens", 0), ("length", 1)):
      value = getattr(self, name)
      if not least <= value < math.inf:
        raise ValueError(
          f"Work.{name} must be finite and at least {least}, got {value}"
        )
    if not 0 <= self.trainable <= 1:
      raise ValueError(
        f"Work.trainable must be in [0, 1], got {self.trainable}"
      )


def from_config(
  model: transformer_flops.TransformerShape | HasShape, work: Work
) -> Estimate:
  """FLOP of some work, from the model's sizes.

  The value counts what a causal text needs: every token attends to those
  before it. Kernels that compute masked scores, too, do more, and nobody counts
  what is not a matrix product: the interval reaches from the causal count to a
  dense rectangle and 5 %.

  Args:
    model: sizes, or a config that has them.
    work: what was done.
  """
  causal, dense = _closed_forms(_shape(model), work)
  return Estimate(
    value=dense if work.masked else causal,
    low=dense if work.masked else causal,
    high=dense * (1 + _ELEMENTWISE),
    unit="FLOP",
    method="closed form",
    shared="masked scores and elementwise work",
  )


def recomputed(
  model: transformer_flops.TransformerShape | HasShape, work: Work
) -> float:
  """FLOP of some work that only saves memory: rematerialisation's."""
  plain = dataclasses.replace(work, remat=False)
  return from_config(model, work).value - from_config(model, plain).value


def from_hf_config(directory: str | os.PathLike[str], work: Work) -> Estimate:
  """FLOP of some work, from the sizes in a checkpoint's `config.json`.

  Raises:
    ValueError: as `stored_shape.read` does.
  """
  return from_config(stored_shape.read(directory), work)


def from_trace(
  fn: Callable[..., Any],
  *args: Any,
  while_trips: int | Iterable[int] | None = None,
) -> Estimate:
  """FLOP of the matrix products of `fn(*args)`, by walking its jaxpr.

  Exact in what it counts; the interval's upper end is for elementwise work.

  Raises:
    ValueError: as `jaxpr_flops.count_flops` does.
  """
  count = jaxpr_flops.count_flops(fn, *args, while_trips=while_trips)
  return Estimate(
    value=count,
    low=count,
    high=count * (1 + _ELEMENTWISE),
    unit="FLOP",
    method="traced",
    shared="elementwise work",
  )


def from_compiled(
  fn: Callable[..., Any],
  *args: Any,
  while_trips: int | Iterable[int] | None = None,
) -> Estimate:
  """FLOP of `fn(*args)` as the compiler reports it, its loops put right.

  A compiler counts the body of a loop once. What the other trips multiply is
  added from the jaxpr, unless the report has it already (an unrolled loop).
  Elementwise work is in the report, but for those trips. Reports change with
  backend and fusion: a second opinion, not a count.

  Args:
    fn: a function of arrays, jitted or not.
    *args: example arguments.
    while_trips: as in `from_trace`.

  Raises:
    ValueError: if the compiler reports nothing, as backends do for calls of
      libraries, or as `jaxpr_flops.count_flops` does.
  """
  bounds = while_trips
  if bounds is not None and not isinstance(bounds, int):
    bounds = tuple(bounds)
  full = jaxpr_flops.count_flops(fn, *args, while_trips=bounds)
  once = jaxpr_flops.count_flops(fn, *args, while_trips=bounds, loops_once=True)
  compiled = jax.jit(fn).lower(*args).compile()
  reported = reported_flops(compiled) * _devices(compiled)
  value = reported + (full - once if reported < full else 0)
  spread = max(abs(value - full), _ELEMENTWISE * value)
  return Estimate(
    value=value,
    low=max(value - spread, min(value, full)),
    high=value + spread,
    unit="FLOP",
    method="compiler's report, loops put right",
    provenance="modelled",
    shared="compiler's count",
  )


def reported_flops(compiled: Any) -> float:
  """What a compiled program's cost analysis says, on one device.

  Raises:
    ValueError: if it says nothing, or a negative number.
  """
  analysis = compiled.cost_analysis()
  if isinstance(analysis, list | tuple):  # a dict a program, in older versions
    analysis = analysis[0] if analysis else None
  flops = (analysis or {}).get("flops", -1)
  if not flops >= 0:
    raise ValueError(
      f"the compiler reports {flops} FLOP, as backends do where a library "
      "does the work; count with from_trace"
    )
  return float(flops)


def from_hardware(
  device: hardware_lib.Hardware | str,
  count: int,
  seconds: int | float,
  dtype: str,
  utilisation: Estimate | int | float | None = None,
  kind: str = "language",
) -> Estimate:
  """FLOP of so many devices in so much time.

  Args:
    device: hardware, or its name in the registry.
    count: of devices.
    seconds: of wall-clock time on all of them.
    dtype: of the products; peaks are dense.
    utilisation: share of the peak, in (0, 1], known or estimated; None takes
      Epoch's for the kind, within a factor of 1.75 either way.
    kind: "language" or "other".

  Raises:
    ValueError: for unknown hardware, a dtype without a peak, no devices, time
      or utilisation out of range, or an estimate that is none of a share.
  """
  if isinstance(device, str):
    device = hardware_lib.lookup(device)
  if count < 1 or count != int(count):
    raise ValueError(f"count must be a whole number of devices, got {count}")
  if not 0 <= seconds < math.inf:
    raise ValueError(f"seconds must be finite and not negative, got {seconds}")
  share = _utilisation(utilisation, kind)
  peak = count * seconds * device.peak(dtype)
  return Estimate(
    value=peak * share.value,
    low=peak * share.low,
    high=peak * share.high,
    unit="FLOP",
    method=f"hardware time ({count} x {device.name}, {dtype})",
    provenance="modelled" if utilisation is not None else "assumed",
    shared=share.shared,
  )


def _utilisation(given: Estimate | int | float | None, kind: str) -> Estimate:
  if kind not in UTILISATION:
    raise ValueError(
      f"kind must be one of {', '.join(UTILISATION)}, got {kind!r}"
    )
  if given is None:
    value = UTILISATION[kind]
    return Estimate(
      value=value,
      low=value / _UTILISATION_FACTOR,
      high=value * _UTILISATION_FACTOR,
      unit="1",
      method="Epoch AI's default utilisation",
      provenance="assumed",
      shared=f"utilisation of {kind} runs",
    )
  if not isinstance(given, Estimate):
    given = Estimate.exact(given, "1", "utilisation given", "assumed")
  estimate_lib.require(given, "1", "utilisation")
  if not (0 < given.low and given.high <= 1):
    raise ValueError(
      f"utilisation must lie in (0, 1], got [{given.low:g}, {given.high:g}]; "
      "above 1, FLOP, seconds, dtype or the number of devices are wrong"
    )
  return given


def _shape(
  model: transformer_flops.TransformerShape | HasShape,
) -> transformer_flops.TransformerShape:
  if isinstance(model, transformer_flops.TransformerShape):
    return model
  return model.shape()


def _closed_forms(
  shape: transformer_flops.TransformerShape, work: Work
) -> tuple[float, float]:
  """FLOP with causal, and with dense, attention.

  Attention to one's own text: (length + 1) / 2 positions a token on average,
  of the length that a dense kernel computes. A cache is read up to the token
  either way, so decoding has no rectangle.
  """
  token = transformer_flops.token_flops(shape)
  position = transformer_flops.context_flops(shape)
  causal = work.tokens * (token + position * (work.length + 1) / 2)
  rectangle = work.tokens * (token + position * work.length)
  dense = causal if work.kind == "decode" else rectangle
  times = 1.0
  if work.kind == "train":
    # Forward, the gradient of what goes in, the gradient of the weights.
    times = 2.0 + work.trainable + (1.0 if work.remat else 0.0)
    frozen = (1 - work.trainable) * work.tokens * position
    # Frozen weights get no gradient; attention has none, and stays whole.
    return (
      times * causal + frozen * (work.length + 1) / 2,
      times * dense + frozen * work.length,
    )
  return times * causal, times * dense


def _devices(compiled: Any) -> int:
  """Devices that a compiled program runs on: reports are of one."""
  leaves = jax.tree.leaves(compiled.input_shardings)
  return max((len(leaf.device_set) for leaf in leaves), default=1)
