# SPDX-License-Identifier: Apache-2.0
"""Scores of a network's widths, measured once and kept beside the network.

A file holds a table of all configurations, or, where these are too many, a
sample of them that a predictor is fitted to. It carries a fingerprint of the
parameters and the data: with another one, or damaged, it is not believed.
"""

from collections.abc import Callable, Mapping
import hashlib
import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple
import zipfile
import zlib

from flax import traverse_util
import numpy as np

from jaxttc.evaluation import width_scores
from jaxttc.models import slimmable
from jaxttc.predictors import width_scores as predicted_scores
from jaxttc.tasks.multitask import base

MOST_PASSES = 4096  # over the data, that a table may take
_SAMPLE = 400  # configurations, where a table takes more
_DAMAGED = (  # what NumPy says of files that are not what they should be
  OSError,
  EOFError,
  KeyError,
  ValueError,
  TypeError,
  AttributeError,
  zipfile.BadZipFile,
  zlib.error,
)


class Scores(NamedTuple):
  """Scores of all configurations, and where they are from.

  Attributes:
    predict: menu indices i32[N, groups] -> f64[N, K], in [0, 1].
    source: how they were come by, in words.
    note: why an earlier file was not believed, or this one could not be kept;
      empty if all went well.
  """

  predict: Callable[[np.ndarray], np.ndarray]
  source: str
  note: str = ""


def load_or_measure(
  path: str | os.PathLike[str],
  network: slimmable.MultiTaskNetwork,
  params: Any,
  tasks: tuple[base.Task, ...],
  calibration: Callable[[], base.Examples],
  described: Mapping[str, Any],
) -> Scores:
  """Reads scores, or measures them and keeps them.

  Args:
    path: the .npz file that keeps them.
    network: the network.
    params: its parameters.
    tasks: what its decoders predict.
    calibration: gives the examples that scores are measured on; called only if
      they are.
    described: what these examples are, JSON-ready; part of the fingerprint.
  """
  path = pathlib.Path(path)
  mark = fingerprint(params, described)
  note = ""
  if path.exists():
    try:
      arrays = _read(path, network.space, mark)
      return Scores(*_from(arrays, network.space))
    except ValueError as error:
      note = f"{error}; measured again"
  arrays = _measure(network, params, tasks, calibration())
  try:
    write(path, arrays | {"fingerprint": np.array(mark)})
  except OSError as error:
    note = f"{note}; " if note else ""
    note += f"{path}: scores could not be kept: {error.strerror}"
  return Scores(*_from(arrays, network.space), note)


def fingerprint(params: Any, described: Mapping[str, Any]) -> str:
  """Sha256, in hexadecimal, of parameters and of what describes the data."""
  digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
  flat = traverse_util.flatten_dict(params, sep=".")
  for name in sorted(flat):
    leaf = np.asarray(flat[name])
    digest.update(f"{name} {leaf.dtype} {leaf.shape}".encode())
    digest.update(np.ascontiguousarray(leaf).tobytes())
  return digest.hexdigest()


def _tabulated(space: slimmable.WidthSpace) -> bool:
  return len(space.menu) ** (len(space.encoder) + 1) <= MOST_PASSES


def _measure(network, params, tasks, examples):
  """Arrays to keep: "table", or "indices" and "scores"."""
  space = network.space
  if _tabulated(space):
    found = width_scores.tabulate(network, params, tasks, examples)
    return {"table": found.values}
  indices = predicted_scores.draw(space, _SAMPLE)
  scores = width_scores.measure(network, params, tasks, examples, indices)
  return {"indices": indices, "scores": scores}


def _from(arrays, space):
  """Predictor, and where it is from."""
  if "table" in arrays:
    table = arrays["table"]
    size = f"{table[..., 0].size:,} passes, which give all {space.size():,}"
    return width_scores.ScoreTable(table), f"measured: {size} configurations"
  fitted = predicted_scores.fit(space, arrays["indices"], arrays["scores"])
  ranks = ", ".join(
    f"{task} {value:.2f}"
    for task, value in zip(space.tasks, fitted.rank_correlation, strict=True)
  )
  return fitted, (
    f"predicted from {fitted.measured} of {space.size():,} configurations; "
    f"rank correlation held out: {ranks}"
  )


def _read(path, space, mark):
  """Arrays of a file.

  Raises:
    ValueError: if it is damaged, or of other parameters or data.
  """
  try:
    with path.open("rb") as opened:
      arrays = dict(np.load(opened, allow_pickle=False))
    found = str(arrays.pop("fingerprint"))
  except _DAMAGED as error:
    reason = str(error).splitlines()[0] if str(error) else "cut short"
    raise ValueError(f"{path}: is damaged: {reason}") from None
  if found != mark:
    raise ValueError(f"{path}: is of other parameters or data")
  stages, entries, tasks = len(space.encoder), len(space.menu), len(space.tasks)
  if _tabulated(space):
    expected = {"table": (*(entries,) * (stages + 1), tasks)}
  else:
    expected = {
      "indices": (_SAMPLE, len(space.groups)),
      "scores": (_SAMPLE, tasks),
    }
  whole = {k: v.shape for k, v in arrays.items()} == expected and all(
    array.dtype.kind in "fi" and np.isfinite(array).all()
    for array in arrays.values()
  )
  if not whole:
    raise ValueError(f"{path}: is damaged: expected finite {expected}")
  return arrays


def write(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
  """Writes a file of arrays, with its folder, whole or not at all."""
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
  try:
    with os.fdopen(handle, "wb") as opened:
      np.savez(opened, **arrays)
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise
