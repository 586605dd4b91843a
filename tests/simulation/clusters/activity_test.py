# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.simulation import clusters, traces
from jaxttc.simulation.clusters import activity

_SPAN = st.tuples(st.integers(0, 30), st.integers(0, 12))


@hypothesis.given(st.lists(_SPAN, max_size=12), st.integers(1, 9))
def test_covered_time_is_that_of_a_fine_grid(spans, bins):
  starts = np.array([float(a) for a, _ in spans])
  ends = np.array([float(a + b) for a, b in spans])
  edges = np.linspace(0.0, 45.0, bins + 1)
  found = activity._covered(starts, ends, edges)
  cells = [any(a <= x < a + b for a, b in spans) for x in range(45)]
  grid = np.concatenate([[0], np.cumsum(cells)])
  expected = np.interp(edges, np.arange(46), grid)
  np.testing.assert_allclose(found, expected, atol=1e-9)
  counts = [sum(a <= x < a + b for a, b in spans) for x in range(45)]
  grid = np.concatenate([[0], np.cumsum(counts)])
  expected = np.interp(edges, np.arange(46), grid)
  summed = activity._summed(starts, ends, edges)
  np.testing.assert_allclose(summed, expected, atol=1e-9)


@pytest.mark.parametrize("chunk", [None, 100])
def test_shares_add_up_to_the_time_in_iterations(model, fast, slow, chunk):
  rng = np.random.default_rng(0)
  trace = traces.Trace(
    np.cumsum(rng.exponential(0.4, 80)),
    rng.integers(1, 500, 80),
    rng.integers(1, 60, 80),
  )
  rules = clusters.Rules(chunk_tokens=chunk, batch_tokens=500, max_batch=6)
  cluster = clusters.Cluster(
    name="pair",
    model=model,
    prompt=[(fast, 2)],
    token=[(slow, 2)],
    rules=rules,
  )
  run = clusters.simulate(cluster, trace)
  shares = activity.busy_shares(run, trace, bins=17)
  assert shares.shape == (4, 17) and (shares >= 0).all()
  assert (shares <= 1 + 1e-12).all()
  busy = shares.sum(1) * run.makespan_s / 17
  np.testing.assert_allclose(busy, run.prompt_s + run.decode_s, atol=1e-6)
  # A window that ends earlier holds the same seconds in other bins.
  half = activity.busy_shares(run, trace, bins=1, end_s=run.makespan_s / 17)
  np.testing.assert_allclose(half[:, 0], shares[:, 0], atol=1e-9)
  work = activity.requests_in_work(run, trace, bins=17)
  assert (work >= shares - 1e-9).all() and (work[2:] <= 6 + 6 + 1e-9).all()
  assert run.events > 2 * len(trace)


def test_refuses_what_does_not_belong_together(model, fast):
  cluster = clusters.undivided("one", model, (fast, 1))
  trace = traces.Trace([0.0], [10], [5])
  run = clusters.simulate(cluster, trace)
  with pytest.raises(ValueError, match="bins must be positive"):
    activity.busy_shares(run, trace, bins=0)
  with pytest.raises(ValueError, match="2 requests for a run of 1"):
    activity.busy_shares(run, traces.Trace([0.0, 1.0], [9, 9], [5, 5]), bins=3)
