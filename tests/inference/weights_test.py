# SPDX-License-Identifier: Apache-2.0
"""Weights come back as they were, or with one line that says why not."""

import os

import flax.linen as nn
import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxttc.inference import weights

_DTYPES = [np.float32, np.float16, np.int32, np.uint8, np.bool_, np.int64]


def _params():
  return {
    "embed": {"embedding": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3)},
    "layers_0": {"mlp": {"kernel": np.ones((3, 4), np.float32)}},
    "scale": np.float32(0.5),
    "empty": np.zeros((0, 3), np.int32),
  }


def _same(left, right):
  assert jax.tree.structure(left) == jax.tree.structure(right)
  for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
    assert isinstance(b, np.ndarray)
    assert np.asarray(a).dtype == b.dtype and np.shape(a) == b.shape
    np.testing.assert_array_equal(np.asarray(a), b)


def _error(path, abstract=None):
  """The message, which must be one line and must name the file."""
  with pytest.raises(ValueError) as caught:
    weights.load_safetensors(path, abstract)
  message = str(caught.value)
  assert "\n" not in message and str(path) in message
  return message


def test_round_trip_keeps_values_dtypes_and_metadata(tmp_path):
  path = tmp_path / "model.safetensors"
  metadata = {"name": "tiny", "größe": 'a "b"\n\x01/'}
  weights.save_safetensors(path, _params(), metadata)
  params, read = weights.load_safetensors(path)
  _same(_params(), params)
  assert read == metadata
  assert params["embed"]["embedding"].dtype == ml_dtypes.bfloat16
  assert os.listdir(tmp_path) == ["model.safetensors"]


@hypothesis.given(
  st.dictionaries(
    st.text("abc_", min_size=1, max_size=3),
    st.dictionaries(
      st.text("abc_", min_size=1, max_size=3),
      st.sampled_from(_DTYPES).flatmap(
        lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3))
      ),
      min_size=1,
      max_size=3,
    ),
    min_size=1,
    max_size=3,
  )
)
@hypothesis.settings(max_examples=20)
def test_any_nested_arrays_come_back(tmp_path_factory, params):
  path = tmp_path_factory.mktemp("w") / "any.safetensors"
  transposed = jax.tree.map(np.transpose, params)  # not contiguous
  weights.save_safetensors(path, transposed)
  _same(transposed, weights.load_safetensors(path)[0])


def test_same_content_gives_the_same_bytes(tmp_path):
  metadata = {name: name * 2 for name in "zyxwvutsrq"}
  contents = set()
  for i in range(5):
    path = tmp_path / f"{i}.safetensors"
    weights.save_safetensors(path, _params(), metadata)
    contents.add(path.read_bytes())
  assert len(contents) == 1
  plain = safetensors.numpy.load_file(path)  # the file is an ordinary one
  assert set(plain) == {
    "embed.embedding",
    "layers_0.mlp.kernel",
    "scale",
    "empty",
  }


def test_a_linen_model_is_restored_in_the_dtype_asked_for(tmp_path):
  path = tmp_path / "dense.safetensors"
  model = nn.Dense(4)
  inputs = jnp.ones((2, 3))
  variables = model.init(jax.random.key(0), inputs)
  weights.save_safetensors(path, variables["params"])
  abstract = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
  params, _ = weights.load_safetensors(path, abstract)
  np.testing.assert_array_equal(
    model.apply({"params": params}, inputs), model.apply(variables, inputs)
  )
  half = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), abstract
  )
  params, _ = weights.load_safetensors(path, half)
  assert params["kernel"].dtype == ml_dtypes.bfloat16


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "model.safetensors"
  weights.save_safetensors(path, _params())
  old = path.read_bytes()

  def full(*_):
    raise OSError("no space left")

  monkeypatch.setattr(weights.os, "fsync", full)
  with pytest.raises(OSError, match="no space"):
    weights.save_safetensors(path, {"other": np.ones(3)})
  assert path.read_bytes() == old
  assert os.listdir(tmp_path) == ["model.safetensors"]


def test_unreadable_files_are_one_line(tmp_path):
  path = tmp_path / "model.safetensors"
  assert "no such file" in _error(path)
  assert "a folder" in _error(tmp_path)
  weights.save_safetensors(path, _params(), {"a": "b"})
  whole = path.read_bytes()
  for bad in [
    b"",
    b"abc",
    whole[:-3],
    whole[:40],
    whole + b"x",
    b"\xff" * 200,
    whole[:8] + b"!" + whole[9:],
    b"\x80\x04\x95pickle",
  ]:
    path.write_bytes(bad)
    assert f"safetensors file ({len(bad)} bytes)" in _error(path)


def test_what_does_not_fit_is_named(tmp_path):
  path = tmp_path / "model.safetensors"
  names = "abcdef"
  weights.save_safetensors(path, {n: np.ones(2, np.float32) for n in names})
  spec = jax.ShapeDtypeStruct((2,), jnp.float32)
  abstract = {n: spec for n in names}
  more = abstract | {"x": {n: spec for n in "pqrst"}}
  assert "missing tensors: x.p, x.q, x.r and 2 more" in _error(path, more)
  assert "unexpected tensors: f" in _error(path, {n: spec for n in names[:-1]})
  wide = abstract | {"b": jax.ShapeDtypeStruct((2, 1), jnp.float32)}
  assert "ill-shaped tensors: b is (2,), expected (2, 1)" in _error(path, wide)
  whole = abstract | {"c": jax.ShapeDtypeStruct((2,), jnp.int32)}
  assert "c is float32, expected int32" in _error(path, whole)


def test_names_that_collide_are_refused(tmp_path):
  path = tmp_path / "model.safetensors"
  one = np.ones(1, np.float32)
  safetensors.numpy.save_file({"a": one, "a.b": one}, path)
  assert "path to others" in _error(path)


@pytest.mark.parametrize(
  ("params", "message"),
  [
    ({}, "params is empty"),
    ({"a.b": np.ones(1)}, "without dots"),
    ({"a": {"": np.ones(1)}}, "expected text"),
    ({"a": {}}, "params a: empty dict"),
    ({"a": {"b": np.array(["text"])}}, "params a/b: ndarray of dtype <U4"),
    ({"a": [np.ones(2), np.ones(2)]}, "params a: list"),
    ({"a": np.ones(2, ml_dtypes.float8_e4m3fn)}, "float8_e4m3fn"),
    ({"a": jax.random.key(0)}, "params a: .* key<"),
    ({"a": np.ones(2, np.complex64)}, "complex64"),
  ],
)
def test_unsavable_params_are_refused(tmp_path, params, message):
  with pytest.raises(ValueError, match=message):
    weights.save_safetensors(tmp_path / "model.safetensors", params)
  assert not os.listdir(tmp_path)


def test_bad_metadata_and_folder_are_refused(tmp_path):
  params = {"a": np.ones(1)}
  with pytest.raises(TypeError):
    weights.save_safetensors(tmp_path / "m", params, {"n": 3})
  with pytest.raises(ValueError, match="no such folder"):
    weights.save_safetensors(tmp_path / "nowhere" / "m", params)
