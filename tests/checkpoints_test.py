# SPDX-License-Identifier: Apache-2.0
"""Tests of checkpoints: round trips, damage, interrupted saves."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import checkpoints
from jaxttc import mesh as mesh_lib


@flax.struct.dataclass
class _State:
  params: Any
  key: jax.Array
  step: Any


def _state(seed=0):
  key = jax.random.key(seed)
  return _State(
    params={
      "dense": {"kernel": jax.random.normal(key, (64, 64))},
      "scale": jnp.full((3,), seed, jnp.bfloat16),
      "flags": jnp.array([True, False]),
    },
    key=key,
    step=seed,
  )


_ABSTRACT = jax.eval_shape(_state)


def _data_files(directory, step):
  """The files of a step that hold its state's tensors, largest first."""
  root = pathlib.Path(directory) / str(step) / "state"
  files = [path for path in root.rglob("d/*") if path.is_file()]
  return sorted(files, key=lambda path: -path.stat().st_size)


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0xFF
  path.write_bytes(bytes(data))


@pytest.fixture(name="two_steps")
def _two_steps(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as opened:
    opened.save(1, _state(1), metric=0.9)
    opened.save(2, _state(2), metric=0.95)
  return tmp_path


def test_round_trip(tmp_path):
  meta = {"tokens": 12, "name": "a", "nested": {"list": [1, 2]}}
  checkpoints.save(tmp_path / "a", 5, _state(3), meta=meta)
  step, state, found = checkpoints.restore_latest(tmp_path / "a", _ABSTRACT)
  assert (step, found) == (5, meta)
  assert isinstance(state, _State)
  chex.assert_trees_all_equal_shapes_and_dtypes(state, _ABSTRACT)
  chex.assert_trees_all_equal(state.params, _state(3).params)
  assert int(state.step) == 3
  np.testing.assert_array_equal(
    jax.random.normal(state.key), jax.random.normal(jax.random.key(3))
  )


def test_restores_from_a_concrete_state(two_steps):
  restored = checkpoints.restore_latest(two_steps, _state(7))
  assert restored.step == 2
  chex.assert_trees_all_equal(restored.state.params, _state(2).params)


def test_nothing_to_restore(tmp_path):
  absent = tmp_path / "absent"
  assert checkpoints.restore_latest(absent, _ABSTRACT) is None
  assert checkpoints.restore_best(absent, _ABSTRACT) is None
  assert checkpoints.list_steps(absent) == []
  assert not absent.exists()
  checkpoints.save(tmp_path, 1, _state())
  assert checkpoints.restore_best(tmp_path, _ABSTRACT) is None


def test_keeps_the_latest_and_the_best(tmp_path):
  with checkpoints.Checkpoints(tmp_path, keep=2) as opened:
    for step, metric in enumerate([0.1, 0.9, 0.2, None, 0.9, None, 0.5, None]):
      opened.save(step, _state(step), metric=metric)
    assert opened.list_steps() == [4, 6, 7]
    assert opened.restore_best(_ABSTRACT).step == 4
    assert opened.restore_latest(_ABSTRACT).step == 7


def test_continues_after_reopening(two_steps):
  checkpoints.save(two_steps, 3, _state(3), keep=2)
  assert checkpoints.list_steps(two_steps) == [2, 3]
  assert checkpoints.restore_best(two_steps, _ABSTRACT).step == 2


def test_places_leaves_as_the_abstract_state_says(tmp_path):
  mesh = mesh_lib.make_mesh()
  sharding = jax.NamedSharding(mesh, mesh_lib.BATCH)
  rows = jnp.arange(32.0).reshape(16, 2)
  checkpoints.save(tmp_path, 1, mesh_lib.shard_batch({"x": rows}, mesh))
  for placement in (sharding, None):
    wanted = jax.ShapeDtypeStruct((16, 2), jnp.float32, sharding=placement)
    state = checkpoints.restore_latest(tmp_path, {"x": wanted}).state
    np.testing.assert_array_equal(state["x"], rows)
    assert len(state["x"].sharding.device_set) == (8 if placement else 1)


@pytest.mark.parametrize(
  "change,message",
  [
    ({"scale": jnp.zeros(4, jnp.bfloat16)}, r"bfloat16\[3\], expected bf"),
    ({"scale": jnp.zeros(3)}, r"'scale'.*bfloat16\[3\], expected float32\[3\]"),
    ({"more": jnp.zeros(1)}, r"'more'\] was saved as nothing, expected"),
    ({"flags": {}}, r"'flags'\] was saved as bool\[2\], expected nothing"),
  ],
)
@pytest.mark.parametrize("fallback", [False, True])
def test_refuses_another_structure(two_steps, change, message, fallback):
  wanted = _ABSTRACT.replace(params=_ABSTRACT.params | change)
  with pytest.raises(
    ValueError, match=f"{two_steps.name}, step 2: .*{message}"
  ):
    checkpoints.restore_latest(two_steps, wanted, fallback=fallback)


def test_refuses_a_key_read_as_numbers(two_steps):
  wanted = _ABSTRACT.replace(key=jax.ShapeDtypeStruct((2,), jnp.uint32))
  with pytest.raises(ValueError, match=r"saved as key<fry>\[\]"):
    checkpoints.restore_latest(two_steps, wanted)


def _truncate(step):
  for path in step.rglob("*"):
    if path.is_file():
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _remove_manifest(step):
  (step / "state" / "manifest.ocdbt").unlink()


def _remove_state(step):
  shutil.rmtree(step / "state")


def _remove_record(step):
  shutil.rmtree(step / "record")


def _empty(step):
  shutil.rmtree(step)
  step.mkdir()


def _flip_tensor(step):
  _flip(_data_files(step.parent, step.name)[0])


def _garble_record(step):
  (step / "record" / "metadata").write_text("{}")


# Orbax abandons the other reads of a step when one fails, and they complain.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
  "damage",
  [
    _truncate,
    _remove_manifest,
    _remove_state,
    _remove_record,
    _empty,
    _flip_tensor,
    _garble_record,
  ],
)
def test_damage_is_one_clear_error_and_falls_back_if_asked(two_steps, damage):
  damage(two_steps / "2")
  with pytest.raises(ValueError, match=r"expected") as caught:
    checkpoints.restore_latest(two_steps, _ABSTRACT)
  assert "\n" not in str(caught.value)
  assert str(caught.value).startswith(str(two_steps))
  restored = checkpoints.restore_latest(two_steps, _ABSTRACT, fallback=True)
  assert restored.step == 1
  chex.assert_trees_all_equal(restored.state.params, _state(1).params)
  assert checkpoints.list_steps(two_steps) == [1, 2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [_empty, _flip_tensor, _garble_record])
