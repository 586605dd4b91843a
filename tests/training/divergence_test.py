# SPDX-License-Identifier: Apache-2.0
"""Tests of the file that a step leaves that diverged."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxttc.training import divergence, packing

_PARAMS = {
  "a": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
  "b": np.ones((2,), ml_dtypes.bfloat16),
}
_BATCH = packing.pack([packing.Example([1, 2, 3], [0.0, 1.0, 1.0])], 2, 4)


@pytest.fixture
def path(tmp_path):
  found = divergence.Diverged(
    step=9,
    figures={"loss": float("nan"), "grad_norm": float("inf")},
    params=_PARAMS,
    batch=_BATCH,
    key=jax.random.key(3),
    accumulate=2,
  )
  return divergence.save(tmp_path / "run", found)


def test_what_is_saved_is_read_back(path):
  shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, _PARAMS))
  found = divergence.read(path, shapes, _BATCH)
  assert path.name == "diverged-9.safetensors"
  assert (found.step, found.accumulate) == (9, 2)
  assert np.isnan(found.figures["loss"]) and found.figures["grad_norm"] > 1e30
  jax.tree.map(np.testing.assert_array_equal, found.params, _PARAMS)
  assert isinstance(found.batch, packing.Packed)
  jax.tree.map(np.testing.assert_array_equal, found.batch, _BATCH)
  assert found.key == jax.random.key(3)
  assert not list(path.parent.glob("*.partial"))


def test_replay_takes_the_parts_that_the_step_took(path):
  def loss(params, batch, key):
    assert batch.tokens.shape[0] == 1
    del key
    value = (params["a"]["w"] * batch.weights.sum()).sum()
    return jnp.log(value - value), {"loss": value, "weight": jnp.float32(1)}

  found = divergence.read(path, _PARAMS, _BATCH)
  figures, bad = divergence.replay(loss, found)
  assert figures == {"loss": 15.0}
  assert bad == {"a/w": 6}


def test_other_files_and_other_models_are_refused(path, tmp_path):
  with pytest.raises(ValueError, match="none: expected the file of a step"):
    divergence.read(tmp_path / "none", _PARAMS, _BATCH)
  broken = tmp_path / "broken.safetensors"
  broken.write_bytes(b"12345678")
  with pytest.raises(ValueError, match="expected the file of a step"):
    divergence.read(broken, _PARAMS, _BATCH)
  wider = _PARAMS | {"b": np.ones((3,), np.float32)}
  with pytest.raises(ValueError, match=r"\['b'\] is bfloat16\[2\], expected f"):
    divergence.read(path, wider, _BATCH)
