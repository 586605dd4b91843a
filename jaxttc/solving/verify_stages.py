# SPDX-License-Identifier: Apache-2.0
"""Verify stages by name, for composed policies: is an answer let be?

  accept()                          every answer is
  unfinished(tries=4)               one that came to no end is asked again
  doubt(sure, settled, tries)       one that its own search makes doubtful, too

A stage is made for the arms of a policy and says, of each answer, how far it is
trusted and what each arm would add (`allocators.policies.Verify`). What a
further try is worth is a rule of thumb, and no forecast:
(1 - trust) / 2^(1 + t) after t tries of the arm's rank. Ranks are asked in
order: a try may go on to a later one, never back to an earlier one; one whose
answer would be the same again is not asked twice.

`STAGES` may be added to: a stage that asks a model says what its looks cost at
most (`Stage.most`), which is added to the arms' caps, and what each did cost
(`policies.Verdict.spent`).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from scipy import special

from jaxttc.allocators import policies
from jaxttc.cost import costs
from jaxttc.evaluation import looks
from jaxttc.runtime import search as search_lib
from jaxttc.solving import call_text
from jaxttc.tasks import problems as problems_lib

_STAND_IN = 0.5  # worth a token of an arm that stands in for a wider one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arms:
  """What a stage is told of the arms that it looks after.

  Attributes:
    ranks: of the K arms, rising from 0: those of one rank are one way to
      answer, with several caps.
    caps: of the arms, generated tokens.
    repeats: whether asking an arm again may bring another answer.
    rewarded: whether a reward model scores an arm's answers.
    voting: whether an arm draws several answers that may agree.
    engines: the models, by name.
    models: of each arm.
    problems: that are asked, by the places that attempts name.
  """

  ranks: Sequence[int]
  caps: Sequence[int]
  repeats: Sequence[bool]
  rewarded: Sequence[bool]
  voting: Sequence[bool]
  engines: Mapping[str, Any]
  models: Sequence[str]
  problems: Sequence[problems_lib.Problem]


@dataclasses.dataclass(frozen=True)
class Stage:
  """A verify stage.

  Attributes:
    verify: looks at an answer.
    most: what one look costs at most; nothing by default.
  """

  verify: policies.Verify
  most: costs.Cost = costs.Cost()


def trusted(result: search_lib.SearchResult, rewarded: bool) -> float:
  """How far an answer is trusted, by what its search shows alone.

  Args:
    result: of the search.
    rewarded: whether a reward model scored its solutions.

  Returns:
    In [0, 1]: the reward of the answer; without rewards the chance that the
    answer of most votes is the model's commonest, P(p1 > p2) = 1 -
    I_{1/2}(n1 + 1, n2 + 1) (Aggarwal et al., 2023, arXiv:2305.11860). 0 if
    there is no answer.
  """
  seen = looks.look(result)
  if not seen.answered:
    return 0.0
  if rewarded:
    return float(np.clip(seen.reward, 0.0, 1.0))
  answers = result.tree.answer[result.tree.finished()]
  chosen = result.tree.answer[result.tree.chosen]
  first = int((answers == chosen).sum()) if chosen >= 0 else 0
  others = answers[(answers >= 0) & (answers != chosen)]
  second = int(np.bincount(others).max()) if others.size else 0
  return float(1.0 - special.betainc(first + 1.0, second + 1.0, 0.5))


def accept(arms: Arms) -> Stage:
  """Every answer is taken."""
  del arms
  return Stage(policies.accept)


def unfinished(arms: Arms, *, tries: int = 4) -> Stage:
  """Answers are taken; a question without one is asked again.

  Raises:
    ValueError: if there are fewer tries than 1.
  """
  _check_tries(tries)

  def verify(place, attempt, outcome, before):
    del place
    found = outcome.result
    trust = float(found.completion is not None and found.stop != "length")
    return _verdict(arms, attempt, before, trust, 1.0, tries)

  return Stage(verify)


def doubt(
  arms: Arms, *, sure: float = 0.95, settled: float = 0.8, tries: int = 8
) -> Stage:
  """Doubtful answers are asked again.

  Args:
    arms: those that it looks after.
    sure: an answer of such a reward is let be, in (0, 1].
    settled: one of such votes, likewise. What neither a reward nor votes speak
      of is let be if it came to its end.
    tries: most tries of a question.

  Raises:
    ValueError: naming what is out of range.
  """
  for name, value in (("sure", sure), ("settled", settled)):
    if not 0 < value <= 1:
      raise ValueError(f"verify: {name} is {value}; expected more than 0, to 1")
  _check_tries(tries)

  def verify(place, attempt, outcome, before):
    del place
    found, arm = outcome.result, attempt.arm
    if arms.rewarded[arm] or arms.voting[arm]:
      trust = trusted(found, arms.rewarded[arm])
      enough = sure if arms.rewarded[arm] else settled
    else:
      trust, enough = float(bool(looks.look(found).answered)), 1.0
    return _verdict(arms, attempt, before, trust, enough, tries)

  return Stage(verify)


STAGES: dict[str, Callable[..., Stage]] = {
  "accept": accept,
  "unfinished": unfinished,
  "doubt": doubt,
}


def parse(text: str) -> tuple[str, dict[str, Any]]:
  """A stage's name and arguments.

  Raises:
    ValueError: if the text is malformed, or a name or an argument is unknown
      (the nearest is named) or of another type.
  """
  name, said = call_text.parse(text, "verify", "doubt(sure=0.9)")
  return name, call_text.checked(name, said, STAGES, "verify stage")


def make(text: str, arms: Arms) -> Stage:
  """The stage that a text names, for some arms.

  Raises:
    ValueError: as `parse`, or if a value cannot be.
  """
  name, arguments = parse(text)
  return STAGES[name](arms, **arguments)


def _check_tries(tries: int) -> None:
  if tries < 1:
    raise ValueError(f"verify: tries is {tries}; expected at least 1")


def _verdict(
  arms: Arms,
  attempt: policies.Attempt,
  before: Sequence[policies.Tried],
  trust: float,
  enough: float,
  tries: int,
) -> policies.Verdict:
  """What further tries add to the most trusted answer so far."""
  gains = np.zeros(len(arms.ranks))
  best = max([trust, *(one.verdict.trust for one in before)])
  if best >= enough or attempt.number + 1 >= tries:
    return policies.Verdict(trust, gains)
  asked = [arms.ranks[one.attempt.arm] for one in before]
  asked.append(arms.ranks[attempt.arm])
  for rank in range(max(asked), max(arms.ranks) + 1):
    of_rank = [arm for arm, one in enumerate(arms.ranks) if one == rank]
    if rank in asked and not arms.repeats[of_rank[0]]:
      continue
    # No answer yet: the cap was too small for the model.
    wide = trust == 0.0 and rank == asked[-1]
    usual = (
      max(of_rank, key=lambda a: (arms.caps[a], a)) if wide else of_rank[0]
    )
    worth = (1 - best) / 2 ** (1 + asked.count(rank))
    gains += stand_ins(arms, of_rank, usual, worth)
  return policies.Verdict(trust, gains)


def stand_ins(
  arms: Arms, of_rank: Sequence[int], usual: int, worth: float
) -> np.ndarray:
  """f64[K], what the arms of a rank are worth, of which one is to be asked.

  Those of narrower caps are worth less a token, so that they are asked where
  the usual one cannot be paid for, and only there.

  Args:
    arms: all of them.
    of_rank: those of the rank.
    usual: the one to be asked.
    worth: of that one.
  """
  gains = np.zeros(len(arms.ranks))
  for arm in of_rank:
    share = arms.caps[arm] / arms.caps[usual]
    gains[arm] = _STAND_IN * worth * share if share < 1 else 0.0
  gains[usual] = worth
  return gains
