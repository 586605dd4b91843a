# SPDX-License-Identifier: Apache-2.0
"""The verify stage of budget policies: look at an answer, maybe ask again.

A first try's answer is looked at: how the reward model scores it, how many of
the solutions agree, what it took (`looks`). From that `predictors.answer_trust`
says how likely it is right, and what each arm would add; the pool buys a
further try where that is worth its price.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Bool, Float
import numpy as np

from jaxttc.allocators import policies
from jaxttc.predictors import answer_trust


class Cascade(NamedTuple):
  """How answers are looked at.

  Attributes:
    model: of trust, and of what further tries add.
    looked: bool[K], the arms that it was fitted to; others are neither looked
      at nor asked a second time.
    tries: most tries of a question.
    discount: what a gain that is forecast of a further try counts for, beside
      one of a first try, in (0, 1]. The best of many gains is forecast too
      high; and money spent on first tries is better known.
  """

  model: answer_trust.Trust
  looked: Bool[np.ndarray, " K"]
  tries: int
  discount: float


# What an attempt showed: an outcome -> its look.
LookOf = Callable[[policies.Attempt, policies.Outcome], answer_trust.Look]


def verify(
  cascades: Sequence[Cascade | None],
  success: Float[np.ndarray, "n K"],
  tokens: Float[np.ndarray, "n K"],
  caps: np.ndarray,
  look_of: LookOf,
  costs_of: Callable[[np.ndarray], np.ndarray],
) -> policies.Verify:
  """The verify stage of a policy, for n questions.

  Args:
    cascades: how to look at each question's answers; None takes any.
    success: forecast chances of each arm.
    tokens: forecast tokens.
    caps: i64[K].
    look_of: what an attempt showed.
    costs_of: expected tokens f64[1, K] -> costs f64[1, K, F].
  """

  def decide(
    place: int,
    attempt: policies.Attempt,
    outcome: policies.Outcome,
    before: Sequence[policies.Tried],
  ) -> policies.Verdict:
    cascade = cascades[place]
    if cascade is None or not cascade.looked[attempt.arm]:
      return policies.Verdict(float(success[place, attempt.arm]))
    tries = [
      _try(one.attempt, one.outcome, success[place], caps, look_of)
      for one in before
    ]
    tries.append(_try(attempt, outcome, success[place], caps, look_of))
    trust = float(answer_trust.trust(cascade.model, tries[-1])[0])
    if attempt.number + 1 >= cascade.tries:
      return policies.Verdict(trust, np.zeros(len(caps)))
    known = answer_trust.after(cascade.model, tries)
    gains = answer_trust.gains(cascade.model, known, success[place][None])[0]
    share = answer_trust.shares(
      cascade.model, known, (tokens[place] / caps)[None]
    )
    gains = np.where(cascade.looked, cascade.discount * gains, 0.0)
    return policies.Verdict(trust, gains, costs_of(share * caps)[0])

  return decide


def _try(attempt, outcome, success, caps, look_of) -> answer_trust.Tries:
  taken = outcome.cost.generated_tokens / caps[attempt.arm]
  return answer_trust.Tries(
    np.array([success[attempt.arm]]),
    np.array([look_of(attempt, outcome)], float),
    np.array([float(taken)]),
  )


def pack(cascade: Cascade) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """What a cascade is, for JSON, and its arrays by name."""
  about = {"tries": cascade.tries, "discount": cascade.discount}
  arrays = answer_trust.pack(cascade.model)
  return about, arrays | {"looked": np.asarray(cascade.looked)}


def unpack(
  about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> Cascade:
  """Inverse of `pack`.

  Raises:
    KeyError: if a part is missing.
  """
  return Cascade(
    answer_trust.unpack(arrays),
    np.asarray(arrays["looked"], bool),
    int(about["tries"]),
    float(about["discount"]),
  )
