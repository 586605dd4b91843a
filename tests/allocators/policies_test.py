# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs

_FIELDS = ("generated_tokens", "verifier_calls", "flops")


def _budget(values):
  kinds = (int, int, float)
  return budget_lib.Budget(
    **{n: k(v) for n, k, v in zip(_FIELDS, kinds, values, strict=True)}
  )


def _cost(values):
  kinds = (int, int, float)
  return costs.Cost(
    **{n: k(v) for n, k, v in zip(_FIELDS, kinds, values, strict=True)}
  )


def _policy(caps, score, cost, decode, **stages):
  return policies.compose(
    caps,
    caps[:, 0].astype(int),
    np.arange(len(caps)) // 2,
    route=lambda questions: policies.Forecast(score, cost),
    decode=decode,
    **stages,
  )


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
  seed=st.integers(0, 10_000),
  scale=st.floats(0, 6),
  wave=st.integers(1, 20),
  lies=st.floats(0.05, 3),
)
def test_no_field_is_overspent_whatever_the_stages_say(seed, scale, wave, lies):
  """Wrong forecasts, full caps, and answers asked again and again."""
  rng = np.random.default_rng(seed)
  caps = rng.integers(1, 60, (4, 3)).astype(float)
  score = rng.random((12, 4))
  cost = np.maximum(caps * rng.uniform(0.1, 1, (12, 4, 3)) * lies, 1e-3)
  limits = np.floor(scale * rng.uniform(0.2, 2, 3) * caps.mean(0))

  def decode(attempts):
    for place in rng.permutation(len(attempts)):
      most = caps[attempts[place].arm]
      spent = most if rng.random() < 0.5 else np.floor(most * rng.random(3))
      yield policies.Outcome(int(place), _cost(spent), None)

  def verify(place, attempt, outcome, before):
    if len(before) > 3 or rng.random() < 0.3:
      return policies.Verdict(rng.random())
    again = rng.uniform(-0.5, 1, 4)
    return policies.Verdict(rng.random(), again, cost[place] * 0.5)

  run = policies.Run(
    _policy(caps, score, cost, decode, verify=verify),
    range(12),
    _budget(limits),
    wave=wave,
  )
  seen = list(run)
  used = run.pool.meter.spent
  for name, limit in zip(_FIELDS, limits, strict=True):
    assert getattr(used, name) <= limit
    told = sum(
      getattr(one.outcome.cost, name) for tried in run.tried for one in tried
    )
    assert told == pytest.approx(getattr(used, name))
  assert len(seen) == sum(map(len, run.tried)) == run.pool.attempts.sum()
  for question, tried in enumerate(run.tried):
    assert [one.attempt.number for one in tried] == list(range(len(tried)))
    best = run.best(question)
    if tried:
      assert best.verdict.trust == max(one.verdict.trust for one in tried)
    else:
      assert best is None


def test_a_scarce_field_is_dear():
  """Arms that spend what there is plenty of are bought."""
  caps = np.array([[50.0, 2.0], [10.0, 8.0]])
  score, cost = np.full((6, 2), 0.5), np.tile(caps, (6, 1, 1))

  def decode(attempts):
    for place, attempt in enumerate(attempts):
      tokens, calls = map(int, caps[attempt.arm])
      yield policies.Outcome(
        place, costs.Cost(generated_tokens=tokens, verifier_calls=calls), None
      )

  def arms(tokens, calls):
    run = policies.Run(
      policies.compose(
        caps,
        caps[:, 0].astype(int),
        [0, 1],
        route=lambda _: policies.Forecast(score, cost),
        decode=decode,
      ),
      range(6),
      budget_lib.Budget(generated_tokens=tokens, verifier_calls=calls),
    )
    list(run)
    return run.pool.arms

  np.testing.assert_array_equal(arms(1000, 12), np.zeros(6))
  np.testing.assert_array_equal(arms(60, 1000), np.ones(6))
  assert (arms(60, 12) >= 0).sum() < 6


def test_a_doubtful_answer_is_asked_again_and_the_most_trusted_counts():
  caps = np.array([[10.0], [40.0]])
  score = np.tile([0.6, 0.6], (3, 1))
  cost = np.tile([[9.0], [38.0]], (3, 1, 1))
  asked = []

  def decode(attempts):
    asked.extend(attempts)
    for place, attempt in enumerate(attempts):
      yield policies.Outcome(
        place, costs.Cost(generated_tokens=int(caps[attempt.arm, 0])), attempt
      )

  def verify(place, attempt, outcome, before):
    if attempt.number:
      return policies.Verdict(0.9 if place == 1 else 0.05)
    sure = place == 0
    return policies.Verdict(
      0.99 if sure else 0.1, None if sure else np.array([0.0, 0.5])
    )

  run = policies.Run(
    _policy(caps, score, cost, decode, verify=verify),
    "abc",
    budget_lib.Budget(generated_tokens=110),
    wave=8,
  )
  order = list(run)
  assert order[:3] == [0, 1, 2] and sorted(order[3:]) == [1, 2]
  assert [len(tried) for tried in run.tried] == [1, 2, 2]
  assert [(a.arm, a.number) for a in asked] == [(0, 0)] * 3 + [(1, 1)] * 2
  assert run.best(1).attempt.arm == 1 and run.best(2).attempt.arm == 0
  assert not run.open(0) and not run.open(1)
  assert run.pool.spent.ravel().tolist() == [10, 50, 50]


def test_what_money_cannot_buy_again_stays_open():
  caps, score = np.array([[10.0]]), np.ones((1, 1))

  def decode(attempts):
    for place in range(len(attempts)):
      yield policies.Outcome(place, costs.Cost(generated_tokens=10), None)

  run = policies.Run(
    _policy(
      caps,
      score,
      np.full((1, 1, 1), 9.0),
      decode,
      verify=lambda *_: policies.Verdict(0.1, np.array([0.5])),
    ),
    "a",
    budget_lib.Budget(generated_tokens=25),
  )
  assert list(run) == [0, 0] and run.open(0)
  assert run.pool.next_rung(0).gain == 0.5


@pytest.mark.parametrize("shares", [(), (9, 9), (-1, 5)])
def test_a_plan_must_keep_to_the_cap(shares):
  run = policies.Run(
    _policy(
      np.array([[10.0]]),
      np.ones((1, 1)),
      np.ones((1, 1, 1)),
      lambda attempts: (),
      plan=lambda question, tokens: shares,
    ),
    "a",
    budget_lib.Budget(generated_tokens=25),
  )
  with pytest.raises(ValueError, match="plan gives question 0"):
    list(run)


def test_arms_must_agree():
  with pytest.raises(ValueError, match="caps of 2 arms, tokens of 1"):
    policies.compose(
      np.ones((2, 1)), [1], [0, 0], route=len, decode=lambda attempts: ()
    )
  run = policies.Run(
    _policy(
      np.array([[10.0]]),
      np.ones((1, 1)),
      np.ones((1, 1, 1)),
      lambda attempts: [
        policies.Outcome(0, costs.Cost(generated_tokens=11), None)
      ],
    ),
    "a",
    budget_lib.Budget(generated_tokens=25),
  )
  with pytest.raises(ValueError, match="cost 11 generated_tokens, expected 0"):
    list(run)
