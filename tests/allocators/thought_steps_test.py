# SPDX-License-Identifier: Apache-2.0
"""Steps kept within their caps by guidance, on the model that thinks."""

import numpy as np
import pytest

from jaxttc.allocators import executors, plans, thought_steps
from jaxttc.inference import bundle, controllers
from jaxttc.solving import thinking_text
from jaxttc.tasks import digit_sums
from jaxttc.tasks import problems as problems_lib

_SUMS = [([3, 4], [5, 6, 7]), ([1, 2, 9], [8, 8]), ([7, 7, 7], [4, 0, 2])]
_PLANS = [
  plans.Plan(
    steps=tuple(digit_sums.problem(digits).text for digits in sums),
    credits=tuple(100 * len(digits) / sum(map(len, sums)) for digits in sums),
  )
  for sums in _SUMS
]


@pytest.fixture(scope="module", name="policy")
def _policy():
  return bundle.load("thinking_lm")


@pytest.fixture(scope="module", name="think")
def _think(policy):
  return thinking_text.build(
    "guided", policy, limit=40, sampler=controllers.Sampler(min_p=0.01)
  ).think


def _done(policy, think, which, shares, rule="none"):
  decode = thought_steps.ThoughtSteps(
    think, policy, [f"plan {i}" for i in which], answer_tokens=4
  )
  return executors.carry_out_together(
    [
      executors.sequential(
        "sums",
        _PLANS[i],
        share,
        rule,
        prompt=lambda at, before, i=i: _PLANS[i].steps[at] + "\n",
      )
      for i, share in zip(which, shares, strict=True)
    ],
    decode,
  )


def test_thoughts_end_within_their_shares(policy, think):
  shares = [plan.split(34, "constant") for plan in _PLANS]
  found = _done(policy, think, range(3), shares)
  right = 0
  for sums, done, share in zip(_SUMS, found, shares, strict=True):
    assert (np.array(done.tokens) <= share).all()
    right += sum(
      finished and problems_lib.find_answer(text) == str(sum(digits) % 10)
      for digits, text, finished in zip(
        sums, done.texts, done.finished, strict=True
      )
    )
  assert right >= 5
  # What a plan samples does not depend on those beside it.
  (alone,) = _done(policy, think, [1], shares[1:2])
  assert alone == found[1]


def test_a_share_without_room_for_a_thought_is_not_decoded(policy, think):
  (found,) = _done(policy, think, [0], [(4, 12)])
  assert found.tokens[0] == 0 and not found.finished[0]
  assert found.finished[1]
  # Rolled over, it is of use to the step after.
  (rolled,) = _done(policy, think, [0], [(4, 12)], "next")
  assert 0 < rolled.tokens[1] <= 16


@pytest.mark.parametrize(
  "names, answer, message",
  [
    (("a", "a"), 4, "two plans have one name"),
    (("a", "b"), 0, "answer_tokens is 0; expected 1..39"),
    (("a", "b"), 40, "answer_tokens is 40"),
  ],
)
def test_what_cannot_be_is_refused(policy, think, names, answer, message):
  with pytest.raises(ValueError, match=message):
    thought_steps.ThoughtSteps(think, policy, names, answer_tokens=answer)
