# SPDX-License-Identifier: Apache-2.0
"""Budget forcing: keep the length of thinking between two bounds.

Source: Muennighoff et al. 2025, s1, section 3.1. A row starts inside its
thinking span. When it proposes to end the span before `min_tokens`, the
proposal is replaced by a word that makes it go on ("Wait"), up to
`num_ignore` times. When the span reaches `max_tokens`, the closing tokens are
written for it. After the span the row is left alone.

The thinking length counts every token written before the sequence that ends
the span, forced ones included, that sequence excluded. It never exceeds
`max_tokens`. It is never below `min_tokens` either, unless `num_ignore`
proposals have been ignored already. The paper's own lower bound, "ignore n
times, however long", is `min_tokens = UNLIMITED`.

What is forced is forced twice, by `apply` (all mass on the token, so that its
log probability is 0) and by `commit` (it is written whatever was drawn).
"""

from collections.abc import Sequence
import dataclasses
import enum

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.inference import controllers, stop

UNLIMITED = int(np.iinfo(np.int32).max)

Bound = int | Int[Array | np.ndarray, "..."]  # one for all rows, or i32[B]


class Phase(enum.IntEnum):
  """Where a row stands."""

  THINKING = 0  # inside the span, writing what it draws
  WAITING = 1  # inside the span, being made to write `wait`
  CLOSING = 2  # out of budget, being made to write `close`
  DONE = 3  # past the span, left alone


@flax.struct.dataclass
class BudgetForcingState:
  """Where each of B rows stands.

  Attributes:
    phase: i32[B], a `Phase`.
    cursor: i32[B], the next token of `wait` or `close` while one is written.
    used: i32[B], the thinking length so far; final once the phase is DONE.
    ignored: i32[B], proposals to end that were replaced.
    cut: bool[B], whether the span was closed by `max_tokens`.
    match: i32[B], progress of the end sequences; see `stop.Automaton`.
    min_tokens: i32[B].
    max_tokens: i32[B].
    num_ignore: i32[B].
  """

  phase: Int[Array, " b"]
  cursor: Int[Array, " b"]
  used: Int[Array, " b"]
  ignored: Int[Array, " b"]
  cut: Bool[Array, " b"]
  match: Int[Array, " b"]
  min_tokens: Int[Array, " b"]
  max_tokens: Int[Array, " b"]
  num_ignore: Int[Array, " b"]


def budget_forcing(
  *,
  ends: Sequence[Sequence[int]],
  wait: Sequence[int],
  close: Sequence[int] | None = None,
  min_tokens: Bound = 0,
  max_tokens: Bound = UNLIMITED,
  num_ignore: Bound = UNLIMITED,
) -> controllers.Controller:
  """The budget-forcing controller; chain it last.

  The three bounds become part of the state, one of each a row, so a step
  compiled once serves every budget. With `num_ignore` 0 and `max_tokens`
  UNLIMITED the written tokens are the drawn ones.

  Args:
    ends: token sequences that end the span: the end-of-thinking token or
      tag, and the end-of-sequence token if a row may stop without the tag.
    wait: the tokens that replace an ignored end. The last token of an end
      sequence is the one replaced; earlier ones have been written.
    close: the tokens written at `max_tokens`, by default the first of `ends`.
    min_tokens: thinking length from which an end is accepted, >= 0.
    max_tokens: thinking length at which the span is closed, >= min_tokens
      unless `min_tokens` is UNLIMITED; 0 closes it at once.
    num_ignore: how many ends may be ignored, >= 0.

  Returns:
    The controller, with a `BudgetForcingState`.

  Raises:
    ValueError: if a sequence is empty or missing, `wait` shares a token with
      `ends`, or a bound known on the host is negative or out of order.
  """
  automaton = stop.build(ends)
  if not len(ends):
    raise ValueError("ends is empty; expected at least one token sequence")
  waiting = _tokens("wait", wait)
  closing = _tokens("close", ends[0] if close is None else close)
  shared = np.intersect1d(waiting, automaton.alphabet)
  if shared.size:
    raise ValueError(
      f"wait shares token {shared[0]} with ends; expected none in common"
    )
  _check_bounds(min_tokens, max_tokens, num_ignore)

  def init(
    batch: int, prompt: Int[Array, "b t"] | None = None
  ) -> BudgetForcingState:
    del prompt
    return _initial(batch, min_tokens, max_tokens, num_ignore)

  def apply(
    state: BudgetForcingState,
    logits: Float[Array, "b v"],
    context: controllers.Context | None = None,
  ) -> Float[Array, "b v"]:
    del context
    token = _forced(state, waiting, closing)[:, None]
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    certain = jnp.where(ids == token, 0.0, -jnp.inf).astype(logits.dtype)
    return jnp.where(token >= 0, certain, logits)

  def commit(
    state: BudgetForcingState, token: Array, active: Array
  ) -> tuple[Array, BudgetForcingState]:
    forced = _forced(state, waiting, closing)
    written = jnp.where(forced >= 0, forced, token)
    # Every branch is a few integers a row: all are computed, one is chosen.
    drawn, thinking = _think(state, token, automaton, waiting)
    written = jnp.where(state.phase == Phase.THINKING, drawn, written)
    following = _select(
      state.phase,
      [thinking, _wait(state, waiting.size), _close(state, closing.size)],
      state,
    )
    moved = active & (written >= 0)
    following = jax.tree.map(
      lambda new, old: jnp.where(moved, new, old), _cap(following), state
    )
    return jnp.where(active, written, token), following

  return controllers.Controller(init, apply, commit)


