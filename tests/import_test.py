# SPDX-License-Identifier: Apache-2.0
"""The package is lazy, and every name that it lists is there."""

import importlib
import pathlib
import subprocess
import sys

import pytest

import jaxttc

_PACKAGE = pathlib.Path(jaxttc.__file__).parent
_ROOMS = sorted(path.parent.name for path in _PACKAGE.glob("*/__init__.py"))
_MODULES = sorted(
  path.stem for path in _PACKAGE.glob("*.py") if path.stem != "__init__"
)


def _modules_after(statement: str) -> set[str]:
  program = f"{statement}\nimport sys\nprint(*sys.modules)"
  ran = subprocess.run(
    [sys.executable, "-c", program],
    cwd=_PACKAGE.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  return set(ran.stdout.split())


@pytest.mark.parametrize(
  "statement", ["import jaxttc", "from jaxttc import results"]
)
def test_import_is_light(statement):
  heavy = {"jax", "flax", "orbax", "optax", "scipy", "matplotlib", "rich"}
  assert not heavy & _modules_after(statement)


def test_rooms_load_on_first_use():
  before = _modules_after("import jaxttc")
  after = _modules_after("import jaxttc\njaxttc.results.Claim")
  assert "jaxttc.results" in after - before


def test_root_lists_all_rooms_and_modules():
  assert set(_ROOMS) | set(_MODULES) <= set(jaxttc.__all__)
  assert sorted(jaxttc.__all__) == jaxttc.__all__
  assert set(jaxttc.__all__) <= set(dir(jaxttc))


@pytest.mark.parametrize("name", jaxttc.__all__)
def test_root_names_resolve(name):
  assert getattr(jaxttc, name) is importlib.import_module(f"jaxttc.{name}")


@pytest.mark.parametrize("room", _ROOMS)
def test_room_names_resolve(room):
  module = importlib.import_module(f"jaxttc.{room}")
  missing = [name for name in module.__all__ if not hasattr(module, name)]
  assert not missing


def test_unknown_name_suggests_the_nearest():
  with pytest.raises(AttributeError, match="did you mean 'decoders'"):
    jaxttc.decoder  # noqa: B018
