# SPDX-License-Identifier: Apache-2.0
import types

import jax
import jax.numpy as jnp
import pytest

from jaxttc.cost import memory


def test_a_programs_peak_is_what_must_be_there_at_once():
  x = jnp.ones((64, 64))
  compiled = jax.jit(lambda x: x @ x).lower(x).compile()
  found = memory.of_program(compiled)
  assert found.arguments == found.outputs == 64 * 64 * 4
  assert found.peak == found.temporary + 2 * 64 * 64 * 4 - found.aliased
  donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
  assert memory.of_program(donated).peak < found.peak


def test_rematerialisation_takes_less():
  def loss(ws, x):
    layer = lambda h, w: (jnp.tanh(h @ w), None)  # noqa: E731
    return jax.lax.scan(layer, x, ws)[0].sum()

  ws = jax.ShapeDtypeStruct((32, 64, 64), jnp.float32)
  x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  plain, remat = (
    memory.of_program(jax.jit(jax.grad(fn)).lower(ws, x).compile()).temporary
    for fn in (loss, lambda ws, x: jax.checkpoint(loss)(ws, x))
  )
  assert plain >= 32 * 64 * 64 * 4 and remat > 0


def test_devices_and_processes_tell_what_they_can(monkeypatch):
  process = memory.of_process()
  assert process is None or process.value > 1e6
  assert memory.of_devices() is None  # CPUs do not tell
  told = types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 7})
  monkeypatch.setattr(jax, "local_devices", lambda: [told])
  assert memory.of_devices().value == 7
  silent = types.SimpleNamespace(memory_analysis=lambda: None)
  with pytest.raises(ValueError, match="does not tell"):
    memory.of_program(silent)
