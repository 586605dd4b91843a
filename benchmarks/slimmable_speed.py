# SPDX-License-Identifier: Apache-2.0
"""Whether narrow networks are as fast as their FLOPs say, and switching free.

    python -m benchmarks.slimmable_speed

A residual network for 32 x 32 images, with the depth of CIFAR's ResNet-20 and
twice its width, and two classifiers; 32 images a call, float32, one thread on
one core. Times are CPU seconds; rivals take turns after one that is not timed
(`timing`), the median counts, and an interval is the range over turns.

*  full width against the configuration nearest to a quarter of its FLOPs (the
   claim), and against the nearest that has no more than a quarter,
*  a call at another width than the last against one at the same, one image
   each, and the look-up of a program,
*  compilations while random plans are served, some of them snapped,
*  a torch network that slices the same weights (`slimmable_peer`), at both
   widths, of which the worse ratio counts: in torch's own layout, which is
   what the definition's code uses, and, without a bar, with channels last.

Needs torch (the `bench` extra). Writes docs/results/slimmable_speed.json.
"""

from collections.abc import Mapping, Sequence
import statistics
import time
from typing import Any

from absl import app, flags
import jax
import numpy as np

from benchmarks import timing
from jaxttc import allocators, results
from jaxttc.inference import compiled_widths
from jaxttc.models import slimmable

SPEC = slimmable.NetworkSpec(
  encoder={
    "kind": "residual",
    "stages": ((32, 3, 1), (64, 3, 2), (128, 3, 2)),
  },
  tasks=(("fine", 100, False), ("coarse", 20, False)),
  input_shape=(32, 32, 3),
)
TINY = slimmable.NetworkSpec(
  encoder={"kind": "residual", "stages": ((32, 1, 1), (32, 1, 2))},
  tasks=(("a", 3, False), ("b", 2, False)),
  input_shape=(8, 8, 3),
  hidden=32,
)
LAYOUTS = ("channels_first", "channels_last")
_QUARTER = 0.25
_MENU = 8  # programs while random plans are served


class Served:
  """A network of random parameters, and its programs."""

  def __init__(self, spec: slimmable.NetworkSpec, batch: int):
    self.spec = spec
    self.network = spec.build()
    self.space = self.network.space
    self.params = slimmable.init(self.network, jax.random.key(0))
    self.compiled = compiled_widths.CompiledWidths(self.network, self.params)
    self.inputs = self._images(batch)
    self.one = self._images(1)
    self.full = self.space.uniform()
    self.quarter = self.space.at(_nearest(self.network, _QUARTER))
    self.below = self.space.at(_nearest(self.network, _QUARTER, below=True))

  def _images(self, batch: int) -> jax.Array:
    shape = (batch, *self.network.input_shape)
    drawn = np.random.default_rng(0).normal(size=shape)
    return jax.device_put(drawn.astype(np.float32))

  def share(self, config: slimmable.WidthConfig) -> float:
    """A configuration's share of the full multiply-adds."""
    rows = [self.space.indices(c) for c in (config, self.full)]
    own, full = slimmable.tabulate(self.network, np.stack(rows)).macs
    return float(own / full)


def _nearest(network, share: float, below: bool = False) -> np.ndarray:
  """Menu indices of the configuration nearest to a share of the FLOPs."""
  every = network.space.all_indices()
  macs = slimmable.tabulate(network, every).macs
  away = np.abs(macs / macs.max() - share)
  if below:
    away[macs > share * macs.max()] = np.inf
  # Of those that are as near, the one whose ratios differ least.
  ratios = np.asarray(network.space.menu)[every]
  return every[np.lexsort((np.ptp(ratios, axis=1), away.round(3)))[0]]


def speed(served: Served, turns: int) -> dict[str, Any]:
  """Seconds a call of ours and of torch, at full and quarter FLOPs."""
  import torch

  from benchmarks import slimmable_peer

  formats = dict(
    zip(LAYOUTS, (torch.contiguous_format, torch.channels_last), strict=True)
  )
  widths = {
    "full": served.full,
    "quarter": served.quarter,
    "below": served.below,
  }
  served.compiled.prewarm(widths.values(), len(served.inputs))
  rivals, difference = {}, 0.0
  for name, config in widths.items():
    rivals[f"ours_{name}"] = lambda c=config: served.compiled(served.inputs, c)
  for layout, memory_format in formats.items():
    peer = slimmable_peer.ResidualPeer(
      served.spec, served.params, memory_format
    )
    images = peer.images(np.asarray(served.inputs))
    for name, config in widths.items():
      counts = served.space.counts(config)
      run = lambda p=peer, x=images, c=counts: p(x, c)  # noqa: E731
      rivals[f"torch_{layout}_{name}"] = lambda run=run: run() and None
      ours, theirs = rivals[f"ours_{name}"](), run()
      difference = max(
        difference,
        *(
          float(np.abs(np.asarray(ours[task]) - theirs[task].numpy()).max())
          for task in ours
        ),
      )
  return {
    "seconds": timing.by_turns(rivals, turns),
    "largest_difference": difference,
    "shares": {k: served.share(config) for k, config in widths.items()},
    "widths": {k: config.to_dict() for k, config in widths.items()},
    "batch": len(served.inputs),
  }


