# SPDX-License-Identifier: Apache-2.0
"""Early exit on trial answers: stop thinking once an answer would be sure.

Source: Yang et al. 2025, DEER. At each place where a thought may turn, the
model is made to answer at once, greedily; the geometric mean of the
probabilities of that answer's tokens is its confidence. From a threshold on,
the span is closed and the answer written; else the trial is forgotten and the
thought goes on.

The paper looks where the model writes "Wait"; here it is wherever a step ends
(`Bundle.stop_rule`): a line of this library's models, a paragraph of published
ones. Every trial token is counted (`Thoughts.overhead`), and so is what the
runs read again: nothing is kept between them.
"""

from collections.abc import Sequence

import jax
from jaxtyping import Float, Int, Num
import numpy as np

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  generation,
  guidance,
  row_sampling,
  thinking_policies,
  thinking_span,
  thoughts,
)
from jaxttc.inference import thinker as thinker_lib

_ENDS = ("}", "\n")  # of a trial answer


class TrialExit:
  """A thinker that tries answers, and closes its span when one is sure.

  Attributes:
    limit: most tokens of a row, trials aside.
    beside: tokens of a trial, what asks for it included.
    trial_tokens: most tokens of a trial answer.
  """

  def __init__(
    self,
    policy: bundle_lib.Bundle,
    *,
    threshold: float,
    limit: int,
    sampler: controllers.Sampler | None = None,
    trial_tokens: int = 20,
  ) -> None:
    """Builds the programs.

    Args:
      policy: the language model, on one device.
      threshold: confidence from which the span is closed, in (0, 1].
      limit: most tokens a row may write.
      sampler: how tokens are drawn; trials are greedy.
      trial_tokens: most tokens of a trial answer.

    Raises:
      ValueError: for a number out of range, or as `thinker_lib.Thinker`.
    """
    thinking_policies.check_threshold(threshold)
    self.limit, self.trial_tokens = limit, trial_tokens
    self._policy, self._threshold = policy, threshold
    end = thinking_span.end_id(policy.tokenizer)
    capped = lambda budgets: guidance.cap(budgets, end=end)  # noqa: E731
    free = lambda budgets: controllers.identity()  # noqa: E731
    self._thought = thinker_lib.Thinker(
      policy, capped, limit=limit, sampler=sampler, until=generation.STEP
    )
    self._answer = thinker_lib.Thinker(
      policy, free, limit=limit, sampler=sampler, thinks=False
    )
    self._trial = thinker_lib.Thinker(
      policy,
      free,
      limit=trial_tokens,
      until=generation.STEP,
      draw=lambda keys, logits: controllers.greedy(logits),
      thinks=False,
    )
    self._asked = thinking_span.trial(policy.tokenizer)
    self.beside = len(self._asked) + trial_tokens

  def most(self, prompt: int, limit: int | None = None) -> thoughts.Work:
    """The most that a row can take; see `thoughts.Think`.

    A bound, and far off: a trial after every token.
    """
    limit = self.limit if limit is None else limit
    longest = prompt + limit + self.beside
    runs = 2 * limit + 1
    return thoughts.Work(
      runs=runs,
      read=runs * longest,
      sampled=limit * (1 + self.trial_tokens),
      attended=runs * thoughts.attended(longest),
      guided=0,
    )

  def __call__(
    self,
    prompts: Sequence[Sequence[int]],
    budgets: Num[np.ndarray, " _"],
    key: jax.Array,
    *,
    limits: Int[np.ndarray, " _"] | None = None,
    sampling: row_sampling.RowSampling | None = None,
  ) -> thoughts.Thoughts:
    """Thinks about each prompt, and answers; see `thinker_lib.Thinker`."""
    guidance.check_budget(budgets)
    if limits is None:
      limits = np.full(len(prompts), self.limit)
    longest = max(map(len, prompts), default=0)
    most = int(np.max(limits, initial=0))
    room = self._policy.config.max_length
    if longest + most + self.beside > room:
      raise ValueError(
        f"prompts of {longest} tokens, limit={most} and trials of "
        f"{self.beside} tokens exceed the model's {room}"
      )
    rows = _Rows(prompts, budgets, key, sampling, limits)
    turn = 0
    while thinking := rows.where("thinking"):
      rows.write(self._thought, thinking, turn)
      if trying := rows.where("thinking"):
        sure = self._confidence(rows, trying) >= self._threshold
        for i in np.asarray(trying)[sure]:
          rows.close(int(i), self._thought.end)
      turn += 1
    while left := rows.where("answering"):
      rows.write(self._answer, left, turn)
      turn += 1
    return rows.thoughts()

  def _confidence(
    self, rows: "_Rows", which: Sequence[int]
  ) -> Float[np.ndarray, " N"]:
    """Of a trial answer of each row; what it takes is noted there."""
    texts = [[*rows.text(i), *self._asked] for i in which]
    size = _padded(len(texts))
    tokens, logprobs = self._trial.scores(
      [texts[i % len(texts)] for i in range(size)], jax.random.key(0)
    )
    found = []
    for i, text, row, scores in zip(
      which, texts, tokens, logprobs, strict=False
    ):
      written = int((row >= 0).sum())
      rows.count(i, len(text), written, overhead=True)
      shown = [self._policy.tokenizer.decode([int(t)]) for t in row[:written]]
      ends = (
        k for k, piece in enumerate(shown) if any(e in piece for e in _ENDS)
      )
      answer = scores[: next(ends, written)]
      found.append(np.exp(answer.mean()) if answer.size else 0.0)
    return np.array(found, np.float64)


