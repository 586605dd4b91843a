# SPDX-License-Identifier: Apache-2.0
"""Budget guidance: bend each choice by the chance to finish in time.

By Bayes' rule, a token v given that thinking ends within what is left of its
budget has probability proportional to p(v) * Pr(R(v) <= left), where R(v) is
how much thinking there would be if v were chosen (Li et al. 2025, "Steering
LLM thinking with budget guidance"). With exact chances that is the law of
unguided traces, conditioned on the budget (Doob's transform). The chances come
from a function: a trained predictor's (`predictors.length_predictor`), a table,
anything that can be traced.

The count: a span's tokens are those it writes, its closing token included; a
budget is a number of such tokens. Guidance alone may overrun it. Chain
`cap` behind it, and nothing ever does.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num
import numpy as np

from jaxttc.inference import budget_forcing, controllers

_LEAST = -60.0  # a chance so small is as good as any smaller one

Bound = int | float | np.integer | Num[Array | np.ndarray, "..."]

# (hidden f[B, N, D], candidates i32[B, C] or None, remaining i32[B])
# -> log-chance f32[B, C]; -inf for candidates that it knows nothing of.
Chance = Callable[
  [Array | None, Int[Array, "B C"] | None, Int[Array, " B"]],
  Float[Array, "B C"],
]


@runtime_checkable
class Tokenizer(Protocol):
  """What `line_tokens` needs of a tokenizer."""

  vocab_size: int

  def decode(self, ids: Sequence[int]) -> str:
    """The text of token ids."""
    ...


def guide(
  logits: Float[Array, "B V"],
  log_chance: Float[Array, "B _"],
  candidates: Int[Array, "B _"] | None = None,
  *,
  strength: float | int = 1.0,
) -> Float[Array, "B V"]:
  """Adds the log-chances of candidates to their logits.

  Args:
    logits: of the next token.
    log_chance: log Pr(R <= remaining) a candidate, raised to -60 where it is
      less; -inf takes a candidate out.
    candidates: token ids; C = V and all tokens if None. Other tokens are
      taken out.
    strength: power of the chance, >= 0. At 0 the logits come back as they are.

  Returns:
    Logits, unnormalised, in float32 or wider. A row whose candidates are all
    out keeps its likeliest token alone. Rows with no mass stay so.

  Raises:
    ValueError: for a negative strength, or C other than V where candidates are
      not named.
  """
  check_strength(strength)
  if strength == 0:
    return logits
  if candidates is None and log_chance.shape != logits.shape:
    raise ValueError(
      f"chances of shape {log_chance.shape} for logits of shape "
      f"{logits.shape}; expected one vocabulary, or candidates"
    )
  dtype = jnp.promote_types(logits.dtype, jnp.float32)
  logits = logits.astype(dtype)
  weight = strength * jnp.maximum(log_chance, _LEAST).astype(dtype)
  weight = jnp.where(jnp.isneginf(log_chance), -jnp.inf, weight)
  if candidates is None:
    bent = logits + weight
  else:
    rows = jnp.arange(logits.shape[0])[:, None]
    taken = jnp.take_along_axis(logits, candidates, axis=1) + weight
    out = jnp.full(logits.shape, -jnp.inf, dtype)
    bent = out.at[rows, candidates].set(taken)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
  best = jnp.argmax(logits, axis=-1, keepdims=True)
  only_best = jnp.where(ids == best, logits, -jnp.inf)
  some = ~jnp.isneginf(bent.max(axis=-1, keepdims=True))
  return jnp.where(some, bent, only_best)


def likeliest(
  logits: Float[Array, "B V"], top_k: int | None
) -> Int[Array, "B C"] | None:
  """The ids of the `top_k` largest logits; None, for all, if it is None.

  Raises:
    ValueError: if `top_k` is below 1.
  """
  if top_k is None or top_k >= logits.shape[-1]:
    return None
  if top_k < 1:
    raise ValueError(f"top_k is {top_k}; expected at least 1, or None")
  return jax.lax.top_k(logits, top_k)[1]


@flax.struct.dataclass
class GuidanceState:
  """Where each of B rows stands.

  Attributes:
    budget: i32[B], tokens of the span, its closing one included.
    used: i32[B], tokens of the span written so far.
    thinking: bool[B], whether the span is open.
    line_start: bool[B], whether the next token begins a line.
    guided: i32[B], tokens drawn under guidance.
  """

  budget: Int[Array, " B"]
  used: Int[Array, " B"]
  thinking: Bool[Array, " B"]
  line_start: Bool[Array, " B"]
  guided: Int[Array, " B"]

  @property
  def remaining(self) -> Int[Array, " B"]:
    """Tokens left, at least 1: a span that overran may still close."""
    return jnp.maximum(self.budget - self.used, 1)


def guidance(
  chance: Chance,
  *,
  budget: Bound,
  end: int,
  lines: Sequence[int],
  every_token: bool = False,
  strength: float | int = 1.0,
  top_k: int | None = None,
) -> controllers.Controller:
  """The guidance controller. Rows begin inside their thinking span.

  It acts on the distribution that the controllers before it left: chain it
  behind the sampler's filters. (The released code skips temperature and top-p
  where it guides; for that, chain it before them.) Where no row needs it, the
  chances are not computed.

  Args:
    chance: see `Chance`; it may close over traced parameters.
    budget: tokens of the span, its closing one included, >= 1; one for all
      rows or one each.
    end: the closing token.
    lines: tokens whose text has a line end (`line_tokens`): where the next
      token is guided. The span's first token is, too.
    every_token: guides all tokens of the span.
    strength: power of the chance.
    top_k: candidates a row, the likeliest; None for the whole vocabulary.

  Returns:
    The controller, with a `GuidanceState`. It reads hidden states.

  Raises:
    ValueError: for a budget that is no integer >= 1, no line tokens, a closing
      token among them, or a negative strength.
  """
  check_strength(strength)
  check_budget(budget)
  newline = np.asarray(sorted(set(lines)), np.int32)
  if not newline.size:
    raise ValueError("lines is empty; expected the ids of tokens that end one")
  if end in newline:
    raise ValueError(f"lines holds the closing token {end}; expected others")

  def init(
    batch: int, prompt: Int[Array, "B T"] | None = None
  ) -> GuidanceState:
    del prompt
    budgets = jnp.broadcast_to(jnp.asarray(budget, jnp.int32), (batch,))
    return GuidanceState(
      budget=budgets,
      used=jnp.zeros_like(budgets),
      thinking=jnp.ones(batch, bool),
      line_start=jnp.ones(batch, bool),
      guided=jnp.zeros_like(budgets),
    )

  def acts(state: GuidanceState) -> Bool[Array, " B"]:
    return state.thinking & (state.line_start | every_token)

  def apply(
    state: GuidanceState,
    logits: Float[Array, "B V"],
    context: controllers.Context | None = None,
  ) -> Float[Array, "B V"]:
    hidden = None if context is None else context.hidden
    guided = acts(state)

    def bend(logits):
      candidates = likeliest(logits, top_k)
      weights = chance(hidden, candidates, state.remaining)
      bent = guide(logits, weights, candidates, strength=strength)
      return jnp.where(guided[:, None], bent, logits)

    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.lax.cond(guided.any(), bend, lambda x: x, logits)

  def commit(
    state: GuidanceState, token: Array, active: Array
  ) -> tuple[Array, GuidanceState]:
    moved = active & (token >= 0)
    counted = moved & state.thinking
    following = dataclasses.replace(
      state,
      used=state.used + counted,
      guided=state.guided + (counted & acts(state)),
      thinking=state.thinking & ~(moved & (token == end)),
      line_start=jnp.where(
        moved,
        (token[:, None] == jnp.asarray(newline)[None]).any(axis=1),
        state.line_start,
      ),
    )
    return token, following

  return controllers.Controller(init, apply, commit, reads_hidden=True)


def cap(
  budget: Bound, *, end: int, close: Sequence[int] | None = None
) -> controllers.Controller:
  """Closes a span whose next token would be the last of its budget.

  Budget forcing's upper bound (`budget_forcing`) in this module's count.

  Args:
    budget: tokens of the span, its closing one included, >= 1.
    end: the closing token.
    close: the tokens written, by default the closing one; it comes first.

  Raises:
    ValueError: for a budget that is no integer >= 1, or `close` that does not
      begin with the closing token.
  """
  check_budget(budget)
  written = [end] if close is None else list(close)
  if not written or written[0] != end:
    raise ValueError(f"close is {written}; expected it to begin with {end}")
  return budget_forcing.budget_forcing(
    ends=[[end]],
    wait=[end + 1],  # no end is ignored, so it is never written
    close=written,
    max_tokens=jnp.asarray(budget, jnp.int32) - 1,
    num_ignore=0,
  )


def line_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
  """Ids of the tokens whose own text holds a line end.

  Raises:
    ValueError: if there is none.
  """
  found = tuple(
    token
    for token in range(tokenizer.vocab_size)
    if "\n" in tokenizer.decode([token])
  )
  if not found:
    raise ValueError("no token of the vocabulary holds a line end")
  return found


def check_strength(strength: float | int) -> None:
  """Raises ValueError unless `strength` is finite and >= 0."""
  if not 0 <= strength < float("inf"):
    raise ValueError(f"strength is {strength}; expected finite and >= 0")


def check_budget(budget: Bound) -> None:
  """Raises ValueError unless each budget is an integer >= 1, if known."""
  if isinstance(budget, jax.core.Tracer):
    return
  known = np.asarray(budget)
  whole = np.issubdtype(known.dtype, np.integer)
  if not whole or (known < 1).any():
    raise ValueError(f"budget is {budget}; expected integers >= 1")
