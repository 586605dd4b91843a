# SPDX-License-Identifier: Apache-2.0
"""Classes of schedulers: what each decides, on what knowledge, to what end.

The families follow Sliwko's survey: schedulers of an operating system, of a
cluster, and of big-data frameworks. Every policy of this package carries its
class, and known schedulers stand beside them in `KNOWN`.
"""

from collections.abc import Mapping, Sequence
import types
from typing import NamedTuple


class Taxon(NamedTuple):
  """The class of a scheduler.

  Attributes:
    family: "operating system", "cluster" or "big data".
    granularity: what one decision is about.
    knowledge: what it sees, and how fresh.
    objective: what it is after.
    preemption: whether running work may be stopped for other work.
    migration: whether running work may go on elsewhere.
  """

  family: str
  granularity: str
  knowledge: str
  objective: str
  preemption: str
  migration: str


KNOWN: Mapping[str, Taxon] = types.MappingProxyType(
  {
    "Linux EEVDF": Taxon(
      "operating system",
      "time slice of a thread",
      "run queues of one machine",
      "fair shares, latency",
      "yes",
      "between cores",
    ),
    "FreeBSD ULE": Taxon(
      "operating system",
      "time slice of a thread",
      "run queues of one machine",
      "interactivity, cache affinity",
      "yes",
      "between cores",
    ),
    "Borg": Taxon(
      "cluster",
      "task",
      "whole cell, requests and estimated use",
      "packing, priority",
      "yes, by priority",
      "no, restarts elsewhere",
    ),
    "Omega": Taxon(
      "cluster",
      "job, in transactions",
      "shared whole state, may conflict",
      "each scheduler's own",
      "yes",
      "no",
    ),
    "Mesos": Taxon(
      "cluster",
      "offer of resources",
      "offers only, a framework each",
      "dominant-resource fairness",
      "limited",
      "no",
    ),
    "Kubernetes": Taxon(
      "cluster",
      "pod",
      "whole cluster, requests",
      "filter, then weighted scores",
      "yes, by priority",
      "no, restarts elsewhere",
    ),
    "YARN": Taxon(
      "big data",
      "container",
      "heartbeats of nodes, requests",
      "capacity or fair shares, locality",
      "yes, of queues",
      "no",
    ),
    "Sparrow": Taxon(
      "big data",
      "task of milliseconds",
      "probes of a few machines",
      "response time",
      "no",
      "no",
    ),
    "Quincy": Taxon(
      "big data",
      "all tasks at once",
      "whole cluster, data locality",
      "least cost of a flow",
      "yes",
      "restarts elsewhere",
    ),
  }
)

_REQUESTS = "whole cell, requests"

OURS: Mapping[str, Taxon] = types.MappingProxyType(
  {
    "random": Taxon("cluster", "task", _REQUESTS, "any fit", "no", "no"),
    "round_robin": Taxon("cluster", "task", _REQUESTS, "turns", "no", "no"),
    "first_fit": Taxon("cluster", "task", _REQUESTS, "any fit", "no", "no"),
    "best_fit": Taxon("cluster", "task", _REQUESTS, "packing", "no", "no"),
    "worst_fit": Taxon("cluster", "task", _REQUESTS, "spreading", "no", "no"),
    "power_of_k": Taxon(
      "cluster", "task", "k sampled machines, use", "spreading", "no", "no"
    ),
    "recorded": Taxon(
      "cluster",
      "task",
      "what the trace recorded",
      "that of the recorded scheduler",
      "as recorded",
      "as recorded",
    ),
    "rebalancing": Taxon(
      "cluster",
      "all tasks, now and then",
      "whole cell, use",
      "no overload, few bytes moved, balance",
      "no",
      "live",
    ),
    "masb": Taxon(
      "cluster",
      "task",
      "own machine exactly; k others, by stale summaries, then by asking",
      "no overload, few bytes moved, tight fits",
      "no",
      "live, forced if need be",
    ),
  }
)


def taxon(policy: str) -> Taxon:
  """The class of one of our policies.

  Raises:
    ValueError: if there is no such policy.
  """
  if policy not in OURS:
    raise ValueError(f"policy {policy!r} is not one of {', '.join(OURS)}")
  return OURS[policy]


def table() -> str:
  """All classes as a Markdown table, known schedulers first."""
  rows = [("scheduler", *Taxon._fields), ("---",) * (len(Taxon._fields) + 1)]
  rows += [(name, *found) for name, found in KNOWN.items()]
  rows += [(f"`{name}`", *found) for name, found in OURS.items()]
  return "\n".join(_row(row) for row in rows)


def _row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"
