# SPDX-License-Identifier: Apache-2.0
"""Latency objectives: how much slower than an idle machine requests may be.

A slowdown is a request's latency over that of the same request alone on an idle
machine of reference. Nine percentiles of slowdowns are limited (Patel et al.
2024, table 5): three each of the time to the first token, the mean time between
tokens, and the time to the last.
"""

from collections.abc import Mapping
import dataclasses

from jaxtyping import Float
import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import sweeps

PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True)
class Objective:
  """Limits of slowdowns at the percentiles 50, 90 and 99.

  Raises:
    ValueError: if a limit is not above 0 or limits fall.
  """

  ttft: tuple[float, float, float] = (2.0, 3.0, 6.0)
  tbt: tuple[float, float, float] = (1.25, 1.5, 5.0)
  e2e: tuple[float, float, float] = (1.25, 1.5, 5.0)

  def __post_init__(self):
    for field in dataclasses.fields(self):
      limits = getattr(self, field.name)
      if len(limits) != 3 or not 0 < limits[0] <= limits[1] <= limits[2]:
        raise ValueError(
          f"objective: {field.name} {limits} must be three positive limits "
          "that never fall"
        )


@dataclasses.dataclass(frozen=True)
class Verdict:
  """Whether an objective is met.

  Attributes:
    met: whether all requests finished and all nine limits hold.
    slowdowns: by latency ("ttft", "tbt", "e2e"), at the three percentiles.
    worst: the largest slowdown over its limit, and which it is.
  """

  met: bool
  slowdowns: Mapping[str, tuple[float, float, float]]
  worst: tuple[float, str]


def unloaded(
  trace: traces.Trace, spec: machines_lib.MachineSpec
) -> dict[str, Float[np.ndarray, " n"]]:
  """Latencies of each request alone on an idle machine, in closed form.

  ttft = T_p(p), e2e = T_p(p) + sum of T(1, p + k) for k = 1 .. g - 1, and tbt
  its second part over g - 1 (NaN for one token); all in seconds.

  Raises:
    ValueError: if the machine's performance model does not reach the prompts.
  """
  p, steps = trace.prompt_tokens, trace.output_tokens - 1
  ttft = np.asarray(spec.performance.prompt_s(p))
  c0, c1, c2 = spec.performance.decode
  decode = steps * (c0 + c1 + c2 * p) + c2 * steps * (steps + 1) / 2
  with np.errstate(invalid="ignore"):
    tbt = np.where(steps > 0, decode / np.maximum(steps, 1), np.nan)
  return {"ttft": ttft, "tbt": tbt, "e2e": ttft + decode}


def check(
  requests: sweeps.RequestTable,
  alone: Mapping[str, Float[np.ndarray, " n"]],
  objective: Objective = Objective(),
) -> Verdict:
  """Holds what came of requests against an objective.

  Args:
    requests: what `simulate` reports.
    alone: what `unloaded` gives for the same trace.
    objective: the limits.
  """
  slowdowns, worst = {}, (0.0, "")
  for name in ("ttft", "tbt", "e2e"):
    slowdown = getattr(requests, f"{name}_s") / alone[name]
    slowdown = slowdown[~np.isnan(slowdown)]
    if not slowdown.size:  # All outputs are of one token.
      slowdown = np.zeros(1)
    found = tuple(
      float(x) for x in np.percentile(slowdown, PERCENTILES, method="higher")
    )
    slowdowns[name] = found
    limits = getattr(objective, name)
    for percentile, value, limit in zip(
      PERCENTILES, found, limits, strict=True
    ):
      worst = max(worst, (value / limit, f"{name} p{percentile}"))
  met = requests.unfinished == 0 and worst[0] < 1
  return Verdict(met, slowdowns, worst)