class _Rows:
  """What the rows have written so far, and what that took; on the host."""

  def __init__(self, prompts, budgets, key, sampling, limits):
    rows = len(prompts)
    self._prompts = [list(prompt) for prompt in prompts]
    self._budgets = np.asarray(budgets, np.int32)
    if self._budgets.shape != (rows,):
      raise ValueError(
        f"budgets of shape {self._budgets.shape} for {rows} prompts"
      )
    self._keys = thoughts.row_keys(key, rows)
    self._sampling, self._limits = sampling, np.asarray(limits, np.int32)
    self._written: list[list[int]] = [[] for _ in prompts]
    self._spent: list[int | None] = [None] * rows  # None while thinking
    self._finish = ["unfinished"] * rows
    self._finished = np.zeros(rows, bool)
    self._overhead = np.zeros(rows, np.int32)
    self._runs = np.zeros(rows, np.int32)
    self._read = np.zeros(rows, np.int32)
    self._attended = np.zeros(rows, np.int64)

  def where(self, doing: str) -> list[int]:
    """Rows that are "thinking", or "answering", and may write on."""
    thinking = doing == "thinking"
    return [
      i
      for i, tokens in enumerate(self._written)
      if not self._finished[i]
      and len(tokens) < self._limits[i]
      and (self._spent[i] is None) == thinking
    ]

  def text(self, row: int) -> list[int]:
    return [*self._prompts[row], *self._written[row]]

  def count(self, row: int, read: int, sampled: int, overhead=False) -> None:
    self._runs[row] += 1
    self._read[row] += read
    self._attended[row] += thoughts.attended(read + sampled - 1)
    self._overhead[row] += sampled * overhead

  def close(self, row: int, end: int) -> None:
    """Closes a span whose trial was sure."""
    self._written[row].append(end)
    self._spent[row], self._finish[row] = len(self._written[row]), "early_exit"

  def write(
    self, thinker: thinker_lib.Thinker, rows: Sequence[int], turn: int
  ) -> None:
    """Has some rows written on, each to where the thinker stops."""
    size = _padded(len(rows))
    which = np.resize(rows, size)
    used = np.array([len(self._written[i]) for i in which], np.int32)
    found = thinker(
      [self.text(int(i)) for i in which],
      np.maximum(self._budgets[which] - used, 1),
      jax.vmap(jax.random.fold_in, (0, None))(self._keys[which], turn),
      limits=self._limits[which] - used,
      sampling=jax.tree.map(lambda x: x[which], self._sampling),
    )
    for k, i in enumerate(rows):
      self.count(i, int(found.read[k]), int(found.length[k]))
      length = int(found.length[k])
      if self._spent[i] is None and found.closed[k]:
        self._spent[i] = int(used[k] + found.spent[k])
        self._finish[i] = found.finish[k]
      self._written[i] += found.tokens[k, :length].tolist()
      self._finished[i] = found.finished[k]
      if not length:  # nothing could be drawn
        self._finished[i] = True

  def thoughts(self) -> thoughts.Thoughts:
    """All that was written."""
    length = np.array(list(map(len, self._written)), np.int32)
    tokens = np.full((len(length), int(self._limits.max())), -1, np.int32)
    for row, written in zip(tokens, self._written, strict=True):
      row[: len(written)] = written
    closed = np.array([spent is not None for spent in self._spent])
    spent = np.array(
      [
        len(w) if s is None else s
        for w, s in zip(self._written, self._spent, strict=True)
      ],
      np.int32,
    )
    return thoughts.Thoughts(
      tokens=tokens,
      length=length,
      spent=spent,
      closed=closed,
      finish=tuple(self._finish),
      finished=self._finished,
      overhead=self._overhead,
      runs=self._runs,
      read=self._read,
      attended=self._attended,
      guided=0 * length,
    )


def _padded(rows: int) -> int:
  """A power of two, so that few numbers of rows are compiled for."""
  return 1 << (rows - 1).bit_length()
