# SPDX-License-Identifier: Apache-2.0
"""The document holds the table of classes as the registry has it."""

import pathlib

import pytest

from jaxttc.simulation.placement import taxonomy

_ROOT = pathlib.Path(__file__).resolve().parents[3]


def test_document_holds_the_table():
  text = (_ROOT / "docs" / "placement.md").read_text(encoding="utf-8")
  assert taxonomy.table() in text


def test_families_and_unknown_policies():
  found = {*taxonomy.KNOWN.values(), *taxonomy.OURS.values()}
  families = {taxon.family for taxon in found}
  assert families == {"operating system", "cluster", "big data"}
  with pytest.raises(ValueError, match="policy 'tetris' is not one of"):
    taxonomy.taxon("tetris")
