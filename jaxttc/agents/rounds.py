# SPDX-License-Identifier: Apache-2.0
"""Reasoning in rounds, each going on from a summary of those before it.

Reference:
  Yan et al. (2025), InftyThink: Breaking the Length Limits of Long-Context
  Reasoning in Large Language Models, arXiv:2503.06692.
"""

from collections.abc import Callable, Generator
from typing import NamedTuple

from jaxttc.runtime import programs


class Rounds(NamedTuple):
  """What came of it.

  Attributes:
    answer: "" if no round gave one.
    summaries: after each round but the last.
    texts: of the rounds.
  """

  answer: str
  summaries: tuple[str, ...]
  texts: tuple[str, ...]


def reason(
  problem: str,
  answer: Callable[[str], str | None],
  *,
  rounds: int = 8,
  round_limit: int = 2048,
  summary_limit: int = 256,
  model: str = "policy",
) -> Generator[programs.Ask, programs.Replies, Rounds]:
  """A program that reasons until a round holds an answer.

  Args:
    problem: to solve.
    answer: text -> its answer, None for none.
    rounds: most of them.
    round_limit: most tokens of a round.
    summary_limit: most tokens of a summary.
    model: who is asked.

  Raises:
    ValueError: if a number is below 1.
    programs.GaveUp: if a round or a summary was lost, or not paid for.
  """
  sizes = {
    "rounds": rounds,
    "round_limit": round_limit,
    "summary_limit": summary_limit,
  }
  for name, size in sizes.items():
    if size < 1:
      raise ValueError(f"{name} is {size}; expected at least 1")
  summaries: list[str] = []
  texts: list[str] = []
  for number in range(rounds):
    so_far = f"\nWhat is known so far:\n{summaries[-1]}\n" if summaries else ""
    prompt = f"{problem}\n{so_far}\nReason on, and answer when you can.\n"
    (reply,) = yield programs.Ask(prompt, round_limit, 1, model, "round")
    _require(reply, f"round {number + 1}")
    texts.append(reply.text)
    found = answer(reply.text)
    if found is not None:
      return Rounds(found, tuple(summaries), tuple(texts))
    if number + 1 < rounds:
      (summary,) = yield programs.Ask(
        f"{prompt}{reply.text}\n\nSum up what is known so far.\n",
        summary_limit,
        1,
        model,
        "summary",
      )
      _require(summary, f"summary {number + 1}")
      summaries.append(summary.text.strip())
  return Rounds("", tuple(summaries), tuple(texts))


def _require(reply: programs.Reply, what: str) -> None:
  if reply.error:
    raise programs.GaveUp(f"{what}: {reply.error}")