def test_training_goes_on_from_a_fallback(two_steps, damage):
  damage(two_steps / "2")
  with checkpoints.Checkpoints(two_steps) as opened:
    assert opened.restore_latest(_ABSTRACT, fallback=True).step == 1
    opened.save(2, _state(5), metric=0.1)
    opened.save(3, _state(6))
  assert checkpoints.list_steps(two_steps) == [1, 2, 3]
  assert checkpoints.restore_best(two_steps, _ABSTRACT).step == 1


def test_nothing_is_removed_that_is_not_in_the_way(two_steps):
  _flip_tensor(two_steps / "2")
  with checkpoints.Checkpoints(two_steps) as opened:
    assert opened.restore_latest(_ABSTRACT, fallback=True).step == 1
    opened.save(3, _state(3))
    assert opened.list_steps() == [1, 2, 3]
  for step in (1, 3):
    _flip_tensor(two_steps / str(step))
  with checkpoints.Checkpoints(two_steps) as opened:
    with pytest.raises(ValueError, match="step 3: .*is damaged"):
      opened.restore_latest(_ABSTRACT, fallback=True)
    with pytest.raises(ValueError, match="expected a step after the latest"):
      opened.save(1, _state(1))
    assert opened.list_steps() == [1, 2, 3]


def test_saves_in_the_background_in_order(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as opened:
    opened.save(1, _state(1))
    with pytest.raises(ValueError, match="step 1: expected a step after"):
      opened.save(1, _state(2))
  assert int(checkpoints.restore_latest(tmp_path, _ABSTRACT).state.step) == 1


def test_best_falls_back_to_the_next_best(two_steps):
  _flip_tensor(two_steps / "2")
  with pytest.raises(ValueError, match="step 2: .*is damaged"):
    checkpoints.restore_best(two_steps, _ABSTRACT)
  assert checkpoints.restore_best(two_steps, _ABSTRACT, fallback=True).step == 1


def test_fallback_with_no_step_left_names_the_latest(two_steps):
  _flip_tensor(two_steps / "1")
  _flip_tensor(two_steps / "2")
  with pytest.raises(ValueError, match="step 2: .*is damaged"):
    checkpoints.restore_latest(two_steps, _ABSTRACT, fallback=True)


def test_partly_written_step_is_no_step(two_steps):
  partial = two_steps / "3.orbax-checkpoint-tmp"
  shutil.copytree(two_steps / "2" / "state", partial / "state")
  (partial / "state" / "manifest.ocdbt").unlink()
  assert checkpoints.list_steps(two_steps) == [1, 2]
  assert checkpoints.restore_latest(two_steps, _ABSTRACT).step == 2
  checkpoints.save(two_steps, 3, _state(3))
  restored = checkpoints.restore_latest(two_steps, _ABSTRACT)
  assert restored.step == 3
  chex.assert_trees_all_equal(restored.state.params, _state(3).params)


_KILLED = """
import os, signal, sys
import jax.numpy as jnp
from jaxttc import checkpoints
opened = checkpoints.Checkpoints(sys.argv[1])
opened.save(1, {"x": jnp.full((8,), 1.0)})
opened.wait()
opened.save(2, {"x": jnp.full((4096, 4096), 2.0)})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_in_the_middle_of_a_save(tmp_path):
  ran = subprocess.run(
    [sys.executable, "-c", _KILLED, str(tmp_path)],
    cwd=pathlib.Path(checkpoints.__file__).parents[1],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )
  assert ran.returncode == -signal.SIGKILL
  assert len(os.listdir(tmp_path)) > 1, "the second save had not begun"
  assert checkpoints.list_steps(tmp_path) == [1]
  wanted = {"x": jax.ShapeDtypeStruct((8,), jnp.float32)}
  np.testing.assert_array_equal(
    checkpoints.restore_latest(tmp_path, wanted).state["x"], np.full(8, 1.0)
  )
  checkpoints.save(tmp_path, 2, {"x": jnp.full((8,), 3.0)})
  assert checkpoints.list_steps(tmp_path) == [1, 2]


def test_save_refuses(two_steps):
  for step in (1, 2):
    with pytest.raises(
      ValueError, match=f"step {step}: expected a step after the latest, 2"
    ):
      checkpoints.save(two_steps, step, _state())
  with pytest.raises(ValueError, match="step 3: metric is nan"):
    checkpoints.save(two_steps, 3, _state(), metric=float("nan"))
  with pytest.raises(ValueError, match="keep=0"):
    checkpoints.save(two_steps, 3, _state(), keep=0)
  with pytest.raises(ValueError, match="float64 leaf of shape"):
    checkpoints.save(two_steps, 3, {"x": np.zeros(2)})
  with pytest.raises(ValueError, match=r"empty leaf, of shape \(0, 2\)"):
    checkpoints.save(two_steps, 3, {"x": jnp.zeros((0, 2))})
  assert checkpoints.list_steps(two_steps) == [1, 2]


def test_refuses_a_file_for_a_directory(tmp_path):
  path = tmp_path / "file"
  path.write_text("")
  with pytest.raises(ValueError, match="expected a directory, found a file"):
    checkpoints.restore_latest(path, _ABSTRACT)


def test_best_does_not_pass_over_a_record_it_cannot_read(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as opened:
    opened.save(1, _state(1), metric=0.9)
    opened.save(2, _state(2), metric=0.5)
    opened.save(3, _state(3))
  _garble_record(tmp_path / "1")
  with pytest.raises(ValueError, match="step 1: expected a record"):
    checkpoints.restore_best(tmp_path, _ABSTRACT)
  assert checkpoints.restore_best(tmp_path, _ABSTRACT, fallback=True).step == 2
  assert checkpoints.restore_latest(tmp_path, _ABSTRACT).step == 3


def test_leading_axes_may_be_those_that_were_saved(tmp_path):
  now = {"rows": jnp.zeros((5, 2)), "one": jnp.float32(1), "wide": jnp.ones(3)}
  with checkpoints.Checkpoints(tmp_path) as opened:
    assert opened.as_saved(now) is now
    saved = {"rows": jnp.ones((3, 2)), "one": jnp.float32(2)}
    opened.save(1, saved | {"wide": jnp.ones((3, 4))})
    like = opened.as_saved(now)
  assert like["rows"].shape == (3, 2)
  assert like["one"] is now["one"]
  assert like["wide"] is now["wide"]  # more than its leading axis differs
  found = checkpoints.restore_latest(
    tmp_path, like | {"wide": jnp.ones((3, 4))}
  )
  assert (found.state["rows"] == 1).all()
