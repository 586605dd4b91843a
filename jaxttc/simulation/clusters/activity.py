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
  traces.check_positive("bins", bins)
  if len(trace) != len(run.requests.e2e_s):
    raise ValueError(
      f"busy_shares: a trace of {len(trace)} requests for a run of "
      f"{len(run.requests.e2e_s)}"
    )
  end = run.makespan_s if end_s is None else end_s
  traces.check_positive("end_s", end)
  arrival = cluster_lib.ticks(trace.arrival_s)
  requests = run.requests
  first = arrival + requests.ttft_s
  decoded = trace.output_tokens > 1
  spans = (
    (requests.prompt_machine, arrival + requests.queue_s, first, True),
    (
      requests.token_machine,
      first + requests.transfer_s,
      arrival + requests.e2e_s,
      decoded,
    ),
  )
  edges = np.linspace(0.0, end, bins + 1)
  made = np.zeros((len(run.prompt_s), bins))
  for machine in range(len(made)):
    starts, ends = (
      np.concatenate(
        [
          times[(where == machine) & counted & np.isfinite(start)]
          for where, start, stop, counted in spans
          for times in [(start, stop)[side]]
        ]
      )
      for side in range(2)
    )
    busy = _covered(starts, np.minimum(ends, run.makespan_s), edges)
    made[machine] = np.diff(busy) / np.diff(edges)
  return made


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
