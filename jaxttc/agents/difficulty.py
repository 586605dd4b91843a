# SPDX-License-Identifier: Apache-2.0
"""How hard a step is, from 0 to 1: by asking a model, or by looking at one.

A scorer is a function of a step's query, as the fast mode would be asked it,
that returns a program; what the program returns is the difficulty. Scores of
above 0.5 are meant to say that answering at once will likely fail.

Reference:
  Xiao et al. (2025), SCALE (`rating`). The others are ours.
"""

from collections.abc import Callable, Generator, Sequence
import math
import re

import numpy as np

from jaxttc.runtime import programs

Scoring = Generator[programs.Ask | programs.Measure, programs.Replies, float]
Scorer = Callable[[str], Scoring]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


class RatingError(programs.GaveUp):
  """No difficulty could be had, however often a model was asked."""


def rating_prompt(query: str) -> str:
  """Asks for a difficulty; `read_rating` reads the answer."""
  return (
    f"{query}\n\nDo not answer this. How hard is the last step, from 0 to 1?"
    " Below 0.5: a schoolchild who knows the facts does it quickly. Above 0.5:"
    " even a good student must think long, or may fail. Answer with the number"
    " only.\n"
  )


def read_rating(text: str) -> float:
  """The number that a text consists of.

  Raises:
    ValueError: if it is not one bare number from 0 to 1.
  """
  bare = text.strip()
  if not _NUMBER.fullmatch(bare) or not 0 <= float(bare) <= 1:
    raise ValueError(f"expected a number from 0 to 1, got {bare[:40]!r}")
  return float(bare)


def rating(model: str = "policy", tries: int = 5, limit: int = 64) -> Scorer:
  """A model's own rating, asked again until it is a number from 0 to 1.

  Args:
    model: who is asked.
    tries: asks before `RatingError`.
    limit: most tokens of an answer.

  Raises:
    ValueError: if `tries` is below 1.
  """
  if tries < 1:
    raise ValueError(f"tries is {tries}; expected at least 1")

  def score(query: str) -> Scoring:
    why = ""
    for _ in range(tries):
      (reply,) = yield programs.Ask(
        rating_prompt(query), limit, 1, model, "rating"
      )
      try:
        return read_rating(reply.text)
      except ValueError as error:
        why = reply.error or str(error)
    raise RatingError(f"no difficulty after {tries} tries: {why}")

  return score


def disagreement(
  content: Callable[[str], str | None],
  *,
  samples: int = 4,
  limit: int = 64,
  model: str = "policy",
) -> Scorer:
  """Entropy of the fast mode's answers, as a share of the largest possible.

  Args:
    content: completion -> its answer, None for none; each sample without one
      is an answer of its own.
    samples: drawn; their tokens are spent.
    limit: most tokens of a sample.
    model: the fast one.

  Raises:
    ValueError: if there are fewer than 2 samples; the program raises
      `RatingError` if fewer than 2 of them come.
  """
  if samples < 2:
    raise ValueError(f"samples is {samples}; expected at least 2")

  def score(query: str) -> Scoring:
    replies = yield programs.Ask(query, limit, samples, model, "rating")
    got = [reply for reply in replies if not reply.error]
    if len(got) < 2:
      why = next(reply.error for reply in replies if reply.error)
      raise RatingError(f"{len(got)} of {samples} samples to compare: {why}")
    found = [content(reply.text) for reply in got]
    named = [a if a is not None else f"\0{i}" for i, a in enumerate(found)]
    counts = np.unique(named, return_counts=True)[1]
    shares = counts / len(named)
    entropy = float(-(shares * np.log(shares)).sum())
    return min(max(entropy / math.log(len(named)), 0.0), 1.0)

  return score


def probe(gauge: str = "probe") -> Scorer:
  """A difficulty read off a model's state, without a token sampled.

  Reading the query is paid for, and queries of many programs are read at once.

  Args:
    gauge: which; such as a `predictors.step_failure.Gauge`.
  """

  def score(query: str) -> Scoring:
    (reply,) = yield programs.Measure(query, gauge, "rating")
    if reply.value is None:
      raise RatingError(f"no difficulty was measured: {reply.error}")
    return reply.value

  return score


def computed(measure: Callable[[str], float]) -> Scorer:
  """A difficulty that a function of the query tells, at no cost.

  Args:
    measure: query -> difficulty, without a model.
  """

  def score(query: str) -> Scoring:
    return float(measure(query))
    yield  # makes this a generator

  return score


def known(difficulties: Sequence[float]) -> Scorer:
  """Difficulties told beforehand, step by step: an oracle, or a constant.

  Args:
    difficulties: of the steps in order; the last goes on for ever. A scorer
      serves one plan.

  Raises:
    ValueError: if there are none.
  """
  if not difficulties:
    raise ValueError("expected at least one difficulty")
  left = list(difficulties)[::-1]

  def score(query: str) -> Scoring:
    del query
    return float(left.pop() if len(left) > 1 else left[0])
    yield  # makes this a generator

  return score
