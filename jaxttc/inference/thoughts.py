# SPDX-License-Identifier: Apache-2.0
"""What thinking brings and takes: texts, how their spans ended, work.

A span's tokens are those it writes, its closing one included.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jaxtyping import Bool, Int, Num
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import row_sampling

FINISHES = (
  *("natural", "soft", "forced", "early_exit", "disabled", "unfinished"),
)
"""How a thinking span ends: by itself; by itself, but favoured; by force at its
budget; after a confident trial; it was never opened; it did not end."""


class Work(NamedTuple):
  """What rows take, each field an int or an integer array of B rows.

  Attributes:
    runs: runs of a program.
    read: tokens that these runs read before they wrote.
    sampled: tokens written, and overhead.
    attended: positions that all tokens attended to.
    guided: tokens drawn under guidance.
  """

  runs: Any
  read: Any
  sampled: Any
  attended: Any
  guided: Any


class Thoughts(NamedTuple):
  """What B rows wrote.

  Attributes:
    tokens: i32[B, L], -1 beyond each row's end.
    length: i32[B], tokens written.
    spent: i32[B], tokens of the thinking span, its closing one included; all
      that was written if it never closed, 0 if it was never opened.
    closed: bool[B], whether the span was closed.
    finish: how it was, one of `FINISHES` a row.
    finished: bool[B], whether the answer came to its end within the limit.
    overhead: i32[B], tokens sampled beside these: trials, and what was given
      up.
    runs: i32[B], runs of a program that it took.
    read: i32[B], tokens that these runs read before they wrote.
    attended: i64[B], positions that all tokens attended to.
    guided: i32[B], tokens drawn under guidance.
  """

  tokens: Int[np.ndarray, "B L"]
  length: Int[np.ndarray, " B"]
  spent: Int[np.ndarray, " B"]
  closed: Bool[np.ndarray, " B"]
  finish: tuple[str, ...]
  finished: Bool[np.ndarray, " B"]
  overhead: Int[np.ndarray, " B"]
  runs: Int[np.ndarray, " B"]
  read: Int[np.ndarray, " B"]
  attended: Int[np.ndarray, " B"]
  guided: Int[np.ndarray, " B"]

  @property
  def work(self) -> Work:
    """What the rows took."""
    return Work(
      runs=self.runs,
      read=self.read,
      sampled=self.length + self.overhead,
      attended=self.attended,
      guided=self.guided,
    )

  def texts(self, policy: bundle_lib.Bundle) -> list[str]:
    """The texts, special tokens written out."""
    return [
      policy.tokenizer.decode(row[:n].tolist(), specials=True)
      for row, n in zip(self.tokens, self.length, strict=True)
    ]


class Think(Protocol):
  """What thinks: a `Thinker`, or several runs of some.

  Attributes:
    limit: most tokens of a row, answer included.
    beside: positions of the model that it needs beyond prompt and limit.
  """

  limit: int
  beside: int

  def most(self, prompt: int, limit: int | None = None) -> Work:
    """The most that a row with a prompt of so many tokens can take.

    Args:
      prompt: its tokens.
      limit: most tokens of the row; None for the thinker's own.
    """
    ...

  def __call__(
    self,
    prompts: Sequence[Sequence[int]],
    budgets: Num[np.ndarray, " _"],
    key: jax.Array,
    *,
    limits: Int[np.ndarray, " _"] | None = None,
    sampling: row_sampling.RowSampling | None = None,
  ) -> Thoughts:
    """Thinks about each prompt, and answers; see `Thinker`."""
    ...


def row_keys(key: jax.Array, rows: int) -> jax.Array:
  """One typed key a row: `fold_in(key, i)`, or the keys [B] that are given."""
  if key.ndim:
    return key
  return jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(rows))


def attended(
  tokens: Int[np.ndarray, " B"] | int,
) -> Int[np.ndarray, " B"] | int:
  """Positions that the first `tokens` tokens of a text attend to."""
  tokens = tokens if isinstance(tokens, int) else np.int64(tokens)
  return tokens * (tokens + 1) // 2
