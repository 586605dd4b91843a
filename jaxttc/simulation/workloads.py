# SPDX-License-Identifier: Apache-2.0
"""Made traces: lengths from quantiles, arrivals at a rate.

Lengths are drawn by inverting a cumulative distribution through its quantiles,
or are resampled from a trace; arrivals are a Poisson process, a gamma process
(bursty above a coefficient of variation of 1), or a trace's own.
"""

from collections.abc import Sequence
import dataclasses

from jaxtyping import Int64
import numpy as np

from jaxttc.simulation import traces

_ARRIVALS = ("poisson", "gamma", "replay")


@dataclasses.dataclass(frozen=True)
class Quantiles:
  """A distribution of lengths, known at some quantiles.

  Between knots the inverse of the cumulative distribution is monotone and
  linear in the length's logarithm, as lengths spread over decades.

  Attributes:
    probabilities: from 0 to 1, rising.
    tokens: the length at each, at least 1, never falling.

  Raises:
    ValueError: if the knots are not so, or differ in number.
  """

  probabilities: Sequence[float]
  tokens: Sequence[float]

  def __post_init__(self):
    p, tokens = np.asarray(self.probabilities), np.asarray(self.tokens)
    if p.shape != tokens.shape or p.ndim != 1 or len(p) < 2:
      raise ValueError(
        f"quantiles: {p.size} probabilities and {tokens.size} lengths; "
        "expected two or more of each"
      )
    if p[0] != 0 or p[-1] != 1 or not (np.diff(p) > 0).all():
      raise ValueError("quantiles: probabilities must rise from 0 to 1")
    if not (tokens >= 1).all() or not (np.diff(tokens) >= 0).all():
      raise ValueError("quantiles: lengths must be at least 1 and never fall")

  def draw(self, rng: np.random.Generator, n: int) -> Int64[np.ndarray, " n"]:
    """Draws n lengths in tokens."""
    logs = np.interp(rng.random(n), self.probabilities, np.log(self.tokens))
    return np.maximum(np.rint(np.exp(logs)), 1).astype(np.int64)


_PROBABILITIES = (0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)


@dataclasses.dataclass(frozen=True)
class Lengths:
  """How long a service's prompts and outputs are, drawn independently."""

  prompt: Quantiles
  output: Quantiles


# Quantiles of the Azure traces of November 2023 (Patel et al. 2024; CC BY 4.0).
CODE = Lengths(
  Quantiles(
    _PROBABILITIES, (3, 75, 147, 578, 1469, 2744, 5187, 7303, 7436, 7437)
  ),
  Quantiles(_PROBABILITIES, (6, 6, 7, 9, 13, 24, 55, 90, 251, 1899)),
)
CONVERSATION = Lengths(
  Quantiles(
    _PROBABILITIES, (2, 181, 207, 396, 1020, 1189, 2734, 4083, 4142, 14050)
  ),
  Quantiles(_PROBABILITIES, (7, 41, 54, 85, 129, 395, 424, 451, 601, 1000)),
)


def generate(
  source: Lengths | traces.Trace,
  *,
  rate_per_s: float,
  requests: int,
  seed: int,
  arrivals: str = "poisson",
  variation: float = 1.0,
) -> traces.Trace:
  """Makes a trace; the same seed makes the same requests at every rate.

  Args:
    source: where lengths come from: quantiles, or a trace whose pairs of
      prompt and output are drawn with replacement ("replay": kept in order).
    rate_per_s: mean arrivals a second.
    requests: how many requests.
    seed: of the draws.
    arrivals: "poisson", "gamma", or "replay": the gaps of the source trace,
      scaled to the rate; it is repeated if it is too short.
    variation: standard deviation over mean of the gaps of "gamma".

  Raises:
    ValueError: if a rate, count or variation is not positive, the kind of
      arrivals is unknown, or "replay" has no trace.
  """
  traces.check_positive("rate_per_s", rate_per_s)
  traces.check_positive("requests", requests)
  traces.check_positive("variation", variation)
  if arrivals not in _ARRIVALS:
    raise ValueError(
      f"arrivals {arrivals!r} is not one of {', '.join(_ARRIVALS)}"
    )
  if arrivals == "replay":
    if not isinstance(source, traces.Trace):
      raise ValueError("arrivals 'replay' needs a trace, not quantiles")
    return _replay(source, rate_per_s, requests)
  lengths_rng, gaps_rng = np.random.default_rng(seed).spawn(2)
  if isinstance(source, traces.Trace):
    rows = lengths_rng.integers(len(source), size=requests)
    prompt, output = source.prompt_tokens[rows], source.output_tokens[rows]
  else:
    prompt = source.prompt.draw(lengths_rng, requests)
    output = source.output.draw(lengths_rng, requests)
  shape = 1.0 if arrivals == "poisson" else variation**-2
  gaps = gaps_rng.gamma(shape, 1 / shape, requests) / rate_per_s
  return traces.Trace(np.cumsum(gaps), prompt, output)


def _replay(
  source: traces.Trace, rate_per_s: float, requests: int
) -> traces.Trace:
  scaled = source.at_rate(rate_per_s)
  times = scaled.arrival_s - scaled.arrival_s[0]
  # One mean gap parts a repetition from the one before.
  period = times[-1] + 1 / rate_per_s
  turn, row = np.divmod(np.arange(requests), len(source))
  return traces.Trace(
    times[row] + turn * period,
    source.prompt_tokens[row],
    source.output_tokens[row],
  )
