# SPDX-License-Identifier: Apache-2.0
"""Pickled frames are read; a pickle that names other code is refused."""

import os
import pickle

import pytest

from jaxttc.tasks.routing import frame_pickle

pandas = pytest.importorskip("pandas", reason="extra `tables` not installed")


class _Command:
  """Runs a command when it is unpickled."""

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


def _old_texts(frame):
  """Texts as objects, as pandas before 3 keeps and pickles them."""
  texts = frame.select_dtypes(exclude="number").columns
  made = frame.astype(dict.fromkeys(texts, object))
  made.columns = made.columns.astype(object)
  return made


def test_frames_come_back_as_they_were(tmp_path):
  frame = _old_texts(
    pandas.DataFrame({"prompt": ["p", "q"], "m": [1.0, 0.5], "n": [3, 4]})
  )
  for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
    path = tmp_path / f"{protocol}.pkl"
    frame.to_pickle(path, protocol=protocol)
    pandas.testing.assert_frame_equal(frame_pickle.load(path), frame)


@pytest.mark.parametrize("inside", [False, True])
def test_code_is_never_run(tmp_path, inside):
  command = _Command(f"touch {tmp_path / 'ran'}")
  held = pandas.DataFrame({"m": [command]}) if inside else command
  path = tmp_path / "bad.pkl"
  path.write_bytes(pickle.dumps(held))
  with pytest.raises(ValueError, match=r"bad.pkl: cannot be read: names .*sys"):
    frame_pickle.load(path)
  assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"no pickle"])
def test_damaged_files_are_named(tmp_path, content):
  path = tmp_path / "cut.pkl"
  path.write_bytes(content)
  with pytest.raises(ValueError, match="cut.pkl: cannot be read"):
    frame_pickle.load(path)


def test_other_things_are_no_frames(tmp_path):
  path = tmp_path / "list.pkl"
  path.write_bytes(pickle.dumps([1, 2]))
  with pytest.raises(ValueError, match="holds no data frame"):
    frame_pickle.load(path)
