# SPDX-License-Identifier: Apache-2.0
"""A sampler a row: settings that are data, so that no request compiles anew.

    sampling = row_sampling.of([Sampler(temperature=0.7), Sampler(top_p=0.9)])
    controller = row_sampling.controller(sampling)

The controller's state is the settings. Row by row it bends logits as the
`Sampler`s' own controllers do, bit by bit, and draws with `controllers.sample`:
at temperature 0 one token is left to draw.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.inference import controllers, filters

_ALL = np.iinfo(np.int32).max  # top_k that drops nothing


class RowSampling(NamedTuple):
  """How each of B rows is sampled.

  Attributes:
    temperature: f32[B], >= 0.
    top_k: i32[B], >= 1; the largest int32 keeps all.
    top_p: f32[B], in (0, 1].
    log_min_p: f32[B], -inf drops nothing.
  """

  temperature: Float[Array | np.ndarray, " b"]
  top_k: Int[Array | np.ndarray, " b"]
  top_p: Float[Array | np.ndarray, " b"]
  log_min_p: Float[Array | np.ndarray, " b"]


def of(samplers: Sequence[controllers.Sampler]) -> RowSampling:
  """The settings of one sampler a row, NumPy arrays; `check` them before."""
  floor = [math.log(s.min_p) if s.min_p else -math.inf for s in samplers]
  return RowSampling(
    temperature=np.array([s.temperature for s in samplers], np.float32),
    top_k=np.array([min(s.top_k or _ALL, _ALL) for s in samplers], np.int32),
    top_p=np.array([s.top_p for s in samplers], np.float32),
    log_min_p=np.array(floor, np.float32),
  )


def check(sampler: controllers.Sampler) -> None:
  """Refuses a sampler that no row can have.

  Raises:
    ValueError: if a field is out of range, or there is a repetition penalty,
      whose state would be as large as the vocabulary.
  """
  sampler.validate()
  if sampler.repetition_penalty != 1:
    raise ValueError(
      f"repetition_penalty is {sampler.repetition_penalty!r}; expected 1: it "
      "is set for an engine, not for a row"
    )


def plain(batch: int) -> RowSampling:
  """Rows that are drawn from the model as it is."""
  return RowSampling(
    temperature=jnp.ones((batch,), jnp.float32),
    top_k=jnp.full((batch,), _ALL, jnp.int32),
    top_p=jnp.ones((batch,), jnp.float32),
    log_min_p=jnp.full((batch,), -jnp.inf, jnp.float32),
  )


def controller(sampling: RowSampling | None = None) -> controllers.Controller:
  """The controller whose state is a `RowSampling`.

  Args:
    sampling: what `init` gives its rows; `plain` if None. As `reset` says, a
      controller may be built anew from new work's traced arrays.

  Returns:
    The controller. A filter that no row asks for costs one test a step.
  """

  def init(
    batch: int, prompt: Int[Array, "b t"] | None = None
  ) -> controllers.State:
    del prompt
    return plain(batch) if sampling is None else sampling

  def apply(
    state: controllers.State,
    logits: Float[Array, "b v"],
    context: controllers.Context | None = None,
  ) -> Float[Array, "b v"]:
    del context
    tau, k, p, floor = (x[:, None] for x in state)
    logits = logits.astype(jnp.float32)
    logits = jnp.where(tau == 1, logits, _cooled(logits, tau))
    # At temperature 0 one token is left: nothing to filter.
    warm, size = tau > 0, logits.shape[-1]
    logits = _where(warm & (k < size), filters.keep_top_k, logits, k)
    logits = _where(warm & (p < 1), filters.keep_top_p, logits, p)
    return _where(warm & (floor > -jnp.inf), filters.keep_min_p, logits, floor)

  def commit(
    state: controllers.State, token: Array, active: Array
  ) -> tuple[Array, controllers.State]:
    del active
    return token, state

  return controllers.Controller(init, apply, commit)


def _cooled(logits, tau):
  cooled = filters.cool(logits, jnp.where(tau > 0, tau, 1.0))
  return jnp.where(tau > 0, cooled, filters.keep_best(logits))


def _where(rows, keep, logits, setting):
  """Filters the rows that ask for it; skipped where none does."""

  def some(logits):
    return jnp.where(rows, keep(logits, setting), logits)

  return jax.lax.cond(rows.any(), some, lambda logits: logits, logits)
