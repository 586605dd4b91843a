# SPDX-License-Identifier: Apache-2.0
"""Tests of reading pickles: honest ones, damaged ones, and attacks."""

import collections
import copyreg
import io
import os
import pathlib
import pickle
import struct

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from jaxttc.tasks.multitask import restricted_pickle

_FIELDS = {
  b"data": np.arange(24, dtype=np.uint8).reshape(4, 6),
  b"labels": [3, 1, 4, 1000, 2**40, -7],
  b"names": [b"apple.png", "b\u00e4r", None, True, 2.5, (1, 2), {b"a": [3]}],
}
# What Python 2 writes for {"data": array([[1, 2, 3]], uint8), "x": [7, 300]}.
_PYTHON_2 = (
  b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03"
  b"cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x03\x86cnumpy\n"
  b"dtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff"
  b"\xff\xff\xffK\x00tb\x89U\x03\x01\x02\x03tbU\x01xq\x08]q\x09(K\x07M,\x01eu."
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
  return tmp_path_factory.mktemp("pickles")


def _load(folder, content: bytes):
  path = folder / "file"
  path.write_bytes(content)
  return restricted_pickle.load(path)


def _same(read, expected):
  assert read.keys() == expected.keys()
  for key, value in expected.items():
    if isinstance(value, np.ndarray):
      assert read[key].dtype == value.dtype
      np.testing.assert_array_equal(read[key], value)
    else:
      assert read[key] == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_round_trips(folder, protocol):
  _same(_load(folder, pickle.dumps(_FIELDS, protocol)), _FIELDS)


def test_python_2_with_text_as_bytes(folder):
  fields = _load(folder, _PYTHON_2)
  _same(fields, {b"data": np.array([[1, 2, 3]], np.uint8), b"x": [7, 300]})


@hypothesis.given(
  values=hnp.arrays(
    st.sampled_from(["u1", "<i2", ">i4", "<f4", ">f8", "?"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
  ),
  fortran=st.booleans(),
  protocol=st.integers(2, 5),
)
@hypothesis.settings(max_examples=60)
def test_arrays_round_trip(folder, values, fortran, protocol):
  values = np.array(values, order="F" if fortran else "C")
  _same(_load(folder, pickle.dumps({1: values}, protocol)), {1: values})


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_any_truncation_is_refused_with_its_byte(folder, protocol):
  whole = pickle.dumps(_FIELDS, protocol)
  if protocol < 4:
    whole = _PYTHON_2
  for size in range(len(whole)):
    with pytest.raises(ValueError, match=r"file, byte \d+: .*") as error:
      _load(folder, whole[:size])
    assert "\n" not in str(error.value)


@hypothesis.given(
  at=st.integers(0, 10_000),
  change=st.integers(1, 255),
  protocol=st.sampled_from([2, 4, 5]),
)
@hypothesis.settings(max_examples=300)
def test_a_changed_byte_raises_nothing_else(folder, at, change, protocol):
  damaged = bytearray(pickle.dumps({b"x": _FIELDS[b"data"], 2: [5]}, protocol))
  damaged[at % len(damaged)] ^= change
  try:
    assert isinstance(_load(folder, bytes(damaged)), dict)
  except ValueError as error:
    assert str(error).startswith(str(folder)) and "\n" not in str(error)


class _Calls:
  def __init__(self, function, *arguments):
    self._call = function, arguments

  def __reduce__(self):
    return self._call


@pytest.mark.parametrize(
  "function, arguments, name",
  [
    (os.system, ("touch {mark}",), "posix.system"),
    (eval, ("open('{mark}', 'w')",), "builtins.eval"),
    (exec, ("open('{mark}', 'w')",), "builtins.exec"),
    (open, ("{mark}", "w"), "io.open"),
    (getattr, (os, "system"), "builtins.getattr"),
    (__import__, ("os",), "builtins.__import__"),
    (np.fromfile, ("{mark}",), "numpy.fromfile"),
    (np.load, ("{mark}",), "numpy.load"),
    (np.memmap, ("{mark}", "u1", "w+", 0, (9,)), "numpy.memmap"),
    (collections.OrderedDict, (), "collections.OrderedDict"),
  ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_calls_are_refused_by_name(
  folder, tmp_path, function, arguments, name, protocol
):
  mark = tmp_path / "mark"
  arguments = [str(a).format(mark=mark) for a in arguments if a is not os]
  content = pickle.dumps({b"data": _Calls(function, *arguments)}, protocol)
  name = name.replace("builtins", "(builtins|__builtin__)")
  with pytest.raises(ValueError, match=rf"byte \d+: the pickle names {name},"):
    _load(folder, content)
  assert not mark.exists()


@pytest.mark.parametrize(
  "module, name",
  [
    ("numpy", "ndarray.__class__"),
    ("numpy", "ndarray.__reduce__"),
    ("numpy", "core"),
    ("numpy.core.multiarray", "_reconstruct.__globals__"),
    ("_codecs", "encode.__self__"),
    ("_codecs", "decode"),
    ("builtins", "object.__subclasses__"),
  ],
)
def test_dotted_and_neighbouring_names_are_refused(folder, module, name):
  content = b"\x80\x04" + b"".join(
    b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)
  )
  with pytest.raises(ValueError, match="which is not called"):
    _load(folder, content + b"\x93)R.")


_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
_NDARRAY, _DTYPE = b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
  "content",
  [
    # Attributes for the constructors, by a dict and by slots.
    _ARRAY + b"}X\x08\x00\x00\x00__code__Nsb.",
    _ARRAY + b"N}X\x08\x00\x00\x00__code__Ns\x86b.",
    _DTYPE + b"N}X\x05\x00\x00\x00_nameX\x06\x00\x00\x00encodes\x86b.",
    # Another type in place of the array's.
    _ARRAY + b"(cos\nsystem\nK\x00\x85U\x01btR.",
    _ARRAY + b"(K\x01K\x00\x85U\x01btR.",
    # The constructors called in ways that NumPy's pickles do not.
    _NDARRAY + b"K\x09\x85R.",
    b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    # Objects of classes, with and without arguments.
    b"(iposix\nsystem\n.",
    b"(cposix\nsystem\no.",
    _NDARRAY + b")\x81.",
    _NDARRAY + b")}\x92.",
    # Persistent and registered names, and buffers from outside.
    b"Pid\n.",
    b"K\x01Q.",
    b"\x82\x01.",
    b"\x97.",
    # Sets, and keys that cannot be hashed, or whose hash takes long.
    b"\x8f.",
    b"(K\x01\x91.",
    b"}]K\x01s.",
    b"}(" + b")" + b"\x85" * 20_000 + b"K\x01u.",
    b"()" + b"\x85" * 20_000 + b"K\x01d.",
    # A method of a list is none of ours.
    b"]X\x06\x00\x00\x00append\x85R.",
  ],
)
def test_crafted_instructions_are_refused(folder, content):
  with pytest.raises(ValueError, match=r"file, byte \d+: "):
    _load(folder, b"\x80\x02" + content)
  assert pickle.loads(pickle.dumps(np.arange(3))).tolist() == [0, 1, 2]


def test_registered_classes_are_refused(folder):
  copyreg.add_extension("posix", "system", 231)
  try:
    with pytest.raises(ValueError, match="the pickle builds objects"):
      _load(folder, b"\x80\x02\x82\xe7U\x04true\x85R.")
  finally:
    copyreg.remove_extension("posix", "system", 231)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
  "values",
  [
    np.array([None, 1], object),
    np.array([os.curdir], object),
    np.array(["text"]),
    np.zeros(2, [("a", "u1"), ("b", "O")]),
    np.array(["2026-01-01"], "M8[D]"),
  ],
)
def test_arrays_of_anything_but_numbers_are_refused(folder, values, protocol):
  with pytest.raises(ValueError, match="pickled array of dtype .* numbers"):
    _load(folder, pickle.dumps({b"data": values}, protocol))


def test_array_of_another_length_is_refused(folder):
  content = pickle.dumps({b"x": np.arange(4, dtype=np.uint8)}, 4)
  at = content.index(bytes(range(4)))
  with pytest.raises(ValueError, match="byte"):
    _load(
      folder,
      content[: at - 1] + b"\x03" + content[at : at + 3] + content[at + 4 :],
    )


def test_array_whose_size_is_left_open_is_refused(folder):
  assert b"K\x01K\x03\x86" in _PYTHON_2
  content = _PYTHON_2.replace(b"K\x01K\x03\x86", b"K\x01J\xff\xff\xff\xff\x86")
  with pytest.raises(ValueError, match="with sizes that are no numbers"):
    _load(folder, content)


def test_array_without_state_is_refused(folder):
  content = b"\x80\x02}U\x01x" + _ARRAY + _NDARRAY + b"K\x00\x85U\x01b\x87Rs."
  with pytest.raises(ValueError, match="pickled array without values"):
    _load(folder, content)


@pytest.mark.parametrize(
  "content",
  [
    b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of 2**31 places
    b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",  # a terabyte of bytes
    b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",
    b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
  ],
)
def test_small_files_ask_for_little_memory(folder, content):
  with pytest.raises(ValueError, match=r"cut short|expected a dict"):
    _load(folder, content)


def test_labels_that_would_be_endless_to_show(tmp_path):
  from jaxttc.tasks.multitask import cifar100

  many = [0]
  for _ in range(60):
    many = [many, many]
  cifar100.save(tmp_path, np.zeros((1, 32, 32, 3), np.uint8), [0])
  path = tmp_path / cifar100.FOLDER / "train"
  fields = restricted_pickle.load(path) | {b"fine_labels": [many]}
  path.write_bytes(pickle.dumps(fields, 4))
  with pytest.raises(ValueError, match="image 0: fine label list; expected"):
    cifar100.load(tmp_path)


def test_what_follows_the_end_is_refused(folder):
  content = pickle.dumps({1: 2})
  with pytest.raises(ValueError, match=rf"byte {len(content)}: 3 bytes follow"):
    _load(folder, content + b"abc")


@pytest.mark.parametrize("value", [[1], None, np.arange(3), "text"])
def test_anything_but_a_dict_is_refused(folder, value):
  with pytest.raises(ValueError, match="; expected a dict$"):
    _load(folder, pickle.dumps(value))


def test_agrees_with_the_c_unpickler(folder):
  unpickler = pickle.Unpickler(io.BytesIO(_PYTHON_2), encoding="bytes")
  _same(_load(folder, _PYTHON_2), unpickler.load())
