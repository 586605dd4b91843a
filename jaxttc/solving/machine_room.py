# SPDX-License-Identifier: Apache-2.0
"""Recorded searches as the load of a serving cluster, and what they cost there.

A `Workload` is what the problems of one decoder ask of a cluster. Sampled spans
are requests; spans to score are requests of one output token, which is prefill
and nothing else. The spans of a round are asked for at one instant, their
scores when the longest of them is done, the next round after the scores.

These instants are those of an idle machine (open loop): on a busy cluster a
problem does not wait for its own last round before it asks for the next, so
loads near saturation look a little burstier than they would be. With prefix
sharing a request computes what no other request of its problem has computed,
at least one token; without it, its whole prefix. The memory and the reading of
shared caches are left out: they are small beside weights for short problems.
Reward models are taken to be as large as the policy, on the same machines.
"""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Float, Int
import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import slo as slo_lib
from jaxttc.simulation.clusters import sweeps
from jaxttc.simulation.power import requests as requests_lib
from jaxttc.solving import decoder_traces


@dataclasses.dataclass(frozen=True, eq=False)
class Workload:
  """The requests of a decoder's problems, one problem after another.

  Attributes:
    problem: i64[n], which problem, from 0, never falling.
    round: i64[n], which of its rounds.
    scoring: bool[n], whether a span is scored, not sampled.
    offset_s: f64[n], from the problem's arrival to the request's.
    prompt_tokens: i64[n], to compute before the first output token.
    output_tokens: i64[n].
    solved: bool[problems].
    duration_s: f64[problems], on an idle machine.
  """

  problem: Int[np.ndarray, " n"]
  round: Int[np.ndarray, " n"]
  scoring: np.ndarray
  offset_s: Float[np.ndarray, " n"]
  prompt_tokens: Int[np.ndarray, " n"]
  output_tokens: Int[np.ndarray, " n"]
  solved: np.ndarray
  duration_s: Float[np.ndarray, " problems"]

  @property
  def requests_per_problem(self) -> float:
    """Mean requests of a problem."""
    return len(self.problem) / len(self.solved)

  @property
  def accuracy(self) -> float:
    """Share of problems solved."""
    return float(self.solved.mean())


def workload(
  records: Sequence[decoder_traces.Record],
  spec: machines_lib.MachineSpec,
  *,
  shared: bool,
) -> Workload:
  """Makes requests of records.

  Args:
    records: of one decoder, all graded.
    spec: the machine whose unloaded times part the rounds.
    shared: whether prefixes are computed once a problem.

  Raises:
    ValueError: if there are no records, one was not graded or asked for
      nothing, or the machine's performance model does not reach a prompt.
  """
  if not records:
    raise ValueError("workload: no records")
  rows, solved, durations = [], [], []
  for at, record in enumerate(records):
    if record.solved is None:
      raise ValueError(f"workload: problem {record.problem!r} is not graded")
    mine = _requests(record, shared)
    if not mine:
      raise ValueError(
        f"workload: problem {record.problem!r} asked for nothing"
      )
    made = np.array(mine, np.int64)
    offset, duration = _offsets(made, spec)
    rows.append((np.full(len(made), at), made, offset))
    solved.append(record.solved)
    durations.append(duration)
  table = np.concatenate([made for _, made, _ in rows])
  return Workload(
    problem=np.concatenate([problem for problem, _, _ in rows]),
    round=table[:, 0],
    scoring=table[:, 1].astype(bool),
    offset_s=np.concatenate([offset for _, _, offset in rows]),
    prompt_tokens=table[:, 2],
    output_tokens=table[:, 3],
    solved=np.array(solved, bool),
    duration_s=np.array(durations),
  )


