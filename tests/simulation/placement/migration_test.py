# SPDX-License-Identifier: Apache-2.0
"""Live migration against closed forms and a simulation page by page."""

import math

import hypothesis
from hypothesis import strategies
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.simulation.placement import migration

M, B, V = 1000.0, 10.0, 20.0


def _closed(ratio, most):
  """(traffic / M, rounds) as the module's docstring has them."""
  if ratio == 0:
    return 1.0, 1
  rounds = most
  if ratio < 1:
    rounds = min(most, math.ceil(math.log(V / M) / math.log(ratio)))
  return sum(ratio**i for i in range(rounds + 1)), rounds


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9, 1.0, 1.1])
def test_closed_form(ratio):
  found = migration.migration_traffic(
    jnp.float32(M),
    jnp.float32(ratio * B),
    B,
    stop_bytes=V,
    max_rounds=12,
    switch_s=0.5,
  )
  traffic, rounds = _closed(ratio, 12)
  np.testing.assert_allclose(found.bytes / M, traffic, rtol=1e-5)
  np.testing.assert_allclose(found.seconds, traffic * M / B + 0.5, rtol=1e-5)
  assert found.rounds == rounds
  downtime = M * ratio**rounds / B + 0.5
  np.testing.assert_allclose(found.downtime, downtime, rtol=1e-5)
  assert found.converged == (ratio < 0.9 or M * ratio**rounds <= V)


def test_small_guests_are_paused_at_once():
  found = migration.migration_traffic(
    jnp.float32(V), jnp.float32(5.0), B, stop_bytes=V
  )
  assert (found.bytes, found.rounds) == (V, 0)


def test_working_set_caps_growth_and_giving_up_saves_traffic():
  dirty = jnp.float32(2 * B)
  capped = migration.migration_traffic(
    jnp.float32(M), dirty, B, stop_bytes=V, max_rounds=5, working_set=100.0
  )
  assert capped.bytes == M + 5 * 100
  gave_up = migration.migration_traffic(
    jnp.float32(M), dirty, B, stop_bytes=V, max_rounds=5, give_up=True
  )
  assert gave_up.bytes == M + 2 * M  # one round, then what it left
  assert not gave_up.converged


def test_disk_is_sent_once():
  found = migration.migration_traffic(
    jnp.float32(M), jnp.float32(0.0), B, stop_bytes=V, disk_bytes=500.0
  )
  assert found.bytes == M + 500


@hypothesis.given(
  strategies.floats(0.0, 40.0),
  strategies.floats(0.0, 10.0),
  strategies.floats(1.0, 30.0),
)
@hypothesis.settings(max_examples=40)
def test_more_writing_and_less_bandwidth_cost_more(dirty, more, bandwidth):
  def traffic(rate, band):
    return float(
      migration.migration_traffic(
        jnp.float32(M), jnp.float32(rate), band, stop_bytes=V, max_rounds=8
      ).bytes
    )

  slack = 1 + 1e-5
  assert traffic(dirty, bandwidth) <= traffic(dirty + more, bandwidth) * slack
  assert traffic(dirty, bandwidth + more) <= traffic(dirty, bandwidth) * slack


def test_against_a_guest_simulated_page_by_page():
  """Writes hit pages at random; what is dirty is read off a bitmap.

  A page that is written twice in a round is sent once, so rounds are compared
  at a rate of writes that leaves the expected share of distinct pages dirty.
  """
  rng = np.random.default_rng(0)
  pages, bandwidth, distinct = 4000, 1000.0, 0.3
  # The writes a second that leave `distinct` x pages after `pages` are sent.
  stop, sent_by_round = 40, []
  for _ in range(20):
    left, sent = pages, []
    while left > stop:
      sent.append(left)
      wanted = distinct * left
      writes = math.log(1 - wanted / pages) / math.log(1 - 1 / pages)
      bitmap = np.zeros(pages, bool)
      bitmap[rng.integers(0, pages, rng.poisson(writes))] = True
      left = int(bitmap.sum())
    sent_by_round.append(sent + [left])
  rounds = min(map(len, sent_by_round))
  mean = np.mean([sent[:rounds] for sent in sent_by_round], axis=0)
  found = migration.migration_traffic(
    jnp.float32(pages),
    jnp.float32(distinct * bandwidth),
    bandwidth,
    stop_bytes=float(stop),
  )
  expected = [pages * distinct**i for i in range(rounds)]
  assert int(found.rounds) + 1 == rounds
  # A page a round, and the noise of twenty guests.
  noise = 3 * np.sqrt(np.array(expected) / 20)
  assert (np.abs(mean - expected) <= 1 + noise).all()
  np.testing.assert_allclose(found.bytes, sum(expected), rtol=1e-5)


def test_bad_links_and_guests():
  with pytest.raises(ValueError, match="bandwidth must be > 0"):
    migration.check(1.0, 1.0, 0.0)
  with pytest.raises(ValueError, match="dirty_rate must be >= 0"):
    migration.check(1.0, -1.0, 1.0)
  with pytest.raises(ValueError, match="memory must be >= 0"):
    migration.check(-1.0, 1.0, 1.0)
  with pytest.raises(ValueError, match="switch_s must be >= 0, got -1"):
    migration.check_link(migration.Link(switch_s=-1))
