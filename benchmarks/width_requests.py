# SPDX-License-Identifier: Apache-2.0
"""Requests of many budgets in one batch, against two simple ways to serve them.

    python -m benchmarks.width_requests

64 requests, each with a budget and a preference of its own, for the network of
`slimmable_speed` (a residual network for 32 x 32 images); float32, one thread
on one core. Times are CPU seconds, rivals take turns after one that is not
timed (`timing`), medians count, and an interval is the range over turns.

*  grouped: `allocators.width_requests`, from requests to answers on the host,
*  one by one: each request through the program of its own width,
*  widest: all of them in one program of full width, whatever their budgets;
   no grouping could be simpler, and it ignores what they may spend.

Compilations are counted while batches of random sizes and mixtures are served.
Writes docs/results/width_requests.json.
"""

from collections.abc import Mapping, Sequence
import functools
import statistics
from typing import Any

from absl import app, flags
import jax
import numpy as np

from benchmarks import slimmable_speed, timing
from jaxttc import allocators, results
from jaxttc.allocators import width_requests
from jaxttc.inference import compiled_widths
from jaxttc.models import slimmable

_BUDGETS = tuple(i / 8 for i in range(2, 9))
_SIZES = (1, 4, 16)


class Served:
  """A network of random parameters, requests for it, and its servers."""

  def __init__(self, spec: slimmable.NetworkSpec, count: int):
    self.network = spec.build()
    self.space = self.network.space
    self.params = slimmable.init(self.network, jax.random.key(0))
    self.prices = allocators.WidthPrices(self.network)
    self.rng = np.random.default_rng(0)
    tasks = self.space.tasks
    corners = [
      {other: float(other == task) for other in tasks} for task in tasks
    ]
    self.server = width_requests.RequestServer(
      self.network,
      self.params,
      self.plan,
      width_requests.menu_of(self.plan, _BUDGETS, corners),
      sizes=_SIZES,
    )
    self.requests = self.draw(count)
    shape = (count, *self.network.input_shape)
    self.inputs = self.rng.normal(size=shape).astype(np.float32)
    self.full = self.space.uniform()
    self.widest = compiled_widths.CompiledWidths(self.network, self.params)
    self.widest.prewarm([self.full], count)

  @functools.cached_property
  def configs(self) -> tuple[slimmable.WidthConfig, ...]:
    """The widths that the requests are served at."""
    return self.server(self.inputs, self.requests).configs

  def plan(self, request: width_requests.Request) -> allocators.Plan:
    """Widths of a request; scores are logarithms of widths."""
    menu = np.asarray(self.space.menu)
    stages = len(self.space.encoder)

    def scores(indices):
      logs = np.log(menu[indices])
      return logs[:, :stages].mean(1, keepdims=True) + logs[:, stages:]

    return allocators.plan(
      self.space,
      request.preference,
      request.budget,
      self.prices,
      scores,
      rule="two_level",
    )

  def draw(self, count: int) -> list[width_requests.Request]:
    """Random requests: budgets from a quarter to all, any preference."""
    tasks = self.space.tasks
    return [
      width_requests.Request(
        float(self.rng.uniform(0.25, 1.0)),
        dict(zip(tasks, self.rng.dirichlet(np.ones(len(tasks))), strict=True)),
      )
      for _ in range(count)
    ]

  def one_by_one(self) -> dict[str, np.ndarray]:
    """Each request through a program of its width for one."""
    found = [
      self.server.compiled(self.inputs[row : row + 1], config)
      for row, config in enumerate(self.configs)
    ]
    found = jax.device_get(found)
    return {
      task: np.concatenate([one[task] for one in found])
      for task in self.space.tasks
    }

  def all_at_widest(self) -> dict[str, np.ndarray]:
    """All requests in one program of full width."""
    return jax.device_get(self.widest(self.inputs, self.full))