def _requests(
  record: decoder_traces.Record, shared: bool
) -> list[tuple[int, int, int, int]]:
  """(round, scoring, prompt, output) of each request, in order of time."""
  made = []
  # Prompts read for all are computed by the first that needs them.
  unread = {decoder_traces.SAMPLE: 0, decoder_traces.SCORE: 0}
  for call in record.calls:
    if call.kind == decoder_traces.READ:
      unread[decoder_traces.SAMPLE] += call.prompt_tokens
      unread[decoder_traces.SCORE] += call.verifier_tokens
      continue
    if not call.length:
      continue
    scoring = call.kind == decoder_traces.SCORE
    if shared:
      prompt = call.prompt_tokens - call.cached_tokens + unread[call.kind]
      prompt += call.length if scoring else 0
      unread[call.kind] = 0
    else:
      prompt = call.context + (call.length if scoring else 0)
    output = 1 if scoring else call.length
    made.append((call.round, int(scoring), max(prompt, 1), output))
  return sorted(made, key=lambda row: row[:2])


def _offsets(
  made: Int[np.ndarray, "n 4"], spec: machines_lib.MachineSpec
) -> tuple[Float[np.ndarray, " n"], float]:
  """When requests are made, and when the last is done, on idle machines."""
  alone = slo_lib.unloaded(
    traces.Trace(np.zeros(len(made)), made[:, 2], made[:, 3]), spec
  )["e2e"]
  offset, now = np.zeros(len(made)), 0.0
  stage = 2 * made[:, 0] + made[:, 1]
  for one in np.unique(stage):
    offset[stage == one] = now
    now += float(alone[stage == one].max())
  return offset, now


@dataclasses.dataclass(frozen=True, eq=False)
class Load:
  """A workload at a rate.

  Attributes:
    trace: the requests.
    problems: how many problems they amount to; parts count as parts.
    solved: how many of those are solved.
  """

  trace: traces.Trace
  problems: float
  solved: float


def poisson_load(
  work: Workload, *, rate_per_s: float, requests: int, seed: int
) -> Load:
  """Problems, drawn with replacement, that arrive as a Poisson process.

  The trace begins when problems have been arriving for as long as the longest
  takes, so it is as full at its start as later.

  Args:
    work: whose problems.
    rate_per_s: problems a second.
    requests: length of the trace.
    seed: the same seed draws the same arrivals and the same problems,
      whatever the decoder.

  Raises:
    ValueError: if the rate or the number of requests is not positive.
  """
  traces.check_positive("rate_per_s", rate_per_s)
  traces.check_positive("requests", requests)
  warm = float(work.duration_s.max())
  expected = requests / work.requests_per_problem + rate_per_s * warm
  count = int(1.5 * expected) + 50
  while True:
    gaps_rng, which_rng = np.random.default_rng(seed).spawn(2)
    start = np.cumsum(gaps_rng.exponential(1 / rate_per_s, count)) - warm
    which = which_rng.integers(len(work.solved), size=count)
    rows, arrival = _unrolled(work, start, which)
    inside = arrival >= 0
    rows, arrival = rows[inside][:requests], arrival[inside][:requests]
    if len(rows) == requests and arrival[-1] <= start[-1]:
      break
    count *= 2
  share = 1 / np.bincount(work.problem)[work.problem[rows]]
  return Load(
    traces.Trace(arrival, work.prompt_tokens[rows], work.output_tokens[rows]),
    float(share.sum()),
    float(share @ work.solved[work.problem[rows]]),
  )


