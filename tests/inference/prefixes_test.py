# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.inference import prefixes


def _opened():
  found = prefixes.Prefixes()
  found.open({0: "a", 2: "b"}, 3)
  return found


def test_spans_become_nodes_and_are_forgotten():
  found = _opened()
  found.add(0, 4, "ax")
  found.add(0, 5, "ay")
  assert found.taken(0, 4) and not found.taken(2, 4)
  found.file(0, {5: 1})
  assert found.of(0, 1) == "ay" and not found.taken(0, 4)
  found.release(0, np.array([False, False]))
  assert found.of(0, 0) == "a"
  with pytest.raises(ValueError, match="group 0 has no node 1"):
    found.of(0, 1)


def test_a_closed_group_may_be_opened_again():
  found = _opened()
  found.add(0, 1, "ax")
  found.close(0)
  found.close(0)
  assert list(found.groups) == [2]
  found.open({0: "c"}, 3)
  assert found.of(0, 0) == "c" and not found.taken(0, 1)


@pytest.mark.parametrize("group", [-1, 0, 3])
def test_groups_that_cannot_be_opened(group):
  found = _opened()
  with pytest.raises(
    ValueError, match=f"group {group} is out of range or open"
  ):
    found.open({1: "c", group: "d"}, 3)
  assert 1 not in found.groups


def test_what_is_not_there_is_named():
  found = _opened()
  with pytest.raises(ValueError, match="group 1 is not open"):
    found.of(1, 0)
  with pytest.raises(ValueError, match="group 1 is not open"):
    found.add(1, 0, "x")
  with pytest.raises(ValueError, match="ticket 7 of group 2 is no span"):
    found.file(2, {7: 1})
