# SPDX-License-Identifier: Apache-2.0
"""How far a training run is: a bar on a terminal, else a line now and then."""

from collections.abc import Callable, Iterator
import contextlib
import time

import rich
from rich import progress as rich_progress

Tell = Callable[[int, dict[str, float]], None]

_PARTS = 10  # lines of a run, if it is quick
_SECONDS = 60.0  # between lines at most, if it is slow


@contextlib.contextmanager
def opened(
  steps: int,
  *,
  shown: bool = True,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[Tell]:
  """A context whose value is called after each step, with it and its figures.

  Args:
    steps: of the whole run.
    shown: whether anything is.
    clock: seconds.

  Yields:
    (steps taken, figures by name) -> None.
  """
  console = rich.get_console()
  if not shown:
    yield lambda step, figures: None
  elif console.is_terminal or console.is_jupyter:
    with _bar() as bar:
      task = bar.add_task("train", total=steps, figures="")
      yield lambda step, figures: bar.update(
        task, completed=step, figures=_told(figures)
      )
  else:
    yield _lines(steps, clock)


def _bar() -> rich_progress.Progress:
  """A bar with count, time left and figures."""
  return rich_progress.Progress(
    rich_progress.TextColumn("training"),
    rich_progress.BarColumn(),
    rich_progress.MofNCompleteColumn(),
    rich_progress.TimeRemainingColumn(),
    rich_progress.TextColumn("{task.fields[figures]}"),
  )


def _lines(steps: int, clock: Callable[[], float]) -> Tell:
  """Prints a line a tenth of the run, or a minute if that is less."""
  part, last = 0, clock()

  def tell(step: int, figures: dict[str, float]) -> None:
    nonlocal part, last
    now = clock()
    if step * _PARTS // steps == part and now - last < _SECONDS:
      return
    part, last = step * _PARTS // steps, now
    line = f"training: step {step} of {steps} {_told(figures)}"
    print(line.rstrip(), flush=True)

  return tell


def _told(figures: dict[str, float]) -> str:
  return " ".join(f"{k} {v:.3f}" for k, v in sorted(figures.items()))
