# SPDX-License-Identifier: Apache-2.0
"""When each machine of a simulated cluster was busy.

A machine runs iterations exactly while it has prompts in work or sequences to
decode, so the union of its requests' spans is its busy time, without a log of
iterations.
"""

from jaxtyping import Float
import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import sweeps


def busy_shares(
  run: sweeps.ClusterRun,
  trace: traces.Trace,
  *,
  bins: int,
  end_s: float | None = None,
) -> Float[np.ndarray, "m bins"]:
  """The share of each bin of time in which each machine ran iterations.

  Requests that never finished count until the end.

  Args:
    run: of one cluster.
    trace: what it served, at the rate at which it was served.
    bins: equal parts of the time.
    end_s: where the last bin ends; the run's makespan if None.

  Raises:
    ValueError: if there is no bin, or the trace is of another length.
  """
  edges = _edges(run, trace, bins, end_s)
  busy = [_covered(*spans, edges) for spans in _spans(run, trace)]
  return np.diff(busy, axis=1) / np.diff(edges)


def requests_in_work(
  run: sweeps.ClusterRun,
  trace: traces.Trace,
  *,
  bins: int,
  end_s: float | None = None,
) -> Float[np.ndarray, "m bins"]:
  """The mean number of requests that each machine computes, a bin of time.

  Those whose prompts it computes and those that it decodes; not those that
  wait. A machine with one of them is as busy as one with a hundred, so this
  tells more than `busy_shares` of machines that decode. Arguments and errors
  are the same.
  """
  edges = _edges(run, trace, bins, end_s)
  work = [_summed(*spans, edges) for spans in _spans(run, trace)]
  return np.diff(work, axis=1) / np.diff(edges)


def _edges(
  run: sweeps.ClusterRun,
  trace: traces.Trace,
  bins: int,
  end_s: float | None,
) -> Float[np.ndarray, " e"]:
  traces.check_positive("bins", bins)
  if len(trace) != len(run.requests.e2e_s):
    raise ValueError(
      f"activity: a trace of {len(trace)} requests for a run of "
      f"{len(run.requests.e2e_s)}"
    )
  end = run.makespan_s if end_s is None else end_s
  traces.check_positive("end_s", end)
  return np.linspace(0.0, end, bins + 1)


def _spans(
  run: sweeps.ClusterRun, trace: traces.Trace
) -> list[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
  """When each machine's prompts and sequences began and ended."""
  arrival = cluster_lib.ticks(trace.arrival_s)
  requests = run.requests
  first = arrival + requests.ttft_s
  decoded = trace.output_tokens > 1
  where = np.concatenate(
    [requests.prompt_machine, requests.token_machine[decoded]]
  )
  starts = np.concatenate(
    [arrival + requests.queue_s, (first + requests.transfer_s)[decoded]]
  )
  ends = np.concatenate([first, (arrival + requests.e2e_s)[decoded]])
  ends = np.minimum(ends, run.makespan_s)
  began = np.isfinite(starts)
  return [
    (starts[mine], ends[mine])
    for machine in range(len(run.prompt_s))
    for mine in [began & (where == machine)]
  ]


def _summed(
  starts: Float[np.ndarray, " n"],
  ends: Float[np.ndarray, " n"],
  edges: Float[np.ndarray, " e"],
) -> Float[np.ndarray, " e"]:
  """Seconds of all spans together up to each edge."""

  def before(times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " e"]:
    """Seconds since each of the times, summed over those that are past."""
    times = np.sort(times)
    sums = np.concatenate([[0.0], np.cumsum(times)])
    past = np.searchsorted(times, edges, side="right")
    return past * edges - sums[past]

  return before(starts) - before(ends)


def _covered(
  starts: Float[np.ndarray, " n"],
  ends: Float[np.ndarray, " n"],
  edges: Float[np.ndarray, " e"],
) -> Float[np.ndarray, " e"]:
  """Seconds up to each edge that lie in the union of spans."""
  if not len(starts):
    return np.zeros(len(edges))
  order = np.argsort(starts, kind="stable")
  starts, ends = starts[order], np.maximum.accumulate(ends[order])
  # A span that begins after all before it have ended opens a new run of them.
  opens = np.r_[True, starts[1:] > ends[:-1]]
  begins, stops = starts[opens], ends[np.r_[opens[1:], True]]
  lengths = np.concatenate([[0.0], np.cumsum(stops - begins)])
  at = np.searchsorted(begins, edges, side="right")
  inside = np.minimum(edges, stops[at - 1]) - begins[at - 1]
  return np.where(at > 0, lengths[at - 1] + inside, 0.0)
