# SPDX-License-Identifier: Apache-2.0
import io

import rich
from rich import console as rich_console

from jaxttc.training import progress


def _printed(capsys, steps, seconds, start=0, **options):
  """Lines of a run whose steps take so long each."""
  now = [0.0]
  with progress.opened(steps, clock=lambda: now[0], **options) as tell:
    for step in range(start, steps):
      now[0] += seconds
      tell(step + 1, {"loss": 1 / (step + 1), "accuracy": 0.5})
  return capsys.readouterr().out.splitlines()


def test_a_quick_run_has_a_line_a_tenth(capsys):
  lines = _printed(capsys, 200, 0.01)
  assert len(lines) == 10
  assert lines[0] == "training: step 20 of 200 accuracy 0.500 loss 0.050"
  assert lines[-1].startswith("training: step 200 of 200 ")


def test_a_slow_run_has_a_line_a_minute(capsys):
  lines = _printed(capsys, 1000, 7.0)
  steps = [int(line.split()[2]) for line in lines]
  assert steps[:2] == [9, 18] and steps[-1] == 1000
  assert max(b - a for a, b in zip(steps, steps[1:], strict=False)) == 9


def test_few_steps_and_resumed_ones(capsys):
  assert len(_printed(capsys, 3, 0.1)) == 3
  resumed = _printed(capsys, 100, 0.1, start=55)
  assert [line.split()[2] for line in resumed][-4:] == ["70", "80", "90", "100"]


def test_other_processes_are_silent(capsys):
  assert _printed(capsys, 5, 100.0, shown=False) == []


def test_a_terminal_has_a_bar(monkeypatch, capsys):
  file = io.StringIO()
  console = rich_console.Console(file=file, force_terminal=True, width=90)
  monkeypatch.setattr(rich, "get_console", lambda: console)
  monkeypatch.setattr("rich.progress.get_console", lambda: console)
  assert _printed(capsys, 4, 1.0) == []
  assert "4/4" in file.getvalue() and "loss 0.250" in file.getvalue()
