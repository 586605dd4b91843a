# SPDX-License-Identifier: Apache-2.0
import pathlib

import pytest

from jaxttc.cost import techniques

_ROOT = pathlib.Path(__file__).parents[2]


def test_every_technique_is_in_the_library():
  assert len(techniques.names()) >= 16
  for name in techniques.names():
    technique = techniques.lookup(name)
    assert (_ROOT / technique.module).exists(), technique.module
    assert technique.saves


def test_techniques_are_found_by_what_they_save():
  names = lambda *a: {t.name for t in techniques.saving(*a)}  # noqa: E731
  assert "int8 weights" in names("memory")
  assert "tensor parallelism" in names("memory", "system")
  assert "int8 weights" not in names("memory", "system")


def test_conflicts_are_where_one_takes_what_the_other_gives():
  found = techniques.joint(["KV cache", "int8 weights", "sliding windows"])
  assert found.saves["memory"] == ("int8 weights", "sliding windows")
  assert found.spends["memory"] == ("KV cache",)
  assert ("KV cache", "int8 weights", "memory") in found.conflicts
  assert ("int8 weights", "KV cache", "compute") in found.conflicts
  assert techniques.joint(["sliding windows"]).conflicts == ()


def test_own_techniques_and_bad_ones():
  mine = techniques.Technique(
    name="technique of the tests",
    stage="system",
    saves={"energy": "at night"},
    spends={},
    module="jaxttc/cost",
  )
  if mine.name not in techniques.names():
    techniques.register(mine)
  assert mine in techniques.saving("energy")
  fields = {**vars(mine), "name": "x"}
  for call, message in (
    (lambda: techniques.register(mine), "registered already"),
    (lambda: techniques.lookup("KV cash"), "did you mean 'KV cache'"),
    (lambda: techniques.saving("love"), "unknown resource 'love'"),
    (lambda: techniques.saving("energy", "x"), "unknown stage 'x'"),
    (
      lambda: techniques.Technique(**fields | {"stage": "x"}),
      "stage of 'x' must be one of",
    ),
    (
      lambda: techniques.Technique(**fields | {"spends": {"love": ""}}),
      "unknown resource 'love'",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      call()
