# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: Orbax behind four verbs.

`save`, `restore_latest`, `restore_best` and `list_steps` open a directory, do
one thing and close it. A train loop opens it once, as `Checkpoints`, and saves
in the background:

    with checkpoints.Checkpoints(workdir) as saved:
      restored = saved.restore_latest(abstract_state)
      ...
      saved.save(step, state, metric=accuracy)

A step is complete or absent: a process killed in the middle of a save leaves
the steps before it as they were. Shapes, dtypes and a checksum of every leaf
are saved with it and compared on the way back, since a flipped bit of a tensor
would otherwise be read without complaint.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import math
import os
import pathlib
from typing import Any, NamedTuple
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp


class Restored(NamedTuple):
  """A checkpoint that was read back.

  Attributes:
    step: the step it was saved at.
    state: a tree like the abstract state asked for; every leaf a `jax.Array`.
    meta: the dictionary it was saved with.
  """

  step: int
  state: Any
  meta: dict[str, Any]


class Checkpoints:
  """An open directory of checkpoints, which saves in the background.

  Use it in a `with` statement, or call `close`: only then is the last save
  certain to be complete.
  """

  def __init__(
    self, directory: str | os.PathLike[str], *, keep: int = 3
  ) -> None:
    """Opens a directory, making it if need be.

    Args:
      directory: where the checkpoints are.
      keep: how many of the latest steps are kept, beside the best one.

    Raises:
      ValueError: if `keep` is less than 1 or `directory` is a file.
    """
    if keep < 1:
      raise ValueError(f"{directory}: keep={keep}, expected at least 1")
    self._directory = pathlib.Path(directory)
    if self._directory.exists() and not self._directory.is_dir():
      raise ValueError(f"{directory}: expected a directory, found a file")
    self._metrics: dict[int, float | None] = {}
    self._passed_over: set[int] = set()  # Damaged steps that a fallback left.
    self._manager = ocp.CheckpointManager(
      os.path.abspath(directory),
      options=ocp.CheckpointManagerOptions(
        preservation_policy=_LatestAndBest(keep, self._metrics)
      ),
    )
    for step in self.list_steps():
      with contextlib.suppress(_Damaged):
        self._metrics[step] = self._record(step)["metric"]

  def save(
    self,
    step: int,
    state: Any,
    *,
    meta: Mapping[str, Any] | None = None,
    metric: float | None = None,
  ) -> None:
    """Starts to save a step; see the function `save`."""
    if metric is not None and not math.isfinite(metric):
      raise ValueError(
        f"{self._where(step)}: metric is {metric}, expected a finite number"
      )
    state = jax.tree.map(_as_array, state)
    record = {
      "meta": dict(meta or {}),
      "metric": None if metric is None else float(metric),
      "leaves": _describe(state),
    }
    # Only what stands in the way goes: a read may fail for a passing reason.
    for damaged in sorted(s for s in self._passed_over if s >= step):
      self._manager.delete(damaged)
      self._passed_over.remove(damaged)
    latest = self._manager.latest_step()
    if latest is not None and step <= latest:
      raise ValueError(
        f"{self._where(step)}: expected a step after the latest, {latest}"
      )
    self._metrics[step] = record["metric"]
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
      ),
    )

  def restore_latest(
    self, abstract_state: Any, *, fallback: bool = False
  ) -> Restored | None:
    """Restores the latest step; see the function `restore_latest`."""
    return self._restore(self.list_steps()[::-1], abstract_state, fallback)

  def restore_best(
    self, abstract_state: Any, *, fallback: bool = False
  ) -> Restored | None:
    """Restores the step of largest metric; see `restore_best`."""
    steps = self.list_steps()
    unreadable = [step for step in steps if step not in self._metrics]
    if unreadable and not fallback:
      self._record(unreadable[-1])  # Raises: it could have been the best.
    best_first = sorted(
      (step for step in steps if self._metrics.get(step) is not None),
      key=lambda step: (self._metrics[step], step),
      reverse=True,
    )
    return self._restore(best_first, abstract_state, fallback)

  def as_saved(self, abstract_state: Any) -> Any:
    """The abstract state, its leading axes as long as in the latest step.

    For what has a row for each of some things that come and go. A leaf that
    differs in more than that, or is not there, stays as it is: to restore it
    then says so.

    Args:
      abstract_state: a tree of arrays or of `jax.ShapeDtypeStruct`s.
    """
    steps = self.list_steps()
    if not steps:
      return abstract_state
    leaves = self._record(steps[-1])["leaves"]

    def of(path, leaf):
      found = leaves.get(jax.tree_util.keystr(path), {}).get("shape")
      own = list(leaf.shape)
      if not found or not own or found == own or found[1:] != own[1:]:
        return leaf
      place = getattr(leaf, "sharding", None)
      if isinstance(place, jax.NamedSharding):  # parts may not come out even
        place = jax.NamedSharding(place.mesh, jax.P())
      return jax.ShapeDtypeStruct(found, leaf.dtype, sharding=place)

    return jax.tree_util.tree_map_with_path(of, abstract_state)

  def list_steps(self) -> list[int]:
    """Returns the complete steps, in ascending order."""
    self.wait()
    return sorted(self._manager.all_steps())

  def wait(self) -> None:
    """Returns when the step being saved is complete."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for the step being saved, and closes the directory."""
    self._manager.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _restore(
    self, steps: Sequence[int], abstract_state: Any, fallback: bool
  ) -> Restored | None:
    abstract_state = jax.tree.map(_as_struct, abstract_state)
    failures: dict[int, _Damaged] = {}
    for step in steps:
      try:
        restored = self._restore_step(step, abstract_state)
      except _Damaged as error:
        failures[step] = error
        if not fallback:
          break
      else:
        self._passed_over.update(failures)
        return restored
    if not failures:
      return None
    raise next(iter(failures.values()))

  def _restore_step(self, step: int, abstract_state: Any) -> Restored:
    where = self._where(step)
    record = self._record(step)
    _check_structure(where, record["leaves"], abstract_state)
    state = self._read(step, state=ocp.args.StandardRestore(abstract_state))
    for path, leaf in _describe(state).items():
      found, expected = leaf["crc32"], record["leaves"][path]["crc32"]
      if found != expected and None not in (found, expected):
        raise _Damaged(
          f"{where}: {path or 'the state'} is damaged, expected checksum "
          f"{expected}, found {found}"
        )
    return Restored(step, state, record["meta"])

  def _record(self, step: int) -> dict[str, Any]:
    record = self._read(step, record=ocp.args.JsonRestore())
    fields = {"meta", "metric", "leaves"}
    if not isinstance(record, dict) or set(record) != fields:
      raise _Damaged(
        f"{self._where(step)}: expected a record of {sorted(fields)}"
      )
    return record

  def _read(self, step: int, **item: Any) -> Any:
    (name,) = item
    try:
      args = ocp.args.Composite(**item)
      return self._manager.restore(step, args=args)[name]
    except Exception as error:  # Orbax raises whatever its parts raise.
      raise _Damaged(
        f"{self._where(step)}: expected a complete checkpoint, but its {name} "
        f"cannot be read: {_first_line(error)}"
      ) from error

  def _where(self, step: int) -> str:
    return f"{self._directory}, step {step}"


