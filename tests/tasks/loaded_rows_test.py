# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.tasks import row_files


def test_stages_keep_places_and_tell_the_first_of_all(tmp_path):
  lines = [b"{}", b'{"n": 1}', b'{"n": 2}', b'{"n": 3}', b"x"]

  def read(number, row):
    if "n" not in row:
      raise ValueError("no n")
    return row["n"]

  def odd(n):
    if not n % 2:
      raise ValueError(f"{n} is even")
    return 10 * n

  path = tmp_path / "rows.jsonl"
  path.write_bytes(b"\n".join(lines[1:]))
  with pytest.raises(ValueError, match="line 4: not valid JSON"):
    row_files.load(path, read)
  found = row_files.load(path, read, skip=True)
  with pytest.raises(ValueError, match="rows.jsonl, line 2: 2 is even"):
    found.then(odd)
  found = found.then(odd, skip=True)
  assert found == [10, 30] and found.skipped == 2
  assert found.first_skipped == f"{path}, line 2: 2 is even"
  path.write_bytes(b"\n".join(lines))
  found = row_files.load(path, read, skip=True).then(odd, skip=True)
  assert found.skipped == 3 and "line 1: no n" in found.first_skipped
  with pytest.raises(ValueError, match="no row of 5 can be used; .*, line 1"):
    found.then(lambda n: odd(2 * n), skip=True)
