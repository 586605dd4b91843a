# SPDX-License-Identifier: Apache-2.0
import ast
import pathlib
import subprocess
import sys

import pytest

from jaxttc import arguments

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_SCRIPTS = sorted(_ROOT.glob("scripts/*.py"))
_CONFIG = """
import dataclasses

@dataclasses.dataclass
class Train:
  steps: int = 3
  rate: float = 0.5

@dataclasses.dataclass
class Recipe:
  train: Train
  rival: Train | None = None
  arms: tuple[str, ...] = ("a",)

def get_config(which: str = ""):
  if which == "broken":
    raise ValueError("broken is no variant")
  return {"missing": None}[which] if which else Recipe(Train())
"""


@pytest.fixture
def files(tmp_path, monkeypatch):
  """A folder of configs, good and bad, in which the test runs."""
  texts = {
    "good.py": _CONFIG,
    "syntax.py": "x = 1\ndef get_config(:\n",
    "raises.py": "x = 1\ny = x / 0\n",
    "empty.py": "",
    "words.txt": "A recipe for\nbread.\n",
    "plain.py": "def get_config():\n  return 1\n",
    "picky.py": "def get_config(which):\n  return which\n",
  }
  for name, text in texts.items():
    (tmp_path / name).write_text(text, encoding="utf-8")
  monkeypatch.chdir(tmp_path)


def _check(*given, default=None):
  arguments.check_config("config", default, given)


@pytest.mark.parametrize(
  "given",
  [
    (),
    ("--config=good.py",),
    ("--config", "good.py", "--config.train.steps", "4"),
    ("-config=good.py", "--noconfig.train.steps", "--config.arms=b"),
    ("--config=good.py", "--config.rival=build", "--config.rival.steps=2"),
    ("--configure=3", "--config=good.py", "--", "--config.train.none=3"),
  ],
)
def test_what_is_there_passes(files, given):
  _check(*given)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ("god.py", "--config=god.py: no such file; .*did you mean good.py[?]"),
    (".", "--config=.: is a folder; expected a Python file"),
    ("syntax.py", "--config=syntax.py, line 2: no Python: invalid syntax"),
    ("words.txt", "--config=words.txt, line 1: no Python"),
    ("raises.py", "--config=raises.py, line 2: ZeroDivisionError"),
    ("empty.py", "--config=empty.py: expected a function get_config"),
    ("plain.py:large", "--config=plain.py: expected no variant, got :large"),
    ("picky.py", "--config=picky.py: expected picky.py:VARIANT"),
    ("good.py:broken", "--config=good.py:broken: broken is no variant"),
    ("good.py:other", "--config=good.py:other, line 18: KeyError"),
  ],
)
def test_files_that_hold_no_recipe(files, given, message):
  with pytest.raises(ValueError, match=message):
    _check(f"--config={given}")
  with pytest.raises(ValueError, match=message):
    _check(default=given)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ("train.stepz=3", "Train has no field 'stepz'; did you mean steps[?]"),
    ("trian.steps=3", "Recipe has no field 'trian'; did you mean train"),
    ("zzz=3", "Recipe has no field 'zzz'; It has train, rival, arms"),
    ("train=3", "--config.train=3: expected one of its fields, .steps, .rate"),
    ("rival.steps=3", 'field "rival" is None by default'),
    ("train.steps.x=3", "--config.train.steps.x: "),
    ("arms[=3", "--config.arms\\[: Could not parse"),
  ],
)
def test_fields_that_are_not_there(files, given, message):
  with pytest.raises(ValueError, match=message):
    _check("--config=good.py", f"--config.{given}")


def test_a_field_needs_a_file():
  with pytest.raises(ValueError, match="--config.train: --config is required"):
    _check("--config.train=3")


def test_refusals_are_one_line_of_status_2(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["scripts/some.py"])
  with pytest.raises(SystemExit) as ended:
    arguments.refuse("this\n  and that")
  assert ended.value.code == 2
  assert capsys.readouterr().err == (
    "some.py: this and that (--help says more)\n"
  )


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_help_has_commands_on_lines_of_their_own(path):
  """--help prints the docstring as it stands: a command as it is typed."""
  text = path.read_text(encoding="utf-8")
  shown = ast.get_docstring(ast.parse(text), clean=False)
  assert shown is not None and f'"""{shown}"""' in text
  lines = [line.strip() for line in shown.splitlines()]
  commands = [line for line in lines if "python scripts/" in line]
  assert commands
  assert all(line.startswith("python scripts/") for line in commands)
  assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.name)
def test_every_script_parses_its_arguments_here(path):
  """None has a config flag, or a main, that ends in a traceback."""
  text = path.read_text(encoding="utf-8")
  assert "DEFINE_config" not in text and "app.run" not in text
  assert "script.run" in text or "arguments.run" in text


def test_a_script_refuses_and_helps():
  def run(*given):
    return subprocess.run(
      [sys.executable, str(_ROOT / "scripts" / "claims.py"), *given],
      capture_output=True,
      text=True,
      check=False,
      env={"PYTHONPATH": str(_ROOT), "PATH": ""},
    )

  helped = run("--help")
  assert helped.returncode == 0
  command = "\npython scripts/claims.py --missed   # of those"
  assert command in helped.stdout
  for given in (("--msised",), ("more",), ("--write=maybe",)):
    done = run(*given)
    assert done.returncode == 2
    assert done.stderr.startswith("claims.py: ")
    assert len(done.stderr.splitlines()) == 1