def save(
  directory: str | os.PathLike[str],
  step: int,
  state: Any,
  *,
  meta: Mapping[str, Any] | None = None,
  metric: float | None = None,
  keep: int = 3,
) -> None:
  """Saves a step and returns when it is complete.

  Args:
    directory: where the checkpoints are; made if need be.
    step: number of the step; greater than that of the latest one.
    state: a pytree of arrays, typed PRNG keys and numbers.
    meta: what JSON can say about the step.
    metric: how good the step is; larger is better.
    keep: how many of the latest steps are kept, beside the best one.

  Raises:
    ValueError: if the step is not a later one, the metric is not finite, `keep`
      is less than 1, or a leaf is empty or not what JAX holds without a cast.
  """
  with Checkpoints(directory, keep=keep) as opened:
    opened.save(step, state, meta=meta, metric=metric)


def restore_latest(
  directory: str | os.PathLike[str],
  abstract_state: Any,
  *,
  fallback: bool = False,
) -> Restored | None:
  """Restores the latest step, or returns None if there is no step.

  Args:
    directory: where the checkpoints are.
    abstract_state: a tree like the one saved, of arrays or of
      `jax.ShapeDtypeStruct`s (from `jax.eval_shape`, say). Leaves are placed
      as its shardings say, else on the first device.
    fallback: whether a damaged step may be passed over for the one before it.
      When an open `Checkpoints` then saves an earlier step than one passed
      over, or the same, it removes that one, so that training can go on.

  Raises:
    ValueError: if the step is damaged, or is not like `abstract_state` (which
      no fallback mends); it names the directory, the step and what was
      expected. With `fallback`, only if no step can be read.
  """
  if not pathlib.Path(directory).exists():
    return None
  with Checkpoints(directory) as opened:
    return opened.restore_latest(abstract_state, fallback=fallback)


