# SPDX-License-Identifier: Apache-2.0
"""How long prompts and decode iterations take on a machine.

A performance model answers two questions: the seconds of an iteration over so
many prompt tokens, and the coefficients of a decode iteration,

    T(b, kv) = c0 + c1 b + c2 kv    b sequences, kv cached tokens in all,

which is what reading weights, computing each sequence, and reading caches cost.
"""

from collections.abc import Mapping
import csv
import dataclasses
import functools
import os
import pathlib
from typing import NamedTuple, Protocol

from jaxtyping import Float, Int
import numpy as np
from scipy import optimize

from jaxttc.simulation import traces

_COLUMNS = (
  "model",
  "hardware",
  "tensor_parallel",
  "prompt_size",
  "batch_size",
  "token_size",
  "prompt_time",
  "token_time",
)


class Decode(NamedTuple):
  """Seconds of a decode iteration: base + sequence * b + cached * kv."""

  base: float
  sequence: float
  cached: float


class Performance(Protocol):
  """What a machine must tell about its speed."""

  @property
  def decode(self) -> Decode:
    """The coefficients of a decode iteration, in seconds."""
    ...

  def prompt_s(self, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Seconds of one iteration over so many prompt tokens.

    Raises:
      ValueError: if the model does not reach that far.
    """
    ...


@dataclasses.dataclass(frozen=True)
class LinearPerformance:
  """Prompt times that are linear in tokens, on top of a constant.

  Raises:
    ValueError: if a time is negative, or all of a phase's are 0.
  """

  base_s: float
  token_s: float
  decode: Decode

  def __post_init__(self):
    for name, times in (
      ("prompt", (self.base_s, self.token_s)),
      ("decode", tuple(self.decode)),
    ):
      if min(times) < 0 or not max(times[:2]) > 0:
        raise ValueError(
          f"linear performance: {name} seconds {times} must not be negative, "
          "nor all 0"
        )

  def prompt_s(self, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Seconds of one iteration over so many prompt tokens."""
    return self.base_s + self.token_s * tokens


@dataclasses.dataclass(frozen=True, kw_only=True)
class RooflinePerformance:
  """What a machine's peaks allow a dense transformer.

  Prompts are bound by arithmetic: 2 FLOPs a parameter and token, and 4 a layer,
  model dimension and pair of positions, halved by causality. An iteration reads
  all weights at least once. A decode iteration reads weights and caches, then
  computes; the two are added, not overlapped, so that it stays linear.

  Attributes:
    flops_per_s: achieved arithmetic of the whole machine.
    bytes_per_s: achieved memory bandwidth of the whole machine.
    parameters: of the model.
    layers: of the model.
    dimension: of the model.
    kv_bytes_per_token: of its cache.
    weight_bytes: a parameter.

  Raises:
    ValueError: if one of them is not positive.
  """

  flops_per_s: float
  bytes_per_s: float
  parameters: float
  layers: int
  dimension: int
  kv_bytes_per_token: float
  weight_bytes: float = 2.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      traces.check_positive(
        f"roofline: {field.name}", getattr(self, field.name)
      )

  @property
  def decode(self) -> Decode:
    """The coefficients of a decode iteration, in seconds."""
    return Decode(
      self.parameters * self.weight_bytes / self.bytes_per_s,
      2 * self.parameters / self.flops_per_s,
      self.kv_bytes_per_token / self.bytes_per_s,
    )

  def prompt_s(self, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Seconds of one iteration over so many prompt tokens."""
    tokens = np.asarray(tokens, np.float64)
    flops = 2 * self.parameters * tokens
    flops += 2 * self.layers * self.dimension * tokens**2
    return np.maximum(flops / self.flops_per_s, self.decode.base)


@dataclasses.dataclass(frozen=True)
class TablePerformance:
  """Measured times, between and beyond their points by straight lines.

  Attributes:
    tokens: prompt tokens of the points, rising.
    seconds: the time of each.
    decode: fitted coefficients.
    reach: prompts up to so many times the longest measured are extrapolated;
      1 refuses them. Prompts shorter than the shortest take as long as it.
    name: of the table's part, for messages.
  """

  tokens: tuple[float, ...]
  seconds: tuple[float, ...]
  decode: Decode
  reach: float = 1.0
  name: str = "table"

  def __post_init__(self):
    if len(self.tokens) != len(self.seconds) or len(self.tokens) < 2:
      raise ValueError(f"{self.name}: expected two or more measured points")
    if not (np.diff(self.tokens) > 0).all() or min(self.seconds) <= 0:
      raise ValueError(f"{self.name}: tokens must rise, seconds be positive")
    if not self.reach >= 1:
      raise ValueError(f"{self.name}: reach must be at least 1")

  def prompt_s(self, tokens: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Seconds of one iteration over so many prompt tokens.

    Raises:
      ValueError: for more than `reach` times the most tokens measured.
    """
    tokens = np.asarray(tokens, np.float64)
    longest = self.tokens[-1]
    if tokens.size and tokens.max() > self.reach * longest:
      raise ValueError(
        f"{self.name}: an iteration of {tokens.max():.0f} prompt tokens lies "
        f"outside the measured range, {self.tokens[0]:.0f} to {longest:.0f}; "
        f"raise reach ({self.reach:g}) to extrapolate"
      )
    inside = np.interp(tokens, self.tokens, self.seconds)
    slope = (self.seconds[-1] - self.seconds[-2]) / (longest - self.tokens[-2])
    beyond = np.maximum(tokens - longest, 0) * max(slope, 0.0)
    return inside + beyond


def load_table(
  path: str | os.PathLike[str],
  *,
  model: str,
  hardware: str,
  tensor_parallel: int = 8,
  reach: float = 1.0,
) -> TablePerformance:
  """Reads measured times, in the layout of splitwise-sim's table.

  Rows are grouped by their prompt tokens, prompt size times batch size; a
  point is the median prompt time of its group. Decode coefficients are a
  non-negative least-squares fit to the median token times.

  Args:
    path: a CSV file with the columns model, hardware, tensor_parallel,
      prompt_size, batch_size, token_size, prompt_time, token_time (ms).
    model: rows of this model.
    hardware: rows of this hardware.
    tensor_parallel: rows of this many accelerators a machine.
    reach: how far beyond the table prompts may go; see TablePerformance.

  Raises:
    ValueError: if the file is missing, lacks a column or the rows asked for,
      or a row holds what is no positive number.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  rows = _rows(path)
  wanted = [
    row
    for row in rows
    if row["model"] == model
    and row["hardware"] == hardware
    and row["tensor_parallel"] == str(tensor_parallel)
  ]
  if len({row["prompt_size"] for row in wanted}) < 2:
    known = sorted(
      {
        f"{row['model']}/{row['hardware']}/{row['tensor_parallel']}"
        for row in rows
      }
    )
    raise ValueError(
      f"{path}: no measurements of {model}/{hardware}/{tensor_parallel}; it "
      f"holds {', '.join(known)}"
    )
  number = functools.partial(_number, path)
  size, batch, tokens, prompt_ms, token_ms = (
    np.array([number(row, name) for row in wanted]) for name in _COLUMNS[3:]
  )
  points = np.unique(size * batch)
  medians = [np.median(prompt_ms[size * batch == x]) / 1e3 for x in points]
  return TablePerformance(
    tuple(points.tolist()),
    tuple(map(float, medians)),
    _fit_decode(size, batch, tokens, token_ms / 1e3),
    reach,
    name=f"{path.name} {model}/{hardware}",
  )


def _rows(path: pathlib.Path) -> list[dict[str, str]]:
  with path.open(encoding="utf-8-sig", newline="") as file:
    reader = csv.DictReader(file)
    header = reader.fieldnames or []
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
      raise ValueError(f"{path}, row 1: no column {', '.join(missing)}")
    return [row | {"line": str(reader.line_num)} for row in reader]


def _number(path: pathlib.Path, row: Mapping[str, str], name: str) -> float:
  try:
    value = float(row[name])
  except (TypeError, ValueError):
    value = float("nan")
  if not (np.isfinite(value) and value > 0):
    raise ValueError(
      f"{path}, row {row['line']}, column {name}: {row[name]!r} is not a "
      "positive number"
    )
  return value


def _fit_decode(
  size: np.ndarray, batch: np.ndarray, tokens: np.ndarray, seconds: np.ndarray
) -> Decode:
  """Fits the medians; a sequence is on average half-way through its output."""
  cases = np.unique(np.stack([size, batch, tokens], 1), axis=0)
  target = [
    np.median(seconds[(size == p) & (batch == b) & (tokens == g)])
    for p, b, g in cases
  ]
  p, b, g = cases.T
  design = np.stack([np.ones_like(b), b, b * (p + g / 2)], 1)
  # Relative errors, so that long iterations do not outweigh short ones.
  target = np.array(target)
  fitted, _ = optimize.nnls(design / target[:, None], np.ones_like(target))
  return Decode(*map(float, fitted))
