# SPDX-License-Identifier: Apache-2.0
"""The Python of the docs names what is there, and runs where it can."""

import ast
import inspect
import pathlib
import re
from typing import Any

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PAGES = sorted(
  page
  for page in (_ROOT / "README.md", *(_ROOT / "docs").glob("*.md"))
  if _BLOCK.search(page.read_text(encoding="utf-8"))
)
# Pages whose first so many blocks need no file, server or name of the reader's.
_RUN = {
  "README": 1,
  "budget_guidance": 1,
  "grading": 1,
  "power": 1,
  "preference_budget": 1,
  "training_at_scale": 1,
}


def _blocks(page: pathlib.Path) -> list[ast.Module]:
  """The page's blocks, with the line numbers of the page."""
  text = page.read_text(encoding="utf-8")
  trees = []
  for block in _BLOCK.finditer(text):
    tree = ast.parse(block[1], filename=page.name)
    trees.append(ast.increment_lineno(tree, text[: block.start(1)].count("\n")))
  return trees


def _imported(tree: ast.Module, names: dict[str, Any]) -> None:
  lines = [
    node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))
  ]
  exec(compile(ast.Module(lines, []), "<imports>", "exec"), names)


def _found(node: ast.expr, names: dict[str, Any]) -> Any:
  """What a dotted name stands for; None if it does not begin at an import."""
  if isinstance(node, ast.Name):
    return names.get(node.id)
  if isinstance(node, ast.Attribute):
    owner = _found(node.value, names)
    if inspect.ismodule(owner) or inspect.isclass(owner):
      return getattr(owner, node.attr)
  return None


def _wrong(call: ast.Call, callee: Any) -> str:
  """Why a call's arguments cannot be bound; "" if they can, or are elided."""
  given = [*call.args, *(word.value for word in call.keywords)]
  elided = any(
    isinstance(value, ast.Starred)
    or (isinstance(value, ast.Constant) and value.value is ...)
    for value in given
  )
  if elided or any(word.arg is None for word in call.keywords):
    return ""
  try:
    signature = inspect.signature(callee)
  except (TypeError, ValueError):  # written in C
    return ""
  try:
    signature.bind(*call.args, **{word.arg: None for word in call.keywords})
  except TypeError as error:
    return str(error)
  return ""


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.stem)
def test_names_and_arguments_exist(page):
  names: dict[str, Any] = {}
  wrong = []
  for tree in _blocks(page):
    _imported(tree, names)
    for node in ast.walk(tree):
      try:
        if isinstance(node, ast.Attribute):
          _found(node, names)
        elif isinstance(node, ast.Call):
          callee = _found(node.func, names)
          problem = callable(callee) and _wrong(node, callee)
          if problem:
            wrong.append(f"line {node.lineno}: {problem}")
      except AttributeError as error:
        wrong.append(f"line {node.lineno}: {error}")
  assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("stem", _RUN)
def test_runs(stem, tmp_path, monkeypatch):
  page = next(page for page in _PAGES if page.stem == stem)
  monkeypatch.chdir(tmp_path)
  names = {"__name__": "__main__"}
  for tree in _blocks(page)[: _RUN[stem]]:
    exec(compile(tree, page.name, "exec"), names)