def speed(served: Served, turns: int) -> dict[str, Any]:
  """CPU seconds a batch, and how far apart grouped and single answers are."""
  grouped = served.server(served.inputs, served.requests)
  single = served.one_by_one()
  rows = np.stack([served.space.indices(c) for c in served.configs])
  macs = served.prices(rows, "fraction")
  budgets = np.array([request.budget for request in served.requests])
  return {
    "seconds": timing.by_turns(
      {
        "grouped": lambda: (
          served.server(served.inputs, served.requests).predictions
        ),
        "one_by_one": served.one_by_one,
        "widest": served.all_at_widest,
      },
      turns,
    ),
    "largest_difference": max(
      float(np.abs(grouped.predictions[task] - single[task]).max())
      for task in single
    ),
    "over_budget": int((macs > budgets + 1e-12).sum()),
    "mean_budget": float(budgets.mean()),
    "mean_share_of_macs": float(macs.mean()),
    "requests": len(served.requests),
    "widths": len(set(served.configs)),
    "snapped": sum(
      served.plan(request).config != config
      for request, config in zip(served.requests, served.configs, strict=True)
    ),
    "programs": grouped.programs,
    "padding": grouped.padding,
  }


def serving(served: Served, batches: int) -> dict[str, Any]:
  """Compilations while batches of random sizes and mixtures are served."""
  count = 0
  with timing.counting_compilations() as seen:
    for _ in range(batches):
      size = int(served.rng.integers(1, len(served.inputs) + 1))
      served.server(served.inputs[:size], served.draw(size))
      count += size
  return {
    "batches": batches,
    "requests": count,
    "compilations": seen.count,
  }


def claims(
  found: Mapping[str, Any], served: Mapping[str, Any]
) -> list[results.Claim]:
  """What the figures of `speed` and `serving` come to."""
  seconds = found["seconds"]
  return [
    results.Claim(
      "grouped_over_one_by_one",
      **_ratio(seconds["one_by_one"], seconds["grouped"]),
      bar=1.0,
    ),
    results.Claim(
      "grouped_over_widest",
      **_ratio(seconds["widest"], seconds["grouped"]),
      bar=1.0,
    ),
    results.Claim(
      "compilations_once_warm", served["compilations"], bar=0, comparison="<="
    ),
    results.Claim(
      "requests_over_budget", found["over_budget"], bar=0, comparison="<="
    ),
    results.Claim(
      "largest_difference_to_one_by_one",
      found["largest_difference"],
      bar=1e-4,
      comparison="<=",
    ),
  ]


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
  """Of medians; low and high are the range of the ratio within one turn."""
  value = statistics.median(slow) / statistics.median(fast)
  turns = [a / b for a, b in zip(slow, fast, strict=True)]
  return {
    "value": value,
    "low": min(value, *turns),
    "high": max(value, *turns),
  }


def run(
  spec: slimmable.NetworkSpec, count: int, turns: int, batches: int
) -> tuple[dict[str, Any], list[results.Claim]]:
  """All figures, and their claims."""
  served = Served(spec, count)
  found = speed(served, turns)
  mixtures = serving(served, batches)
  return {"speed": found, "serving": mixtures}, claims(found, mixtures)


def main(argv: Sequence[str]) -> None:
  """Measures, writes the file and prints the claims."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  timing.use_one_thread()
  tiny = flags.FLAGS.tiny
  data, made = run(
    slimmable_speed.TINY if tiny else slimmable_speed.SPEC,
    6 if tiny else 64,
    flags.FLAGS.turns,
    2 if tiny else 10,
  )
  if not tiny:
    results.write(
      flags.FLAGS.out,
      command=results.command_line(),
      seeds=[0],
      data=data,
      claims=made,
    )
  for claim in made:
    print(
      f"{claim.name:34s} {claim.figure}  ({claim.comparison} {claim.bar:g})"
    )


if __name__ == "__main__":
  flags.DEFINE_integer("turns", 11, "Timed turns of each rival.", 1)
  flags.DEFINE_bool("tiny", False, "A tiny network; writes no file.")
  flags.DEFINE_string("out", "docs/results/width_requests.json", "Results.")
  app.run(main)
