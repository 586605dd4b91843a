# SPDX-License-Identifier: Apache-2.0
"""What a pipeline keeps, what it misses, and what that costs.

Everything follows from one pass over the graph. A stage's events are a vector
(irrelevant, relevant) of rates; fragments of one event that merge carry the
mean of their rates; a stage keeps one in `reduction`, at the threshold where
exactly that share of what reaches it lies above; what it rejects is lost.
Energies are of operations and bits, each times its rate.

Source: Olin-Ammentorp, Wu and Chien, "SystemFlow", 2024, and its release
(wilkieolin/system_flow). Rates are real numbers here, so that nothing is lost
to rounding, and latency is that of the slowest path.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxttc.simulation.detectors import copula, parameters, thresholds
from jaxttc.simulation.detectors import graph as graph_lib

Number = Float[Array, "..."]

_JOULES_PER_KWH = 3.6e6
# Growth of transistor density a year, IEDM 2022, as the release fits it.
_TECHNOLOGY_RATE, _TECHNOLOGY_START = 0.187, 2022.0


class Report(NamedTuple):
  """What `evaluate` finds. A leading axis, if there is one, is of a sweep.

  Attributes:
    input_rates: f[2] by stage: irrelevant and relevant events reaching it, Hz.
    output_rates: f[2] by stage: what it keeps, Hz.
    thresholds: by classifying stage, in units of its score.
    confusion_by_stage: f[2, 2] by classifying stage, Hz. Rows: rejected, kept;
      columns: irrelevant, relevant.
    confusion: f[2, 2], of the whole pipeline, Hz; sums to the events' rate.
    precision: share of stored events that are relevant.
    recall: share of relevant events that are stored.
    f1: harmonic mean of both.
    accuracy: share of events that are rightly stored or rightly rejected.
    stored_rate: events that reach the store, Hz.
    message_bytes: by stage, bytes of a message that it works on.
    ops: by stage, operations on one message.
    power_by_node: by stage, W.
    power_by_link: by link, W.
    power: of all, W.
    latency: from the event to the store, s, without queues.
    productivity: F1 * stored_rate / power, events per J: the source's figure.
    relevant_per_joule: relevant events stored per J.
    dollars_per_s: of energy, and of capacity over its lifetime.
    grams_per_s: carbon dioxide.
  """

  input_rates: dict[str, Number]
  output_rates: dict[str, Number]
  thresholds: dict[str, Number]
  confusion_by_stage: dict[str, Number]
  confusion: Number
  precision: Number
  recall: Number
  f1: Number
  accuracy: Number
  stored_rate: Number
  message_bytes: dict[str, Number]
  ops: dict[str, Number]
  power_by_node: dict[str, Number]
  power_by_link: dict[str, Number]
  power: Number
  latency: Number
  productivity: Number
  relevant_per_joule: Number
  dollars_per_s: Number
  grams_per_s: Number


# The fields of a report that are one number.
METRICS = (
  "precision",
  "recall",
  "f1",
  "accuracy",
  "stored_rate",
  "power",
  "latency",
  "productivity",
  "relevant_per_joule",
  "dollars_per_s",
  "grams_per_s",
)


def technology(year: Any) -> Float[Array, ""]:
  """How many times fewer joules a bit or operation takes than in 2022."""
  return jnp.exp(_TECHNOLOGY_RATE * (jnp.asarray(year) - _TECHNOLOGY_START))


def evaluate(graph: graph_lib.PipelineGraph) -> Report:
  """Evaluates a graph; pure, so it may be jitted, mapped and differentiated.

  It computes in JAX's default precision: in float32 a rate of 4e7 Hz has an
  error of a few Hz; use `with jax.enable_x64(True):` for more.

  Raises:
    ValueError: if no stage classifies.
  """
  if not any(stage.active for stage in graph.stages):
    raise ValueError(
      "no stage classifies, so there is no confusion to report; give a stage a "
      "classifier (a reduction of 1 keeps everything)"
    )
  return _evaluate(parameters.as_floats(graph))


@jax.jit
def _evaluate(graph: graph_lib.PipelineGraph) -> Report:
  places, weights = (jnp.asarray(x) for x in copula.factor(graph.quadrature))
  inputs: dict[str, jax.Array] = {}
  outputs: dict[str, jax.Array] = {}
  levels: dict[str, jax.Array] = {}
  for stage in graph.stages:
    incoming = _incoming(graph, stage, outputs, weights)
    inputs[stage.name] = outputs[stage.name] = incoming
    if stage.active:
      level, kept = _classify(stage, incoming, places)
      levels[stage.name] = level
      outputs[stage.name] = incoming * kept
  return _report(
    graph,
    {name: rate.sum(-1) for name, rate in inputs.items()},
    {name: rate.sum(-1) for name, rate in outputs.items()},
    levels,
  )


def _incoming(
  graph: graph_lib.PipelineGraph,
  stage: graph_lib.Stage,
  outputs: Mapping[str, Float[Array, "2 Q"]],
  weights: Float[Array, " Q"],
) -> Float[Array, "2 Q"]:
  """Rates that reach a stage, by class and place of the common factor."""
  senders = graph.senders(stage.name)
  if senders:
    return jnp.mean(jnp.stack([outputs[name] for name in senders]), 0)
  if graph.prevalence is None:
    ratios = [
      other.reduction
      for other in graph.stages
      if other.active and other.name in graph.downstream(stage.name)
    ]
    share = 1.0 / jnp.prod(jnp.stack([jnp.ones(()), *ratios]))
  else:
    share = graph.prevalence
  rates = stage.sample_rate * jnp.stack([1.0 - share, share])
  return rates[:, None] * weights[None]


def _classify(
  stage: graph_lib.Stage,
  incoming: Float[Array, "2 Q"],
  places: Float[Array, " Q"],
) -> tuple[Float[Array, ""], Float[Array, "2 Q"]]:
  """The threshold that keeps one in `reduction`, and the shares kept."""
  everything = stage.reduction <= 1.0
  # Keeping all has no threshold; the other branch must stay differentiable.
  share = 1.0 / jnp.where(everything, 2.0, stage.reduction)
  loading = jnp.stack([jnp.asarray(x) for x in stage.loading])
  total = incoming.sum()

  def kept(level: jax.Array) -> jax.Array:
    above = stage.classifier.survival(level)
    if len(places) == 1:
      return above[:, None]
    return copula.given_factor(above, loading, places)

  def excess(level: jax.Array) -> jax.Array:
    return (incoming * kept(level)).sum() / total - share

  low, high = stage.classifier.ends()
  level = thresholds.solve(excess, low, high)
  return (
    jnp.where(everything, lax.stop_gradient(low), level),
    jnp.where(everything, 1.0, kept(level)),
  )


def _report(
  graph: graph_lib.PipelineGraph,
  inputs: dict[str, Float[Array, "2"]],
  outputs: dict[str, Float[Array, "2"]],
  levels: dict[str, Float[Array, ""]],
) -> Report:
  sizes, sent = _message_bytes(graph)
  ops = {x.name: x.complexity.ops(sizes[x.name]) for x in graph.stages}
  confusion, by_stage = _confusion(graph, inputs, outputs)
  nodes, edges = _power(graph, inputs, outputs, ops, sent)
  power = sum([*nodes.values(), *edges.values()], jnp.zeros(()))
  stored, hits = confusion[1].sum(), confusion[1, 1]
  precision, recall = hits / stored, hits / confusion[:, 1].sum()
  f1 = 2 * hits / (stored + confusion[:, 1].sum())
  dollars = _dollars_per_s(graph, inputs, outputs, ops, sent, power)
  return Report(
    input_rates=inputs,
    output_rates=outputs,
    thresholds=levels,
    confusion_by_stage=by_stage,
    confusion=confusion,
    precision=precision,
    recall=recall,
    f1=f1,
    accuracy=(confusion[0, 0] + hits) / confusion.sum(),
    stored_rate=stored,
    message_bytes=sizes,
    ops=ops,
    power_by_node=nodes,
    power_by_link=edges,
    power=power,
    latency=_latency(graph, ops),
    productivity=f1 * stored / power,
    relevant_per_joule=hits / power,
    dollars_per_s=dollars,
    grams_per_s=power / _JOULES_PER_KWH * graph.grams_per_kwh,
  )


def _message_bytes(
  graph: graph_lib.PipelineGraph,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Bytes that each stage works on, and that it sends."""
  sizes: dict[str, jax.Array] = {}
  sent: dict[str, jax.Array] = {}
  for stage in graph.stages:
    received = [sent[name] for name in graph.senders(stage.name)]
    sizes[stage.name] = sum(received, jnp.asarray(stage.data_bytes))
    sent[stage.name] = sizes[stage.name] * (1.0 - stage.compression)
  return sizes, sent