def _initial(
  batch: int,
  min_tokens: Bound,
  max_tokens: Bound,
  num_ignore: Bound,
) -> BudgetForcingState:
  def fill(value: Bound) -> Array:
    return jnp.broadcast_to(jnp.asarray(value, jnp.int32), (batch,))

  return _cap(
    BudgetForcingState(
      phase=fill(Phase.THINKING),
      cursor=fill(0),
      used=fill(0),
      ignored=fill(0),
      cut=jnp.zeros(batch, bool),
      match=stop.start(batch),
      min_tokens=fill(min_tokens),
      max_tokens=fill(max_tokens),
      num_ignore=fill(num_ignore),
    )
  )


def _forced(
  state: BudgetForcingState, waiting: np.ndarray, closing: np.ndarray
) -> Int[Array, " b"]:
  """The token each row must write next, -1 where it is free."""
  # A cursor beyond the other sequence is clamped, and then not chosen.
  wait = jnp.asarray(waiting)[jnp.minimum(state.cursor, waiting.size - 1)]
  close = jnp.asarray(closing)[jnp.minimum(state.cursor, closing.size - 1)]
  free = jnp.where(state.phase == Phase.CLOSING, close, -1)
  return jnp.where(state.phase == Phase.WAITING, wait, free)


def _think(
  state: BudgetForcingState,
  token: Int[Array, " b"],
  automaton: stop.Automaton,
  waiting: np.ndarray,
) -> tuple[Int[Array, " b"], BudgetForcingState]:
  """A free token: it is thinking, or ends it, or is replaced by `wait`."""
  everywhere = jnp.ones_like(token, bool)
  match = stop.advance(automaton, state.match, token, everywhere)
  length = stop.match_length(automaton, match)
  ended = length > 0
  before = state.used + 1 - length  # thinking tokens before the end sequence
  early = (before < state.min_tokens) & (state.ignored < state.num_ignore)
  ignore = ended & early
  accept = ended & ~early
  following = dataclasses.replace(
    state,
    phase=jnp.where(
      accept,
      Phase.DONE,
      jnp.where(ignore, Phase.WAITING, Phase.THINKING),
    ).astype(jnp.int32),
    used=jnp.where(accept, before, state.used + 1),
    ignored=state.ignored + ignore,
    match=jnp.where(ignore, 0, match),
  )
  # The first token of `wait` is written here and now.
  rest = _wait(dataclasses.replace(following, used=state.used), waiting.size)
  following = _select(following.phase, [following, rest], following)
  return jnp.where(ignore, int(waiting[0]), token), following


def _wait(state: BudgetForcingState, size: int) -> BudgetForcingState:
  """One forced token of `wait`."""
  over = state.cursor + 1 >= size
  return dataclasses.replace(
    state,
    phase=jnp.where(over, Phase.THINKING, Phase.WAITING).astype(jnp.int32),
    cursor=jnp.where(over, 0, state.cursor + 1),
    used=state.used + 1,
  )


def _close(state: BudgetForcingState, size: int) -> BudgetForcingState:
  """One forced token of `close`."""
  over = state.cursor + 1 >= size
  return dataclasses.replace(
    state,
    phase=jnp.where(over, Phase.DONE, Phase.CLOSING).astype(jnp.int32),
    cursor=jnp.where(over, 0, state.cursor + 1),
  )


def _cap(state: BudgetForcingState) -> BudgetForcingState:
  """Starts closing rows whose thinking has reached `max_tokens`."""
  thinking = state.phase <= Phase.WAITING
  over = thinking & (state.used >= state.max_tokens)
  return dataclasses.replace(
    state,
    phase=jnp.where(over, Phase.CLOSING, state.phase).astype(jnp.int32),
    cursor=jnp.where(over, 0, state.cursor),
    cut=state.cut | over,
  )


def _select(
  index: Int[Array, " b"],
  branches: Sequence[BudgetForcingState],
  otherwise: BudgetForcingState,
) -> BudgetForcingState:
  """Row i of `branches[index[i]]`, of `otherwise` if there is none."""
  chosen = otherwise
  for i, branch in enumerate(branches):
    chosen = jax.tree.map(
      lambda new, old, i=i: jnp.where(index == i, new, old), branch, chosen
    )
  return chosen


def _tokens(name: str, ids: Sequence[int]) -> np.ndarray:
  tokens = np.asarray(ids)
  if tokens.ndim != 1 or not tokens.size:
    raise ValueError(f"{name} is {ids!r}; expected a sequence of token ids")
  if not np.issubdtype(tokens.dtype, np.integer) or tokens.min() < 0:
    raise ValueError(f"{name} is {ids!r}; expected integer ids >= 0")
  return tokens.astype(np.int32)


def _check_bounds(
  min_tokens: Bound, max_tokens: Bound, num_ignore: Bound
) -> None:
  """Checks the bounds that are known; traced ones cannot be."""
  bounds = {
    "min_tokens": min_tokens,
    "max_tokens": max_tokens,
    "num_ignore": num_ignore,
  }
  known = {
    name: np.asarray(value)
    for name, value in bounds.items()
    if not isinstance(value, jax.core.Tracer)
  }
  for name, value in known.items():
    if not np.issubdtype(value.dtype, np.integer) or (value < 0).any():
      raise ValueError(f"{name} is {value}; expected integers >= 0")
    if (value > UNLIMITED).any():
      raise ValueError(f"{name} is {value}; expected at most {UNLIMITED}")
  if {"min_tokens", "max_tokens"} <= known.keys():
    low, high = known["min_tokens"], known["max_tokens"]
    if ((low > high) & (low < UNLIMITED)).any():
      raise ValueError(
        f"min_tokens is {low} and max_tokens {high}; expected min <= max"
      )
