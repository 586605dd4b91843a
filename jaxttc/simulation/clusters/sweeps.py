# SPDX-License-Identifier: Apache-2.0
"""Clusters under traces: one, or a sweep of many at once."""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import engine
from jaxttc.simulation.clusters import lanes as lanes_lib

# Lanes of one compiled call: enough to share its overhead, few enough that
# their states stay in cache.
_LANES = 128


@dataclasses.dataclass(frozen=True, eq=False)
class RequestTable:
  """What came of each request; a row a request, in the order of arrival.

  Attributes:
    ttft_s: from arrival to the first token.
    tbt_s: mean time between tokens; 0 for outputs of one token.
    e2e_s: from arrival to the last token.
    queue_s: from arrival to the start of its prompt.
    transfer_s: from the first token to where its cache is needed.
    prompt_machine: which computed its prompt.
    token_machine: which decoded it.
    longest_gap_s: the longest wait between two of its tokens, 0 for outputs of
      one; None from the compiled simulation, which skips over iterations.
  """

  ttft_s: Float[np.ndarray, " n"]
  tbt_s: Float[np.ndarray, " n"]
  e2e_s: Float[np.ndarray, " n"]
  queue_s: Float[np.ndarray, " n"]
  transfer_s: Float[np.ndarray, " n"]
  prompt_machine: Int[np.ndarray, " n"]
  token_machine: Int[np.ndarray, " n"]
  longest_gap_s: Float[np.ndarray, " n"] | None = None

  @property
  def unfinished(self) -> int:
    """Requests whose last token never came."""
    return int((~np.isfinite(self.e2e_s)).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class ClusterRun:
  """One cluster under one trace.

  Attributes:
    requests: what came of each request.
    prompt_s: seconds of each machine in iterations with prompts.
    decode_s: seconds of each machine in iterations without.
    makespan_s: from second 0 to the last event.
    energy_j: of all machines: power by phase times time, idle time included.
    cost: of all machines for the makespan, in the unit of their prices.
    events: of the simulation.
  """

  requests: RequestTable
  prompt_s: Float[np.ndarray, " m"]
  decode_s: Float[np.ndarray, " m"]
  makespan_s: float
  energy_j: float
  cost: float
  events: int


class Case(NamedTuple):
  """One lane of a sweep: a cluster, which trace, and the trace's rate.

  `rate_per_s` None leaves arrivals as they are; else all times are scaled.
  """

  cluster: cluster_lib.Cluster
  trace: int = 0
  rate_per_s: float | None = None


def simulate(
  cluster: cluster_lib.Cluster, trace: traces.Trace, *, seed: int = 0
) -> ClusterRun:
  """Simulates one cluster until all requests of a trace have their last token.

  Args:
    cluster: the cluster and its rules.
    trace: its requests.
    seed: of the random router.

  Raises:
    ValueError: as `cluster.compile_cluster` does.
  """
  return sweep([Case(cluster)], [trace], seed=seed)[0]


def sweep(
  cases: Sequence[Case],
  many: Sequence[traces.Trace],
  *,
  seed: int = 0,
  advance: Callable[[int], object] | None = None,
) -> list[ClusterRun]:
  """Simulates many clusters, traces and rates in few compiled calls.

  Args:
    cases: what to simulate.
    many: the traces that cases name, of equal length.
    seed: of the random router.
    advance: called with the number of cases done since the last call.

  Returns:
    A run a case, in their order.

  Raises:
    ValueError: if traces differ in length, or as `cluster.compile_cluster`.
  """
  if len({len(trace) for trace in many}) != 1:
    raise ValueError(
      f"sweep: traces of {sorted({len(trace) for trace in many})} requests; "
      "expected one length"
    )
  compiled = _compile(cases, many)
  made: list[ClusterRun] = []
  # Equal chunks, so that the program compiles once.
  chunks = math.ceil(len(cases) / _LANES)
  size = math.ceil(len(cases) / chunks)
  for start in range(0, len(cases), size):
    part = range(start, min(start + size, len(cases)))
    made += _run_part(cases, compiled, many, part, size, seed)
    if advance is not None:
      advance(len(part))
  return made


def _compile(
  cases: Sequence[Case], many: Sequence[traces.Trace]
) -> list[cluster_lib.CompiledCluster]:
  """A compiled cluster a case; equal clusters are compiled once."""
  known: dict[tuple[int, int], cluster_lib.CompiledCluster] = {}
  for case in cases:
    key = (id(case.cluster), case.trace)
    if key not in known:
      known[key] = cluster_lib.compile_cluster(case.cluster, many[case.trace])
  return [known[id(case.cluster), case.trace] for case in cases]


class _Shared(NamedTuple):
  """Kinds of machines of a part, and their rows by identity."""

  kinds: list[cluster_lib.CompiledKind]
  row: dict[int, int]


def _run_part(
  cases: Sequence[Case],
  compiled: Sequence[cluster_lib.CompiledCluster],
  many: Sequence[traces.Trace],
  part: range,
  size: int,
  seed: int,
) -> list[ClusterRun]:
  kinds = {id(kind): kind for c in compiled for kind in c.kinds}
  shared = _Shared(list(kinds.values()), {k: i for i, k in enumerate(kinds)})
  scales = [_time_scale(cases[i], many) for i in part]
  batch = max(math.ceil(kind.capacity / kind.seat) for kind in shared.kinds)
  width = 2 ** math.ceil(math.log2(max(batch, 4)) / 2)
  with jax.enable_x64(True):
    lanes = _lanes(
      [cases[i] for i in part],
      [compiled[i] for i in part],
      shared,
      scales,
      (_rounded(max(len(c.machines) for c in compiled), 4), _rounded(size, 8)),
    )
    outcome = engine.run(
      lanes,
      _tables(many, shared.kinds, seed),
      groups=math.ceil(batch / width),
      width=width,
    )
    outcome = jax.tree.map(np.asarray, outcome)
  return [
    _to_run(cases[i], many[cases[i].trace], scales[lane], outcome, lane)
    for lane, i in enumerate(part)
  ]


def _rounded(count: int, step: int) -> int:
  """Up to a multiple: sweeps of like sizes share one compiled program."""
  return math.ceil(count / step) * step


def _time_scale(case: Case, many: Sequence[traces.Trace]) -> float:
  if case.rate_per_s is None:
    return 1.0
  traces.check_positive("rate_per_s", case.rate_per_s)
  return many[case.trace].rate_per_s / case.rate_per_s


def _lanes(
  cases: Sequence[Case],
  compiled: Sequence[cluster_lib.CompiledCluster],
  shared: _Shared,
  scales: Sequence[float],
  shape: tuple[int, int],
) -> lanes_lib.Lanes:
  """Lanes of `shape` machines and lanes; those to spare see no arrival."""
  spare = shape[1] - len(cases)
  cases, compiled = (
    [*cases, *[cases[0]] * spare],
    [*compiled, *[compiled[0]] * spare],
  )
  scales = [*scales, *[math.inf] * spare]
  pool = np.full(shape, cluster_lib.ABSENT, np.int32)
  spec = np.zeros(shape, np.int32)
  for lane, c in enumerate(compiled):
    for machine, (home, kind) in enumerate(c.machines):
      pool[machine, lane] = home
      spec[machine, lane] = shared.row[id(c.kinds[kind])]
  rules = [c.rules for c in compiled]
  fixed = {cluster_lib.RANDOM: 1, cluster_lib.TURNS: 2}

  def floats(values: Sequence[float | int]) -> jax.Array:
    return jnp.asarray(values, jnp.float64)

  return lanes_lib.Lanes(
    trace=jnp.asarray([case.trace for case in cases], jnp.int32),
    time_scale=floats(list(scales)),
    pool=jnp.asarray(pool),
    spec=jnp.asarray(spec),
    undivided=floats([float(r.router != cluster_lib.SPLIT) for r in rules]),
    prompt_weight=floats([r.prompt_weight for r in rules]),
    fixed=jnp.asarray([fixed.get(r.router, 0) for r in rules], jnp.int32),
    chunk=floats([r.chunk for r in rules]),
    transfer_s=floats([r.transfer_s for r in rules]),
    queue_limit=floats([r.queue_limit for r in rules]),
    batch_tokens=floats([r.batch_tokens for r in rules]),
  )


def _tables(
  many: Sequence[traces.Trace],
  kinds: Sequence[cluster_lib.CompiledKind],
  seed: int,
) -> lanes_lib.Tables:
  requests = [
    np.stack(
      [
        trace.arrival_s,
        trace.prompt_tokens,
        trace.output_tokens,
        cluster_lib.draws(len(trace), seed),
      ],
      1,
    )
    for trace in many
  ]
  rows = np.stack(requests)
  size = rows.shape[1]
  # Requests to spare never arrive; they round the number to a quarter of 2^k.
  spare = _rounded(size, max(2 ** (size.bit_length() - 3), 64)) - size
  rows = np.pad(rows, ((0, 0), (0, spare), (0, 0)), constant_values=1.0)
  rows[:, size:, 0] = math.inf
  kinds = [*kinds, *list(kinds[:1]) * (-len(kinds) % 4)]
  longest = max(len(kind.prompt_s) for kind in kinds)

  def padded(times: list[float]) -> np.ndarray:
    return np.pad(times, (0, longest - len(times)), mode="edge")

  return lanes_lib.Tables(
    jnp.asarray(rows),
    jnp.asarray([[float(x) for x in kind[:5]] for kind in kinds]),
    jnp.asarray(np.stack([padded(kind.prompt_s) for kind in kinds])),
    jnp.asarray(np.stack([padded(kind.mixed_s) for kind in kinds])),
  )


def _to_run(
  case: Case,
  trace: traces.Trace,
  scale: float,
  outcome: lanes_lib.Outcome,
  lane: int,
) -> ClusterRun:
  machines = case.cluster.machines
  count = len(machines)
  prompt_s = outcome.prompt_s[lane, :count]
  decode_s = outcome.decode_s[lane, :count]
  makespan = float(outcome.end_s[lane])
  watts = np.array(
    [[spec.prompt_w, spec.decode_w, spec.idle_w] for _, spec in machines]
  )
  spent = np.stack([prompt_s, decode_s, makespan - prompt_s - decode_s], 1)
  return ClusterRun(
    table(
      cluster_lib.ticks(trace.arrival_s * scale),
      trace.output_tokens,
      *(np.asarray(column[lane, : len(trace)]) for column in outcome[:6]),
    ),
    prompt_s,
    decode_s,
    makespan,
    float((watts * spent).sum()),
    case.cluster.cost_per_h * makespan / 3600,
    int(outcome.steps[lane]),
  )


def table(
  arrival_s: Float[np.ndarray, " n"],
  output_tokens: Int[np.ndarray, " n"],
  begun: Float[np.ndarray, " n"],
  first: Float[np.ndarray, " n"],
  left: Float[np.ndarray, " n"],
  finished: Float[np.ndarray, " n"],
  prompt_machine: Int[np.ndarray, " n"],
  token_machine: Int[np.ndarray, " n"],
  longest_gap_s: Float[np.ndarray, " n"] | None = None,
) -> RequestTable:
  """Makes latencies of times, as engine and reference report them."""
  gaps = np.maximum(output_tokens - 1, 1)
  with np.errstate(invalid="ignore"):  # inf - inf, of what never came
    tbt, transfer = (finished - first) / gaps, left - first
  return RequestTable(
    ttft_s=first - arrival_s,
    tbt_s=tbt,
    e2e_s=finished - arrival_s,
    queue_s=begun - arrival_s,
    transfer_s=transfer,
    prompt_machine=prompt_machine,
    token_machine=token_machine,
    longest_gap_s=longest_gap_s,
  )
