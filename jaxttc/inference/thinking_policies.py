# SPDX-License-Identifier: Apache-2.0
"""Ways to keep thinking within a budget, behind one interface.

A policy says how a question is put and under which controller it is decoded.
Budgets count the tokens of the thinking span, its closing one included (see
`guidance`), and are arrays, so one compiled program serves them all.

`full` and `no_thinking` know no budget. `hard_cap` cuts (Muennighoff et al.
2025, s1); `forced` cuts and, where the model would stop early, makes it go on;
`hinted` asks for short lines in the prompt, and cuts; `early_exit` closes once
a probe is confident; `no_wait` takes out the words that begin a thought anew
(Wang et al. 2025, NoWait), and cuts; `soft_close` makes the closing token ever
likelier, then cuts; `guided` bends every choice by the chance to finish in time
(Li et al. 2025), with a cap as a net or without.

Two ways to think take more than one run: `repeated_thoughts` draws thoughts
until one fits, `trial_exit` tries answers while it thinks.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.inference import (
  budget_forcing,
  controllers,
  guidance,
  suppression,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import soft_close as soft_close_lib
from jaxttc.inference import thinker as thinker_lib

Confidence = Callable[[Float[Array, "B N D"]], Float[Array, " B"]]


class ThinkingPolicy(NamedTuple):
  """One way to think under a budget.

  Attributes:
    name: for tables.
    make: budgets i32[B] to the controller of the rows, behind the sampler's
      filters.
    style: how solutions are asked for (`tasks.problems.STYLES`).
    thinks: whether the span is opened; else it is left empty.
    before: likewise, of a controller before the filters; None for none.
  """

  name: str
  make: thinker_lib.Make
  style: str = "free"
  thinks: bool = True
  before: thinker_lib.Make | None = None

  def thinker(
    self,
    policy: bundle_lib.Bundle,
    *,
    limit: int,
    sampler: controllers.Sampler | None = None,
  ) -> thinker_lib.Thinker:
    """A model that thinks so; as `thinker_lib.Thinker`.

    Raises:
      ValueError: as `thinker_lib.Thinker`.
    """
    return thinker_lib.Thinker(
      policy,
      self.make,
      limit=limit,
      sampler=sampler,
      before=self.before,
      thinks=self.thinks,
    )


def full() -> ThinkingPolicy:
  """Thinks as long as the model likes."""
  return ThinkingPolicy("full", lambda budgets: controllers.identity())


def no_thinking() -> ThinkingPolicy:
  """Answers at once, after an empty span."""
  return full()._replace(name="no thinking", thinks=False)


def hard_cap(*, end: int, close: Sequence[int] | None = None) -> ThinkingPolicy:
  """Closes the span when its budget is spent, wherever that is.

  Args:
    end: the closing token.
    close: what is written, by default the closing token.
  """
  make = lambda budgets: guidance.cap(  # noqa: E731
    budgets, end=end, close=close
  )
  return ThinkingPolicy("hard cap", make)


def forced(
  *,
  end: int,
  wait: Sequence[int],
  least_share: float,
  ignores: int,
  close: Sequence[int] | None = None,
) -> ThinkingPolicy:
  """Budget forcing: cuts at the budget, and goes on where it ends early.

  Args:
    end: the closing token.
    wait: what is written in its place before the least length.
    least_share: least length as a share of the budget, in [0, 1].
    ignores: how often an early end may be ignored.
    close: what is written at the budget, by default the closing token.

  Raises:
    ValueError: if the share is out of range.
  """
  if not 0 <= least_share <= 1:
    raise ValueError(f"least_share is {least_share}; expected 0..1")

  def make(budgets: Int[Array, " B"]) -> controllers.Controller:
    most = jnp.asarray(budgets) - 1
    return budget_forcing.budget_forcing(
      ends=[[end]],
      wait=wait,
      close=close,
      min_tokens=jnp.int32(jnp.floor(least_share * most)),
      max_tokens=most,
      num_ignore=ignores,
    )

  return ThinkingPolicy("budget forcing", make)


def hinted(*, end: int, style: str = "terse") -> ThinkingPolicy:
  """Asks for a style in the prompt; cuts at the budget."""
  return hard_cap(end=end)._replace(name="prompt hint", style=style)


def no_wait(*, end: int, words: Sequence[int]) -> ThinkingPolicy:
  """Never draws the words that begin a thought anew; cuts at the budget.

  Args:
    end: the closing token.
    words: tokens to leave out (`suppression.reflection_tokens`).

  Raises:
    ValueError: as `suppression.suppress`.
  """
  kept = suppression.suppress(words, end=end)
  return hard_cap(end=end)._replace(name="no wait", before=lambda budgets: kept)


def soft_close(
  *,
  end: int,
  lines: Sequence[int],
  soft_ratio: float = 0.75,
  slope: float = 1.0,
  grace: int = 0,
) -> ThinkingPolicy:
  """Makes the closing token ever likelier, then closes; see `soft_close`.

  A span may exceed its budget by `grace` tokens, and by no more.

  Raises:
    ValueError: as `soft_close.soft_close`.
  """

  def before(budgets: Int[Array, " B"]) -> controllers.Controller:
    return soft_close_lib.soft_close(
      budgets,
      end=end,
      lines=lines,
      soft_ratio=soft_ratio,
      slope=slope,
      grace=grace,
    )

  before(jnp.ones(1, jnp.int32))  # refuses what cannot be, here and now
  return full()._replace(name="soft close", before=before)


def guided(
  chance: guidance.Chance,
  *,
  end: int,
  lines: Sequence[int],
  every_token: bool = False,
  strength: float = 1.0,
  top_k: int | None = None,
  capped: bool = True,
) -> ThinkingPolicy:
  """Budget guidance.

  Args:
    chance: see `guidance.Chance`.
    end: the closing token.
    lines: tokens that end a line.
    every_token: guides every token, not line starts alone.
    strength: power of the chance.
    top_k: candidates a row; None for all.
    capped: closes the span at its budget if it has not closed by then, so that
      nothing is overspent.

  Raises:
    ValueError: for a negative strength.
  """
  guidance.check_strength(strength)

  def make(budgets: Int[Array, " B"]) -> controllers.Controller:
    bend = guidance.guidance(
      chance,
      budget=budgets,
      end=end,
      lines=lines,
      every_token=every_token,
      strength=strength,
      top_k=top_k,
    )
    if not capped:
      return bend
    return controllers.chain(bend, guidance.cap(budgets, end=end))

  where = "every token" if every_token else "line starts"
  name = f"guidance, {where}" + ("" if capped else ", no cap")
  return ThinkingPolicy(name, make)


def early_exit(
  confidence: Confidence,
  *,
  threshold: float,
  end: int,
  lines: Sequence[int],
  vocab_size: int,
) -> ThinkingPolicy:
  """Closes the span at the first line start where it is confident; caps it.

  Args:
    confidence: hidden states f[B, N, D] to [0, 1], f32[B]: that an answer
      given now would be right.
    threshold: from which the span is closed, in (0, 1].
    end: the closing token.
    lines: tokens that end a line.
    vocab_size: V.

  Raises:
    ValueError: if the threshold is out of range.
  """
  check_threshold(threshold)
  closing = jnp.where(jnp.arange(vocab_size) == end, 0.0, -jnp.inf)[None]

  def weights(hidden, candidates, remaining):
    del candidates, remaining
    sure = confidence(hidden) >= threshold
    return jnp.where(sure[:, None], closing, 0.0)

  policy = guided(weights, end=end, lines=lines)
  return policy._replace(name="early exit")


def check_threshold(threshold: float | int) -> None:
  """Raises ValueError unless a confidence to close from is in (0, 1]."""
  if not 0 < threshold <= 1:
    raise ValueError(f"threshold is {threshold}; expected more than 0, up to 1")


def linear_confidence(weights: Float[Array, " D"], bias: float) -> Confidence:
  """A logistic probe of the last hidden state."""
  return lambda hidden: jax.nn.sigmoid(hidden[:, -1] @ weights + bias)
