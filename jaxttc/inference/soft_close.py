# SPDX-License-Identifier: Apache-2.0
"""Soft close: ever more weight on the closing token, then a grace, then force.

From a share of the budget on, every token of the span makes the closing token
likelier by one more `slope`, in nats. At the budget the span is closed where a
line begins, and `grace` tokens later wherever it stands. No training and no
predictor: it knows the budget, not the thought.

Chain it before the sampler's filters: they would drop a closing token that is
not likely yet, and no weight brings back what was dropped. What is forced is
forced twice, in the logits and in what is written.
"""

from collections.abc import Sequence
import dataclasses

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.inference import controllers, guidance


@flax.struct.dataclass
class SoftCloseState:
  """Where each of B rows stands.

  Attributes:
    budget: i32[B], tokens of the span, its closing one included.
    used: i32[B], tokens of the span written so far.
    thinking: bool[B], whether the span is open.
    line_start: bool[B], whether the next token begins a line.
    eased: bool[B], whether the closing token had more weight when it was drawn.
    cut: bool[B], whether the span was closed by force.
  """

  budget: Int[Array, " B"]
  used: Int[Array, " B"]
  thinking: Bool[Array, " B"]
  line_start: Bool[Array, " B"]
  eased: Bool[Array, " B"]
  cut: Bool[Array, " B"]


def soft_close(
  budget: guidance.Bound,
  *,
  end: int,
  lines: Sequence[int],
  soft_ratio: float = 0.75,
  slope: float = 1.0,
  grace: int = 0,
) -> controllers.Controller:
  """The soft-close controller. Rows begin inside their thinking span.

  Args:
    budget: tokens of the span, its closing one included, >= 1; one for all
      rows or one each.
    end: the closing token.
    lines: tokens whose text has a line end (`guidance.line_tokens`).
    soft_ratio: share of the budget, in (0, 1], at which the weight begins.
    slope: nats that the closing token gains a token, >= 0.
    grace: most tokens beyond the budget, waiting for a line to begin.

  Returns:
    The controller, with a `SoftCloseState`. No span is longer than
    budget + grace.

  Raises:
    ValueError: for a budget that is no integer >= 1, or another argument out
      of range.
  """
  guidance.check_budget(budget)
  if not 0 < soft_ratio <= 1:
    raise ValueError(
      f"soft_ratio is {soft_ratio}; expected more than 0, up to 1"
    )
  if not 0 <= slope < float("inf"):
    raise ValueError(f"slope is {slope}; expected finite and >= 0")
  if grace < 0:
    raise ValueError(f"grace is {grace}; expected >= 0")
  newline = np.asarray(sorted(set(lines)), np.int32)

  def init(
    batch: int, prompt: Int[Array, "B T"] | None = None
  ) -> SoftCloseState:
    del prompt
    budgets = jnp.broadcast_to(jnp.asarray(budget, jnp.int32), (batch,))
    no = jnp.zeros(batch, bool)
    return SoftCloseState(
      budget=budgets,
      used=jnp.zeros_like(budgets),
      thinking=~no,
      line_start=~no,
      eased=no,
      cut=no,
    )

  def weight(state: SoftCloseState) -> Float[Array, " B"]:
    """Nats that the closing token gains now."""
    start = jnp.ceil(soft_ratio * state.budget).astype(jnp.int32)
    steps = jnp.maximum(state.used + 2 - start, 0)
    return jnp.where(state.thinking, slope * steps, 0.0).astype(jnp.float32)

  def forced(state: SoftCloseState) -> Bool[Array, " B"]:
    following = state.used + 1  # the number of the next token of the span
    at_end = following >= state.budget + grace
    graceful = (following >= state.budget) & state.line_start
    return state.thinking & (at_end | graceful)

  def apply(
    state: SoftCloseState,
    logits: Float[Array, "B V"],
    context: controllers.Context | None = None,
  ) -> Float[Array, "B V"]:
    del context
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    bent = logits.at[:, end].add(weight(state))
    only = jnp.full_like(logits, -jnp.inf).at[:, end].set(0.0)
    return jnp.where(forced(state)[:, None], only, bent)

  def commit(
    state: SoftCloseState, token: Array, active: Array
  ) -> tuple[Array, SoftCloseState]:
    cut = active & forced(state)
    token = jnp.where(cut, end, token)
    moved = active & (token >= 0)
    closes = moved & state.thinking & (token == end)
    is_line = (token[:, None] == jnp.asarray(newline)[None]).any(axis=1)
    return token, dataclasses.replace(
      state,
      used=state.used + (moved & state.thinking),
      thinking=state.thinking & ~closes,
      line_start=jnp.where(moved, is_line, state.line_start),
      eased=state.eased | (closes & ~cut & (weight(state) > 0)),
      cut=state.cut | cut,
    )

  return controllers.Controller(init, apply, commit)