def _confusion(
  graph: graph_lib.PipelineGraph,
  inputs: Mapping[str, Float[Array, "2"]],
  outputs: Mapping[str, Float[Array, "2"]],
) -> tuple[Float[Array, "2 2"], dict[str, Float[Array, "2 2"]]]:
  """Of the whole pipeline and of each classifying stage.

  A stage before a merge holds a share of each event's fragments, so its
  rejects count by that share; on a chain every share is 1.
  """
  shares = {graph.stages[-1].name: 1.0}
  for stage in reversed(graph.stages[:-1]):
    shares[stage.name] = sum(
      shares[name] / len(graph.senders(name))
      for name in graph.receivers(stage.name)
    )
  by_stage, rejected = {}, jnp.zeros(2)
  for stage in graph.stages:
    if stage.active:
      lost = inputs[stage.name] - outputs[stage.name]
      by_stage[stage.name] = jnp.stack([lost, outputs[stage.name]])
      rejected = rejected + shares[stage.name] * lost
  return jnp.stack([rejected, outputs[graph.stages[-1].name]]), by_stage


def _power(
  graph: graph_lib.PipelineGraph,
  inputs: Mapping[str, Float[Array, "2"]],
  outputs: Mapping[str, Float[Array, "2"]],
  ops: Mapping[str, Float[Array, ""]],
  sent: Mapping[str, Float[Array, ""]],
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Watts by stage and by link, with the technology of the graph's year."""
  better = technology(graph.year)
  nodes = {
    stage.name: stage.op_energy
    * ops[stage.name]
    * inputs[stage.name].sum()
    / better
    for stage in graph.stages
  }
  edges = {
    link.name: link.energy
    * 8.0
    * sent[link.source]
    * outputs[link.source].sum()
    / better
    for link in graph.links
  }
  return nodes, edges


def _latency(
  graph: graph_lib.PipelineGraph, ops: Mapping[str, Float[Array, ""]]
) -> Float[Array, ""]:
  """Seconds of the slowest path from a detector to the root."""
  done: dict[str, jax.Array] = {}
  for stage in graph.stages:
    arrivals = [
      done[link.source] + link.latency
      for link in graph.links
      if link.target == stage.name
    ]
    start = jnp.max(jnp.stack(arrivals)) if arrivals else 0.0
    work = stage.op_latency * ops[stage.name] / stage.parallelism
    done[stage.name] = start + work
  return done[graph.stages[-1].name]


def _dollars_per_s(
  graph: graph_lib.PipelineGraph,
  inputs: Mapping[str, Float[Array, "2"]],
  outputs: Mapping[str, Float[Array, "2"]],
  ops: Mapping[str, Float[Array, ""]],
  sent: Mapping[str, Float[Array, ""]],
  power: Float[Array, ""],
) -> Float[Array, ""]:
  """Energy as it is used, and capacity spread over its lifetime."""
  capacity = sum(
    (x.price * ops[x.name] * inputs[x.name].sum() for x in graph.stages),
    jnp.zeros(()),
  ) + sum(
    (x.price * 8.0 * sent[x.source] * outputs[x.source].sum())
    for x in graph.links
  )
  energy = power / _JOULES_PER_KWH * graph.dollars_per_kwh
  return energy + capacity / graph.lifetime_s