def restore_best(
  directory: str | os.PathLike[str],
  abstract_state: Any,
  *,
  fallback: bool = False,
) -> Restored | None:
  """Restores the step of largest metric, or returns None if no step has one.

  Of equal steps the latest is taken. See `restore_latest` for the arguments and
  errors; with `fallback`, a damaged step gives way to the next best.
  """
  if not pathlib.Path(directory).exists():
    return None
  with Checkpoints(directory) as opened:
    return opened.restore_best(abstract_state, fallback=fallback)


def list_steps(directory: str | os.PathLike[str]) -> list[int]:
  """Returns the complete steps of a directory in ascending order, if any."""
  if not pathlib.Path(directory).exists():
    return []
  with Checkpoints(directory) as opened:
    return opened.list_steps()


class _Damaged(ValueError):
  """A step that cannot be read back as it was saved."""


@dataclasses.dataclass(frozen=True)
class _LatestAndBest:
  """Which steps Orbax keeps: the latest few, and that of largest metric."""

  keep: int
  metrics: Mapping[int, float | None]  # Shared with, and grown by, its owner.

  def should_preserve(
    self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    del context
    steps = sorted(checkpoint.step for checkpoint in checkpoints)
    kept = set(steps[-self.keep :])
    scored = [step for step in steps if self.metrics.get(step) is not None]
    if scored:
      kept.add(max(scored, key=lambda step: (self.metrics[step], step)))
    return [checkpoint.step in kept for checkpoint in checkpoints]


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or [""]
  return f"{type(error).__name__}: {lines[0][:160]}"


def _as_array(leaf: Any) -> jax.Array:
  array = leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)
  if not array.size:
    raise ValueError(f"cannot save an empty leaf, of shape {array.shape}")
  if isinstance(leaf, np.ndarray | np.generic) and array.dtype != leaf.dtype:
    raise ValueError(
      f"cannot save a {leaf.dtype} leaf of shape {leaf.shape}: JAX holds it "
      f"as {array.dtype}; cast it, or enable jax_enable_x64"
    )
  return array


def _as_struct(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, "sharding", None)
  if sharding is None and jax.process_count() == 1:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  leaf = jax.eval_shape(lambda: leaf) if np.isscalar(leaf) else leaf
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _describe(state: Any) -> dict[str, dict[str, Any]]:
  """Shape, dtype and checksum of every leaf, by its path."""
  return {
    jax.tree_util.keystr(path): {
      "shape": list(leaf.shape),
      "dtype": str(leaf.dtype),
      "crc32": _checksum(leaf),
    }
    for path, leaf in jax.tree.leaves_with_path(state)
  }


def _checksum(leaf: jax.Array) -> int | None:
  if not leaf.is_fully_addressable:
    return None  # Parts of it live in other processes.
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    leaf = jax.random.key_data(leaf)
  return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data)


def _check_structure(
  where: str, leaves: Mapping[str, Any], abstract_state: Any
) -> None:
  expected = {
    jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)]
    for path, leaf in jax.tree.leaves_with_path(abstract_state)
  }
  found = {
    path: [entry["shape"], entry["dtype"]] for path, entry in leaves.items()
  }
  for path in [*expected, *found]:
    if expected.get(path) != found.get(path):
      raise ValueError(
        f"{where}: {path or 'the state'} was saved as "
        f"{_shape_text(found.get(path))}, expected "
        f"{_shape_text(expected.get(path))}"
      )


def _shape_text(entry: list[Any] | None) -> str:
  return "nothing" if entry is None else f"{entry[1]}{entry[0]}"
