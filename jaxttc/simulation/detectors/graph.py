# SPDX-License-Identifier: Apache-2.0
"""A data-collection pipeline as an immutable graph of stages and links.

Detectors are the leaves, the store is the one root. Every stage adds bytes to
the messages that reach it, spends operations on them, keeps one in `reduction`,
and compresses what it hands on. All numbers are leaves of a pytree, so that a
graph can be mapped over and differentiated; names and shape are static.
"""

from collections.abc import Iterable
import graphlib
import math
from typing import Any

import flax
import jax
from jaxtyping import Array, Float

from jaxttc.simulation.detectors import classifiers, parameters
from jaxttc.simulation.detectors import complexity as complexity_lib

Scalar = Float[Array, ""] | float

# Rates of fragments of one event may differ by this share.
_RATE_TOLERANCE = 1e-3


@flax.struct.dataclass(kw_only=True)
class Stage:
  """One node.

  Attributes:
    name: unique in the graph.
    sample_rate: events a second that a detector sees, Hz; None for stages that
      receive theirs.
    data_bytes: bytes that the stage adds to each message.
    reduction: it keeps one event in so many, >= 1.
    classifier: what it tells relevant events by.
    compression: share of a message's bytes that it takes away, in [0, 1).
    complexity: operations on a message of so many bytes.
    op_energy: J per operation, with the technology of 2022.
    op_latency: s per operation.
    parallelism: operations on one message that run at once.
    loading: f[2], of its score on the factor common to all stages (see
      `copula`), for irrelevant and for relevant events, in (-1, 1).
    price: dollars for the capacity of one operation a second.
  """

  name: str = flax.struct.field(pytree_node=False)
  sample_rate: Scalar | None = None
  data_bytes: Scalar = 0.0
  reduction: Scalar = 1.0
  classifier: classifiers.Classifier = classifiers.Pass()
  compression: Scalar = 0.0
  complexity: complexity_lib.Complexity = complexity_lib.Linear()
  op_energy: Scalar = 0.0
  op_latency: Scalar = 0.0
  parallelism: Scalar = 1.0
  loading: Any = (0.0, 0.0)
  price: Scalar = 0.0

  @property
  def active(self) -> bool:
    """Whether the stage classifies."""
    return not isinstance(self.classifier, classifiers.Pass)


@flax.struct.dataclass(kw_only=True)
class Link:
  """One edge.

  Attributes:
    source: name of the stage that sends.
    target: name of the stage that receives.
    energy: J per bit, with the technology of 2022.
    latency: s per message.
    price: dollars for the capacity of one bit a second.
  """

  source: str = flax.struct.field(pytree_node=False)
  target: str = flax.struct.field(pytree_node=False)
  energy: Scalar = 0.0
  latency: Scalar = 900e-9
  price: Scalar = 0.0

  @property
  def name(self) -> str:
    """The link as reports name it."""
    return f"{self.source}->{self.target}"


@flax.struct.dataclass(kw_only=True)
class PipelineGraph:
  """Stages and links; made and checked by `create`.

  Attributes:
    stages: each after the stages that send to it; the root is last.
    links: all of them.
    year: whose technology is used: energies fall as `technology` says.
    prevalence: share of events that are relevant. None: relevant is what the
      store has room for, so the share is one over the product of all
      reductions on the way to the store.
    dollars_per_kwh: price of energy.
    grams_per_kwh: carbon dioxide of energy.
    lifetime_s: over which prices of capacity are spread.
    quadrature: places of the common factor; 1 if stages are independent given
      the truth.
  """

  stages: tuple[Stage, ...]
  links: tuple[Link, ...]
  year: Scalar = 2022.0
  prevalence: Scalar | None = None
  dollars_per_kwh: Scalar = 0.0
  grams_per_kwh: Scalar = 0.0
  lifetime_s: Scalar = 10 * 365.25 * 86400.0
  quadrature: int = flax.struct.field(pytree_node=False, default=1)

  def senders(self, name: str) -> tuple[str, ...]:
    """Names of the stages that send to a stage."""
    return tuple(x.source for x in self.links if x.target == name)

  def receivers(self, name: str) -> tuple[str, ...]:
    """Names of the stages that a stage sends to."""
    return tuple(x.target for x in self.links if x.source == name)

  def downstream(self, name: str) -> frozenset[str]:
    """A stage and all that its messages can reach."""
    found = {name}
    for stage in self.stages:  # each after its senders
      if found.intersection(self.senders(stage.name)):
        found.add(stage.name)
    return frozenset(found)

  def parameters(self) -> dict[str, Any]:
    """All numbers by path, as `Level-1.reduction` or `A->B.energy`."""
    return parameters.read(self)

  def updated(self, values: dict[str, Any]) -> "PipelineGraph":
    """The graph with some numbers, by path, replaced by others; unchecked.

    Raises:
      ValueError: if there is no such path.
    """
    return parameters.replace(self, values)

  def validate(self) -> "PipelineGraph":
    """Checks every number; returns the graph.

    Raises:
      ValueError: naming the stage or link, the number and what was expected.
    """
    parameters.check(self)
    for stage in self.stages:
      _check_stage(self, stage)
    _check_flow(self)
    return self


