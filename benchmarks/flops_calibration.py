# SPDX-License-Identifier: Apache-2.0
"""How good estimates are on models whose true FLOP are known: random sizes.

The truth is the count of a training step, of a kernel that computes masked
scores or one that does not, times a number of steps; it is in closed form, and
the first few are traced, too, to see that it is the truth. Estimators are told
less: sizes and tokens, or hours on hardware whose utilisation they do not know,
or what a report gives: parameters and tokens to one digit.

The hidden utilisations are drawn from two distributions that the estimator has
not seen: log-normal around those that were published for large runs, and
uniform from 0.15 to 0.6.
"""

from typing import Any, NamedTuple

import numpy as np
from rich import progress as rich_progress

from benchmarks import flops_families
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates, jaxpr_flops, transformer_flops
from jaxttc.models import config as config_lib

# Of model FLOP: GPT-3, Gopher, MT-NLG, PaLM (Chowdhery et al. 2022, table 3),
# OPT-175B and BLOOM (from TFLOP/s a card in their reports, recomputation
# included), Llama 3 405B at three scales (Dubey et al. 2024, table 4).
PUBLISHED = (0.213, 0.325, 0.302, 0.462, 0.47, 0.48, 0.43, 0.41, 0.38)
_TRACED = 4  # of the truths, how many are checked
_PEAK = 989.5e12  # of one h100-sxm in bfloat16


class Example(NamedTuple):
  """A run whose FLOP are known.

  Attributes:
    config: sizes.
    work: what it did.
    truth: FLOP.
    hidden: name of the distribution of utilisations.
    utilisation: what nobody was told.
  """

  config: config_lib.TransformerConfig
  work: flop_estimates.Work
  truth: float
  hidden: str
  utilisation: float


def draw(rng: np.random.Generator, traced: bool = False) -> list[Example]:
  """One random model, run at a utilisation of each hidden distribution.

  Args:
    rng: source of randomness; it is advanced.
    traced: whether the truth is checked by a trace.

  Raises:
    ValueError: if the trace counts otherwise.
  """
  heads = int(rng.choice([2, 4, 8]))
  size = int(rng.choice([4, 8, 16]))
  config = config_lib.TransformerConfig(
    vocab_size=int(rng.integers(32, 512)),
    width=heads * size,
    layers=int(rng.integers(1, 3)),
    heads=heads,
    kv_heads=int(rng.choice([1, 2, heads])),
    head_dim=size,
    mlp_width=int(rng.choice([2, 3, 4])) * heads * size,
    tie_embeddings=bool(rng.random() < 0.5),
  )
  length = int(rng.integers(8, 128))
  step = flop_estimates.Work(tokens=length, length=length, masked=True)
  truth = flop_estimates.from_config(config, step).value
  if traced:
    fn, args = flops_families.training(config, 1, length)
    count = jaxpr_flops.count_flops(fn, *args)
    if count != truth:
      raise ValueError(f"{config}: {count} FLOP traced, {truth} in closed form")
  steps = float(10 ** rng.uniform(6, 12))
  if rng.random() < 0.5:  # a kernel that leaves masked scores out
    above = length * (length - 1) // 2
    truth -= 3 * above * transformer_flops.context_flops(config.shape())
  work = flop_estimates.Work(tokens=steps * length, length=length)
  logs = np.log(PUBLISHED)
  shares = {
    "published": float(np.exp(rng.normal(logs.mean(), logs.std(ddof=1)))),
    "uniform": float(rng.uniform(0.15, 0.6)),
  }
  return [
    Example(config, work, steps * truth, hidden, min(share, 1.0))
    for hidden, share in shares.items()
  ]


def estimates(example: Example) -> dict[str, estimate_lib.Estimate]:
  """What each method says, told what it would be told."""
  devices = 64
  seconds = example.truth / (devices * _PEAK * example.utilisation)
  shape = example.config.shape()
  plain = (
    6
    * _digit(transformer_flops.parameters(shape))
    * _digit(example.work.tokens)
  )
  return {
    "closed form": flop_estimates.from_config(shape, example.work),
    "hardware time": flop_estimates.from_hardware(
      "h100-sxm", devices, seconds, "bfloat16"
    ),
    "6ND as reported": estimate_lib.Estimate.exact(plain, "FLOP", "6ND"),
  }


def rows(count: int, seed: int) -> list[dict[str, Any]]:
  """A row a model, hidden distribution and method."""
  rng = np.random.default_rng(seed)
  found = []
  for i in rich_progress.track(range(count), "drawing sizes"):
    for example in draw(rng, traced=i < _TRACED):
      threshold = example.truth * 10 ** rng.uniform(-1, 1)
      for method, estimate in estimates(example).items():
        drawn = estimate.draws(2000, seed, method)
        above = bool(np.mean(drawn > threshold) > 0.5)
        low, high = estimate.low * (1 - 1e-9), estimate.high * (1 + 1e-9)
        found.append(
          {
            "example": i,
            "hidden": example.hidden,
            "method": method,
            "ratio": estimate.value / example.truth,
            "inside": low <= example.truth <= high,
            "agrees": above == (example.truth > threshold),
          }
        )
  return found


def summary(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Coverage, median error and agreement of decisions, by method."""
  made = []
  keys = sorted({(row["hidden"], row["method"]) for row in found})
  for hidden, method in keys:
    own = [r for r in found if (r["hidden"], r["method"]) == (hidden, method)]
    errors = np.array([abs(row["ratio"] - 1) for row in own])
    made.append(
      {
        "hidden": hidden,
        "method": method,
        "examples": len(own),
        "inside": int(sum(row["inside"] for row in own)),
        "median_error": float(np.median(errors)),
        "largest_error": float(errors.max()),
        "agrees": float(np.mean([row["agrees"] for row in own])),
      }
    )
  return made


def _digit(number: float) -> float:
  """A number to one significant digit, as reports give it."""
  return float(f"{number:.0e}")
