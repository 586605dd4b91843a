# SPDX-License-Identifier: Apache-2.0
"""Entries are found by name; a wrong one gets a hint."""

import dataclasses

import pytest

from jaxttc.cost import registry


@dataclasses.dataclass(frozen=True)
class _Tool:
  name: str
  size: int = 0


def _tools():
  made = registry.Registry[_Tool]("tool")
  made.add(_Tool("saw"))
  made.add(_Tool("hammer"))
  return made


def test_entries_keep_their_order():
  tools = _tools()
  assert tools.names() == ["saw", "hammer"]
  assert [tool.name for tool in tools] == ["saw", "hammer"]
  assert tools.lookup("saw") == _Tool("saw")


def test_a_name_is_taken_once_unless_replaced():
  tools = _tools()
  with pytest.raises(ValueError, match="tool 'saw' is registered already"):
    tools.add(_Tool("saw", 2))
  assert tools.add(_Tool("saw", 2), replace=True).size == 2
  assert tools.lookup("saw").size == 2
  assert tools.names() == ["saw", "hammer"]


def test_unknown_names_get_a_hint():
  with pytest.raises(ValueError, match="did you mean 'hammer'"):
    _tools().lookup("hamer")
  with pytest.raises(ValueError, match=r"one of \['hammer', 'saw'\]"):
    _tools().lookup("xyz")