def create(
  stages: Iterable[Stage],
  links: Iterable[Link],
  *,
  year: float | int = 2022.0,
  prevalence: float | int | None = None,
  dollars_per_kwh: float | int = 0.0,
  grams_per_kwh: float | int = 0.0,
  lifetime_s: float | int = 10 * 365.25 * 86400.0,
  quadrature: int = 1,
) -> PipelineGraph:
  """Orders, checks and freezes a graph; see `PipelineGraph` for the arguments.

  Raises:
    ValueError: for names used twice, a link to or from nowhere, a cycle, not
      exactly one root, a detector that receives, a stage that does not and has
      no sample rate, numbers out of range (a reduction below 1, a compression
      outside [0, 1), anything negative), fragments of one event whose rates
      differ, or a message outside its complexity table.
  """
  stages, links = tuple(stages), tuple(links)
  if quadrature < 1:
    raise ValueError(f"quadrature must be at least 1, got {quadrature}")
  ordered = _ordered(stages, links)
  made = PipelineGraph(
    stages=ordered,
    links=links,
    year=year,
    prevalence=prevalence,
    dollars_per_kwh=dollars_per_kwh,
    grams_per_kwh=grams_per_kwh,
    lifetime_s=lifetime_s,
    quadrature=quadrature,
  )
  # Derivatives need floats, and people write 1 and 100.
  made = jax.tree.map(lambda x: float(x) if isinstance(x, int) else x, made)
  return made.validate()


def _ordered(
  stages: tuple[Stage, ...], links: tuple[Link, ...]
) -> tuple[Stage, ...]:
  """Stages, each after its senders, so that the root comes last."""
  by_name = _unique(stages, links)
  senders: dict[str, list[str]] = {name: [] for name in by_name}
  for link in links:
    for end in (link.source, link.target):
      if end not in by_name:
        raise ValueError(f"link {link.name}: there is no stage {end!r}")
    senders[link.target].append(link.source)
  try:
    order = list(graphlib.TopologicalSorter(senders).static_order())
  except graphlib.CycleError as error:
    raise ValueError(
      f"the graph has a cycle: {' -> '.join(reversed(error.args[1]))}"
    ) from None
  sending = {link.source for link in links}
  roots = [name for name in order if name not in sending]
  if len(roots) != 1:
    raise ValueError(
      f"expected exactly one root, a stage without output, got {roots}"
    )
  order = [*(name for name in order if name != roots[0]), roots[0]]
  return tuple(by_name[name] for name in order)


def _unique(
  stages: tuple[Stage, ...], links: tuple[Link, ...]
) -> dict[str, Stage]:
  if not stages:
    raise ValueError("expected at least one stage")
  for kind, names in (
    ("stage", [stage.name for stage in stages]),
    ("link", [link.name for link in links]),
  ):
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
      raise ValueError(f"more than one {kind} is named {double[0]!r}")
  for stage in stages:
    if not stage.name or "->" in stage.name:
      raise ValueError(
        f"stage {stage.name!r}: expected a name without '->', not empty"
      )
  return {stage.name: stage for stage in stages}


def _check_stage(graph: PipelineGraph, stage: Stage) -> None:
  place, senders = f"stage {stage.name!r}", graph.senders(stage.name)
  if stage.sample_rate is not None and senders:
    raise ValueError(
      f"{place} has a sample rate, so is a detector, but receives from "
      f"{senders[0]!r}"
    )
  if stage.sample_rate is None and not senders:
    raise ValueError(f"{place} has neither a sample rate nor a sender")
  if not stage.active and float(stage.reduction) != 1:
    raise ValueError(
      f"{place} passes everything, but its reduction is {stage.reduction:g}; "
      "expected a classifier, or 1"
    )


def _check_flow(graph: PipelineGraph) -> None:
  """Checks rates where fragments merge, and messages against tables."""
  rates: dict[str, float] = {}
  sizes: dict[str, float] = {}
  for stage in graph.stages:
    senders = graph.senders(stage.name)
    incoming = [rates[name] for name in senders] or [float(stage.sample_rate)]
    if max(incoming) - min(incoming) > _RATE_TOLERANCE * max(incoming):
      raise ValueError(
        f"stage {stage.name!r} merges fragments of one event, but their "
        f"rates differ by more than 0.1 %: "
        + ", ".join(
          f"{name} {rate:g} Hz"
          for name, rate in zip(senders, incoming, strict=True)
        )
      )
    rates[stage.name] = math.fsum(incoming) / len(incoming) / stage.reduction
    size = float(stage.data_bytes) + sum(sizes[name] for name in senders)
    with jax.ensure_compile_time_eval():  # Also where a caller is traced.
      ops = float(stage.complexity.ops(size))
    if math.isnan(ops):
      raise ValueError(
        f"stage {stage.name!r}: a message of {size:g} bytes lies outside its "
        "complexity table; measure there, or set extrapolate"
      )
    sizes[stage.name] = size * (1 - float(stage.compression))
