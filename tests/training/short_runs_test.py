# SPDX-License-Identifier: Apache-2.0
"""Short runs: orders, pace, and one program for runs of all sizes."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.training import short_runs


@hypothesis.given(
  rows=st.integers(1, 40),
  batch=st.integers(1, 16),
  epochs=st.integers(1, 3),
  spare=st.integers(0, 10),
)
def test_every_epoch_reads_every_row(rows, batch, epochs, spare):
  order, steps = short_runs.orders(rows, batch, epochs, rows + spare, 3)
  a_pass = -(-rows // batch)
  assert steps == epochs * a_pass <= len(order)
  for epoch in range(epochs):
    read = order[epoch * a_pass : (epoch + 1) * a_pass].ravel()
    assert set(read) == set(range(rows))
    assert len(set(read[:rows])) == rows
  again, _ = short_runs.orders(rows, batch, epochs, rows + spare, 3)
  np.testing.assert_array_equal(order, again)


@pytest.mark.parametrize("rows", [0, 9])
def test_runs_without_rows_or_with_too_many_are_refused(rows):
  with pytest.raises(ValueError, match=f"{rows} rows, expected 1 to 8"):
    short_runs.orders(rows, 4, 1, 8, 0)


@hypothesis.given(steps=st.integers(1, 200))
def test_the_pace_rises_then_falls_and_never_stands_still(steps):
  pace = np.array([float(short_runs.pace(i, steps)) for i in range(steps)])
  assert (pace > 0).all() and (pace <= 1).all()
  top = pace.argmax()
  assert (np.diff(pace[: top + 1]) >= 0).all()
  assert (np.diff(pace[top:]) <= 0).all()


def _loss(params, batch, key):
  del key
  x, y = batch
  return ((x @ params - y) ** 2).mean(), {}


def test_padding_changes_nothing_and_the_steps_are_those_of_the_optimizer():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(12, 3)).astype(np.float32)
  y = x @ np.array([1.0, -2.0, 0.5], np.float32)
  start, key = jnp.zeros(3), jax.random.key(0)
  order, steps = short_runs.orders(12, 4, 3, 12, 0)
  found = short_runs.fit(_loss, start, (x, y), order, steps, 0.1, key)

  wide = (np.pad(x, ((0, 8), (0, 0))), np.pad(y, (0, 8)))
  longer, same = short_runs.orders(12, 4, 3, 20, 0)
  padded = short_runs.fit(_loss, start, wide, longer, same, 0.1, key)
  np.testing.assert_allclose(found, padded, rtol=1e-6)

  schedule = lambda i: 0.1 * short_runs.pace(i, steps)  # noqa: E731
  tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.98)
  )
  params, state = start, tx.init(start)
  for rows in order[:steps]:
    grads = jax.grad(_loss, has_aux=True)(params, (x[rows], y[rows]), key)[0]
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(found, params, rtol=1e-4)
