# SPDX-License-Identifier: Apache-2.0
"""Training metrics: a JSON line a record, and TensorBoard where installed."""

import json
import math
import os
import pathlib
from typing import Any

import numpy as np


class MetricWriter:
  """Appends metrics to `workdir/metrics.jsonl` and TensorBoard events.

  A resumed run drops the lines past the step it resumes from, so that the
  file reads as if the run had never stopped.

  Attributes:
    last: the figures last written, for a progress bar.
  """

  def __init__(self, workdir: str, first_step: int = 0, writes: bool = True):
    """Opens the files.

    Args:
      workdir: made if absent.
      first_step: records of later steps are dropped.
      writes: whether to write at all: of many processes, one does.
    """
    self.last: dict[str, float] = {}
    self._file = self._board = None
    if not writes:
      return
    folder = pathlib.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    kept = _records_until(path, first_step)
    partial = path.with_suffix(".partial")  # a kill here must lose nothing
    partial.write_text("".join(kept), encoding="utf-8")
    os.replace(partial, path)
    self._file = path.open("a", encoding="utf-8")
    try:
      import tensorboardX
    except ImportError:
      pass
    else:
      self._board = tensorboardX.SummaryWriter(
        str(folder / "tensorboard"), purge_step=first_step + 1
      )

  def write(self, step: int, figures: dict[str, Any]) -> None:
    """Records scalars of a step.

    Raises:
      FloatingPointError: if a figure is not finite: training has diverged.
    """
    scalars = finite(step, figures)
    if self._board is not None:
      for name, value in scalars.items():
        self._board.add_scalar(name, value, step)
    if self._file is not None:
      self._file.write(json.dumps({"step": step} | scalars) + "\n")
      self._file.flush()
    self.last = self.last | scalars

  def close(self) -> None:
    """Closes the files."""
    if self._file is not None:
      self._file.close()
    if self._board is not None:
      self._board.close()


def finite(step: int, figures: dict[str, Any]) -> dict[str, float]:
  """The figures of a step as numbers.

  Raises:
    FloatingPointError: if one is not finite: training has diverged.
  """
  scalars = {k: float(np.asarray(v)) for k, v in figures.items()}
  for name, value in scalars.items():
    if not math.isfinite(value):
      raise FloatingPointError(
        f"{name} became {value} at step {step}: training diverged; lower "
        "train.learning_rate or train.clip_norm"
      )
  return scalars


def read(workdir: str) -> list[dict[str, Any]]:
  """The records of a run, in the order written."""
  path = pathlib.Path(workdir) / "metrics.jsonl"
  with path.open(encoding="utf-8") as lines:
    return [json.loads(line) for line in lines]


def _records_until(path: pathlib.Path, step: int) -> list[str]:
  if not path.exists():
    return []
  kept = []
  with path.open(encoding="utf-8") as lines:
    for line in lines:
      try:
        record = json.loads(line)
      except json.JSONDecodeError:
        break  # the torn last line of a killed run
      if record["step"] <= step:
        kept.append(line)
  return kept
