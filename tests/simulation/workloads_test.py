# SPDX-License-Identifier: Apache-2.0
"""Made traces have the quantiles, rates and gaps that were asked for."""

import numpy as np
import pytest

from jaxttc.simulation import traces, workloads


def test_lengths_follow_their_quantiles():
  trace = workloads.generate(
    workloads.CONVERSATION, rate_per_s=50.0, requests=20_000, seed=0
  )
  prompt = workloads.CONVERSATION.prompt
  found = np.quantile(trace.prompt_tokens, prompt.probabilities[1:-1])
  np.testing.assert_allclose(found, prompt.tokens[1:-1], rtol=0.06)
  assert trace.output_tokens.min() >= 7
  assert trace.output_tokens.max() <= 1000
  correlation = np.corrcoef(trace.prompt_tokens, trace.output_tokens)[0, 1]
  assert abs(correlation) < 0.05


@pytest.mark.parametrize(
  ("arrivals", "asked", "found"),
  [("poisson", 3.0, 1.0), ("gamma", 3.0, 3.0), ("gamma", 0.25, 0.25)],
)
def test_gaps_have_their_rate_and_variation(arrivals, asked, found):
  trace = workloads.generate(
    workloads.CODE,
    rate_per_s=4.0,
    requests=40_000,
    seed=1,
    arrivals=arrivals,
    variation=asked,
  )
  gaps = np.diff(trace.arrival_s)
  assert gaps.mean() == pytest.approx(0.25, rel=0.05)
  assert gaps.std() / gaps.mean() == pytest.approx(found, rel=0.08)


def test_a_seed_makes_the_same_requests_at_every_rate():
  slow, fast = (
    workloads.generate(workloads.CODE, rate_per_s=rate, requests=50, seed=7)
    for rate in (1.0, 8.0)
  )
  np.testing.assert_array_equal(slow.prompt_tokens, fast.prompt_tokens)
  np.testing.assert_allclose(slow.arrival_s, 8 * fast.arrival_s)


def test_replay_repeats_a_trace_at_a_rate():
  source = traces.Trace([3.0, 4.0, 7.0], [1, 2, 3], [4, 5, 6])
  made = workloads.generate(
    source, rate_per_s=1.0, requests=5, seed=0, arrivals="replay"
  )
  np.testing.assert_allclose(made.arrival_s, [0, 0.5, 2, 3, 3.5])
  assert made.prompt_tokens.tolist() == [1, 2, 3, 1, 2]


def test_resampled_lengths_stay_in_pairs():
  source = traces.Trace([0.0, 1.0], [10, 20], [1, 2])
  made = workloads.generate(source, rate_per_s=1.0, requests=100, seed=0)
  pairs = set(zip(made.prompt_tokens, made.output_tokens, strict=True))
  assert pairs == {(10, 1), (20, 2)}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"rate_per_s": 0.0}, "rate_per_s must be positive"),
    ({"requests": 0}, "requests must be positive"),
    ({"variation": float("nan")}, "variation must be positive"),
    ({"arrivals": "weibull"}, "'weibull' is not one of"),
    ({"arrivals": "replay"}, "needs a trace"),
  ],
)
def test_refuses_what_cannot_be(change, message):
  asked = {"rate_per_s": 1.0, "requests": 5, "seed": 0} | change
  with pytest.raises(ValueError, match=message):
    workloads.generate(workloads.CODE, **asked)


@pytest.mark.parametrize(
  ("p", "tokens", "message"),
  [
    ((0, 1), (1,), "2 probabilities and 1 lengths"),
    ((0, 0.5), (1, 2), "from 0 to 1"),
    ((0, 1), (0, 2), "at least 1"),
    ((0, 0.5, 1), (1, 3, 2), "never fall"),
  ],
)
def test_refuses_knots_that_are_no_distribution(p, tokens, message):
  with pytest.raises(ValueError, match=message):
    workloads.Quantiles(p, tokens)