def switching(served: Served, turns: int) -> dict[str, Any]:
  """Milliseconds that a switch of widths adds to a call, and of a look-up."""
  configs = (served.full, served.quarter)
  served.compiled.prewarm(configs, 1)
  added, look_up = [], []
  for _ in range(2):  # a warm-up
    for config in configs:
      jax.block_until_ready(served.compiled(served.one, config))
  for _ in range(turns):
    for config in configs:
      first, again = (_call_ms(served, config) for _ in range(2))
      added.append(first - again)
      start = time.process_time()
      served.compiled.nearest(config, 1)
      look_up.append(1e3 * (time.process_time() - start))
  return {"added_ms": added, "look_up_ms": look_up}


def _call_ms(served, config):
  start = time.process_time()
  jax.block_until_ready(served.compiled(served.one, config))
  return 1e3 * (time.process_time() - start)


def serving(served: Served, requests: int) -> dict[str, Any]:
  """Compilations and snaps while random budgets and preferences are served.

  Scores are the logarithms of widths: plans, not predictions, are of interest.
  """
  space, rng = served.space, np.random.default_rng(0)
  prices = allocators.WidthPrices(served.network)
  menu = np.asarray(space.menu)
  stages = len(space.encoder)

  def scores(indices):
    logs = np.log(menu[indices])
    return logs[:, :stages].mean(1, keepdims=True) + logs[:, stages:]

  def plan():
    weights = rng.dirichlet(np.ones(len(space.tasks)))
    return allocators.plan(
      space,
      dict(zip(space.tasks, weights, strict=True)),
      rng.uniform(0.15, 1.0),
      prices,
      scores,
      rule="value",
    ).config

  configs = list(dict.fromkeys(plan() for _ in range(4 * _MENU)))[:_MENU]
  configs.append(space.uniform(menu[0]))  # the floor that all can snap to
  served.compiled.prewarm(configs, 1)
  jax.block_until_ready(served.compiled(served.one, configs[0]))
  before = served.compiled.counters.snapped
  with timing.counting_compilations() as seen:
    for _ in range(requests):
      jax.block_until_ready(served.compiled(served.one, plan()))
  return {
    "requests": requests,
    "programs": len(configs),
    "snapped": served.compiled.counters.snapped - before,
    "compilations": seen.count,
  }


def claims(
  found: Mapping[str, Any], switched: Mapping[str, Any], served: Mapping
) -> list[results.Claim]:
  """What the figures of `speed`, `switching` and `serving` come to."""
  seconds = found["seconds"]
  over_torch = {
    (layout, name): _ratio(
      seconds[f"torch_{layout}_{name}"], seconds[f"ours_{name}"]
    )
    for layout in LAYOUTS
    for name in ("full", "quarter")
  }
  least = {
    layout: min(
      (ratio for (of, _), ratio in over_torch.items() if of == layout),
      key=lambda ratio: ratio["value"],
    )
    for layout in LAYOUTS
  }
  return [
    results.Claim(
      "speedup_at_quarter_flops",
      **_ratio(seconds["ours_full"], seconds["ours_quarter"]),
      bar=2.5,
    ),
    results.Claim(
      "speedup_just_below_quarter_flops",
      **_ratio(seconds["ours_full"], seconds["ours_below"]),
    ),
    results.Claim(
      "switch_ms",
      max(statistics.median(switched["added_ms"]), 0.0)
      + statistics.median(switched["look_up_ms"]),
      bar=1.0,
      comparison="<=",
    ),
    results.Claim(
      "compiles_on_hot_path",
      served["compilations"],
      bar=0,
      comparison="<=",
    ),
    results.Claim("throughput_over_torch", **least["channels_first"], bar=1.0),
    results.Claim(
      "throughput_over_torch_channels_last", **least["channels_last"]
    ),
    results.Claim(
      "throughput_over_torch_just_below_quarter_flops",
      **_ratio(seconds["torch_channels_first_below"], seconds["ours_below"]),
    ),
    results.Claim(
      "largest_difference_to_torch",
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
  spec: slimmable.NetworkSpec, batch: int, turns: int, requests: int
) -> tuple[dict[str, Any], list[results.Claim]]:
  """All figures, and their claims."""
  found = speed(Served(spec, batch), turns)
  switched = switching(Served(spec, batch), 4 * turns)
  served = serving(Served(spec, batch), requests)
  data = {"speed": found, "switching": switched, "serving": served}
  return data, claims(found, switched, served)


def main(argv: Sequence[str]) -> None:
  """Measures, writes the file and prints the claims."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  timing.use_one_thread()
  tiny = flags.FLAGS.tiny
  data, made = run(
    TINY if tiny else SPEC,
    4 if tiny else 32,
    flags.FLAGS.turns,
    20 if tiny else 200,
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
    bar = "" if claim.bar is None else f"  ({claim.comparison} {claim.bar:g})"
    print(f"{claim.name:34s} {claim.figure}{bar}")


if __name__ == "__main__":
  flags.DEFINE_integer("turns", 11, "Timed turns of each rival.", 1)
  flags.DEFINE_bool("tiny", False, "A tiny network; writes no file.")
  flags.DEFINE_string("out", "docs/results/slimmable_speed.json", "Results.")
  app.run(main)
