# SPDX-License-Identifier: Apache-2.0
"""Power and phase times measured on real servers, from a serving profile.

The format is the profiling table that came with Splitwise (Patel et al.,
2024): columns model, hardware, prompt_size, batch_size, token_size,
peak_power, average_power, prompt_time, token_time, e2e_time and
tensor_parallel; power as a share of the GPUs' limit, times in milliseconds.
Many rows have zeros for power: not measured, not nothing drawn.

The peak is taken for the prompt phase, by prompt tokens of the whole batch.
The token phase is what is left of the mean once the prompt is taken out,

    token = (average * e2e - peak * prompt) / (e2e - prompt),

by batch size, as its median over prompt sizes.
"""

import csv
import dataclasses
import math
import os
import pathlib

from jaxtyping import Float
import numpy as np

from jaxttc.simulation import traces as traces_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import requests as requests_lib

_Path = str | os.PathLike[str]
_KEYS = ("model", "hardware", "tensor_parallel")
_NUMBERS = (
  "prompt_size",
  "batch_size",
  "peak_power",
  "average_power",
  "prompt_time",
  "token_time",
  "e2e_time",
)


@dataclasses.dataclass(frozen=True)
class Profile:
  """What one model does on one machine.

  Attributes:
    name: model, hardware and tensor parallelism, as the table says them.
    tokens: f64[n], ascending: prompt tokens of a whole batch.
    prompt_share: f64[n], GPU power in the prompt phase over its limit.
    prompt_s: f64[n], time of the prompt phase.
    batch: f64[m], ascending: sequences run together.
    token_share: f64[m], GPU power in the token phase over its limit.
    token_s: f64[m], time of one token.
  """

  name: str
  tokens: Float[np.ndarray, " n"]
  prompt_share: Float[np.ndarray, " n"]
  prompt_s: Float[np.ndarray, " n"]
  batch: Float[np.ndarray, " m"]
  token_share: Float[np.ndarray, " m"]
  token_s: Float[np.ndarray, " m"]

  def watts(
    self,
    *,
    gpu_w: float,
    gpus: int,
    other_w: float,
    extrapolate: bool = False,
  ) -> model_lib.Watts:
    """Watts of a server by prompt tokens and batch size, for `PowerModel`.

    Args:
      gpu_w: limit of one GPU.
      gpus: how many.
      other_w: what the rest of the server draws.
      extrapolate: outside what was measured, take the nearest that was.

    Returns:
      A function that raises ValueError for a request outside what was
      measured, unless `extrapolate`.
    """
    for name, value in (("gpu_w", gpu_w), ("gpus", gpus)):
      model_lib.positive(name, value)
    if not (math.isfinite(other_w) and other_w >= 0):
      raise ValueError(f"other_w is {other_w}; expected at least 0")

    def watts(
      tokens: np.ndarray, batch: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
      prompt = self._at("prompt tokens", tokens * batch, extrapolate)
      token = self._at("batch size", batch, extrapolate)
      # Nothing was seen to decode at more than its prompt drew.
      token = np.minimum(token, prompt)
      limit = gpu_w * gpus
      return other_w + limit * prompt, other_w + limit * token

    return watts

  def stream(
    self,
    trace: traces_lib.Trace,
    power: model_lib.PowerModel,
    *,
    extrapolate: bool = False,
  ) -> requests_lib.Stream:
    """A trace's requests with this machine's phase times, one at a time.

    Args:
      trace: arrivals and lengths.
      power: what the machine draws.
      extrapolate: beyond the longest prompt measured, follow the last slope;
        below the shortest, take its time.

    Raises:
      ValueError: if a prompt is outside what was measured, unless
        `extrapolate`.
    """
    tokens = trace.prompt_tokens
    _check_range("prompt tokens", tokens, self.tokens, self.name, extrapolate)
    slope = (self.prompt_s[-1] - self.prompt_s[-2]) / (
      self.tokens[-1] - self.tokens[-2]
    )
    beyond = np.maximum(tokens - self.tokens[-1], 0)
    prompt_s = np.interp(tokens, self.tokens, self.prompt_s) + slope * beyond
    token_s = (trace.output_tokens - 1) * float(self.token_s[0])
    return requests_lib.Stream(
      trace.arrival_s, prompt_s, token_s, *power.phases(tokens)
    )

  def _at(self, axis: str, at: np.ndarray, extrapolate: bool) -> np.ndarray:
    known, values = (
      (self.tokens, self.prompt_share)
      if axis == "prompt tokens"
      else (self.batch, self.token_share)
    )
    _check_range(axis, at, known, self.name, extrapolate)
    return np.interp(at, known, values)


def load(
  path: _Path, *, model: str, hardware: str, tensor_parallel: int
) -> Profile:
  """Reads the rows of one model on one machine that have power measured.

  Raises:
    ValueError: if the file cannot be read, lacks a column or has a field that
      is not a number or is negative (file, row and column are named), or if it
      has no power for this model and machine.
  """
  path = pathlib.Path(path)
  wanted = {
    "model": model,
    "hardware": hardware,
    "tensor_parallel": str(tensor_parallel),
  }
  rows, kinds, unmeasured = [], set(), 0
  try:
    with path.open(encoding="utf-8", newline="") as file:
      reader = csv.DictReader(file)
      header = reader.fieldnames or []
      for column in (*_KEYS, *_NUMBERS):
        if column not in header:
          raise ValueError(
            f"{path}: no column {column}; its columns are {', '.join(header)}"
          )
      for entry in reader:
        kinds.add(tuple(entry[key] for key in _KEYS))
        if any(entry[key] != value for key, value in wanted.items()):
          continue
        row = [
          _number(entry[column], f"{path}, row {reader.line_num}", column)
          for column in _NUMBERS
        ]
        if row[2] == 0 or row[3] == 0:
          unmeasured += 1
        else:
          rows.append(row)
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  name = f"{model} on {hardware} x {tensor_parallel}"
  if unmeasured and not rows:
    raise ValueError(
      f"{path}: no power for {name}: peak_power and average_power are 0, which "
      f"means not measured, in all of its {unmeasured} rows"
    )
  if not rows:
    known = "; ".join(" ".join(kind) for kind in sorted(kinds))
    raise ValueError(f"{path}: no rows for {name}; it has {known}")
  return _profile(name, np.array(rows))


def _profile(name: str, rows: np.ndarray) -> Profile:
  size, batch, peak, average, prompt, token, whole = rows.T
  decoding = (average * whole - peak * prompt) / (whole - prompt)
  tokens, prompt_share = _medians(size * batch, peak)
  _, prompt_ms = _medians(size * batch, prompt)
  batches, token_share = _medians(batch, decoding)
  _, token_ms = _medians(batch, token)
  if len(tokens) < 2:
    raise ValueError(f"{name}: one prompt size measured; expected at least two")
  return Profile(
    name,
    tokens,
    prompt_share,
    prompt_ms / 1e3,
    batches,
    token_share,
    token_ms / 1e3,
  )


def _medians(
  keys: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  known = np.unique(keys)
  return known, np.array([np.median(values[keys == key]) for key in known])


def _check_range(
  axis: str, at: np.ndarray, known: np.ndarray, name: str, extrapolate: bool
) -> None:
  outside = (at < known[0]) | (at > known[-1])
  if outside.any() and not extrapolate:
    which = int(np.argmax(outside))
    raise ValueError(
      f"request {which}: {at[which]} {axis}; {name} was measured from "
      f"{known[0]:g} to {known[-1]:g} (extrapolate=True goes beyond)"
    )


def _number(text: str | None, where: str, column: str) -> float:
  try:
    number = float(text or "")
  except ValueError:
    number = math.nan
  if not (math.isfinite(number) and number >= 0):
    raise ValueError(
      f"{where}, column {column}: {text!r}; expected a number >= 0"
    )
  return number