def _unrolled(
  work: Workload,
  start: Float[np.ndarray, " problems"],
  which: Int[np.ndarray, " problems"],
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"]]:
  """Rows of the workload and when they arrive, in order of time."""
  counts = np.bincount(work.problem)
  first = np.cumsum(counts) - counts
  many = counts[which]
  within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
  rows = np.repeat(first[which], many) + within
  arrival = np.repeat(start, many) + work.offset_s[rows]
  order = np.argsort(arrival, kind="stable")
  return rows[order], arrival[order]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A cluster under a load.

  Attributes:
    cluster: its name.
    machines: how many.
    met: whether the latency objective is met.
    worst: the largest slowdown over its limit.
    binding: which limit that is.
    joules_per_solved: of all machines, idle ones too.
    busy_joules_per_solved: of phases only: what a perfectly packed cluster
      would spend.
    dollars_per_solved: in the unit of the machines' prices.
    utilisation: share of machine time in iterations.
    prefill_share: share of busy time in iterations with prompts.
  """

  cluster: str
  machines: int
  met: bool
  worst: float
  binding: str
  joules_per_solved: float
  busy_joules_per_solved: float
  dollars_per_solved: float
  utilisation: float
  prefill_share: float


def serve(
  clusters: Sequence[cluster_lib.Cluster],
  loads: Sequence[Load],
  reference: machines_lib.MachineSpec,
  objective: slo_lib.Objective,
) -> list[list[Outcome]]:
  """Simulates every cluster under every load, in one sweep.

  Args:
    clusters: what to try.
    loads: of equally many requests.
    reference: the machine that slowdowns are over.
    objective: what must hold.

  Returns:
    Outcomes by load, then cluster.

  Raises:
    ValueError: if nothing of a load is solved, or a cluster cannot serve it.
  """
  for at, load in enumerate(loads):
    if not load.solved > 0:
      raise ValueError(f"load {at}: no problem is solved; nothing to divide by")
  cases = [
    sweeps.Case(cluster, at) for at in range(len(loads)) for cluster in clusters
  ]
  runs = iter(sweeps.sweep(cases, [load.trace for load in loads]))
  made = []
  for load in loads:
    alone = slo_lib.unloaded(load.trace, reference)
    made.append(
      [
        _outcome(cluster, load, next(runs), alone, objective)
        for cluster in clusters
      ]
    )
  return made


def _outcome(cluster, load, run, alone, objective) -> Outcome:
  verdict = slo_lib.check(run.requests, alone, objective)
  watts = np.array([[s.prompt_w, s.decode_w] for _, s in cluster.machines])
  busy = np.stack([run.prompt_s, run.decode_s], 1)
  count = len(cluster.machines)
  return Outcome(
    cluster=cluster.name,
    machines=count,
    met=verdict.met,
    worst=verdict.worst[0],
    binding=verdict.worst[1],
    joules_per_solved=run.energy_j / load.solved,
    busy_joules_per_solved=float((watts * busy).sum()) / load.solved,
    dollars_per_solved=run.cost / load.solved,
    utilisation=float(busy.sum()) / (count * run.makespan_s),
    prefill_share=float(run.prompt_s.sum() / busy.sum()),
  )


def smallest(outcomes: Sequence[Outcome]) -> Outcome | None:
  """The outcome of fewest machines that meets its objective.

  Of equally many machines, the one with the most room; None if none meets it.
  """
  met = [one for one in outcomes if one.met]
  return min(met, key=lambda one: (one.machines, one.worst), default=None)


def rounds_as_stream(
  work: Workload,
  spec: machines_lib.MachineSpec,
  start_s: Float[np.ndarray, " m"],
  which: Int[np.ndarray, " m"],
) -> requests_lib.Stream:
  """Rounds of problems as requests to a server that runs one at a time.

  A round is a batch: its prefills and its scoring are the prompt phase, the
  decoding of its longest span, at the round's batch size, the token phase.

  Args:
    work: whose problems.
    spec: of the server.
    start_s: when problems arrive, ascending, at least 0.
    which: the problem of each.
  """
  stage = np.stack([work.problem, work.round])
  starts = np.flatnonzero(np.r_[True, (np.diff(stage) != 0).any(0)])
  total = np.add.reduceat
  sampled, scored = ~work.scoring, work.scoring
  prompt_s = sum(
    np.where(tokens > 0, spec.performance.prompt_s(np.maximum(tokens, 1)), 0.0)
    for tokens in (
      total(np.where(part, work.prompt_tokens, 0), starts)
      for part in (sampled, scored)
    )
  )
  steps = np.maximum.reduceat(
    np.where(sampled, work.output_tokens - 1, 0), starts
  )
  batch = total(sampled.astype(np.int64), starts)
  cached = total(
    np.where(sampled, work.prompt_tokens + work.output_tokens // 2, 0), starts
  )
  base, sequence, each = spec.performance.decode
  token_s = steps * (base + sequence * batch + each * cached)
  rounds = dataclasses.replace(
    work,
    problem=work.problem[starts],
    offset_s=work.offset_s[starts],
  )
  rows, arrival = _unrolled(rounds, start_s, which)
  return requests_lib.Stream(
    arrival,
    prompt_s[rows],
    token_s[rows],
    np.full(len(rows), float(spec.prompt_w)),
    np.full(len(rows), float(spec.decode_w)),
  )
