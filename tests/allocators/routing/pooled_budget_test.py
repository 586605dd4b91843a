# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import routing
from jaxttc.cost import budget as budget_lib


def _forecast(seed, rows=12, arms=5):
  rng = np.random.default_rng(seed)
  return rng.random((rows, arms)), rng.uniform(1, 50, (rows, arms))


def _run(pool, spend):
  """Runs a pool; `spend` says what an arm costs on a question."""
  waves = []
  while (wave := pool.ask()) is not None:
    waves.append(wave)
    for question, arm in zip(wave.questions, wave.arms, strict=True):
      pool.tell(question, spend(question, arm))
  return waves


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
  seed=st.integers(0, 10_000),
  amount=st.integers(0, 3000),
  wave=st.integers(1, 40),
  lies=st.floats(0.01, 4),
)
def test_never_overspends_whatever_the_forecasts_say(seed, amount, wave, lies):
  rng = np.random.default_rng(seed)
  score, cost = _forecast(seed, rows=20, arms=4)
  caps = rng.integers(1, 200, 4)
  pool = routing.Pool(
    score, cost * lies, caps, [0, 0, 1, 1], amount=amount, wave=wave
  )
  # The worst case: every arm costs its cap, half of the time.
  waves = _run(
    pool, lambda q, arm: int(caps[arm]) if q % 2 else int(caps[arm] // 3)
  )
  assert pool.spent.sum() <= amount
  assert pool.left == amount - pool.spent.sum()
  tried = np.concatenate([w.questions for w in waves] or [np.zeros(0, int)])
  assert len(set(tried.tolist())) == len(tried)
  assert (pool.spent[pool.arms < 0] == 0).all()
  for asked in waves:
    assert len(asked.questions) <= wave
    assert len({0 if arm < 2 else 1 for arm in asked.arms}) == 1
  # Whoever was left out could not be paid for at the end.
  if (pool.arms < 0).any():
    assert (caps > pool.left).any() or (cost * lies > pool.left).any()


def test_what_a_wave_leaves_is_planned_anew():
  score = np.tile([[0.5, 0.9]], (8, 1))
  cost = np.tile([[10.0, 40.0]], (8, 1))
  caps = np.array([10, 40])
  thrifty = routing.Pool(score, cost, caps, [0, 0], amount=120, wave=1)
  _run(thrifty, lambda question, arm: 5)
  greedy = routing.Pool(score, cost, caps, [0, 0], amount=120, wave=1)
  _run(greedy, lambda question, arm: int(caps[arm]))
  assert (thrifty.arms == 1).sum() > (greedy.arms == 1).sum()
  assert greedy.spent.sum() <= 120 and (greedy.arms >= 0).all()


def test_the_last_questions_get_cheaper_arms_or_none():
  score = np.tile([[0.1, 0.9]], (3, 1))
  cost = np.tile([[9.0, 10.0]], (3, 1))
  pool = routing.Pool(score, cost, [30, 100], [0, 1], amount=250, wave=8)
  _run(pool, lambda question, arm: [30, 100][arm])
  np.testing.assert_array_equal(pool.arms, [1, 1, 0])
  pool = routing.Pool(score, cost, [30, 100], [0, 1], amount=205, wave=8)
  _run(pool, lambda question, arm: [30, 100][arm])
  np.testing.assert_array_equal(pool.arms, [1, 1, -1])


def test_the_next_rung_is_the_best_use_of_more():
  score = np.array([[0.2, 0.5, 0.9], [0.9, 0.1, 0.2]])
  cost = np.array([[10.0, 20.0, 60.0], [10.0, 20.0, 60.0]])
  pool = routing.Pool(score, cost, [10, 20, 60], [0, 0, 0], amount=30, wave=2)
  _run(pool, lambda question, arm: 10)
  np.testing.assert_array_equal(pool.arms, [1, 0])
  rung = pool.next_rung(0)
  assert (rung.below, rung.arm) == (1, 2)
  np.testing.assert_allclose([rung.gain, rung.cost], [0.4, 40.0])
  assert pool.next_rung(1) is None


def test_waves_must_be_told_and_caps_kept():
  pool = routing.Pool(*_forecast(0), [60] * 5, [0] * 5, amount=1000, wave=2)
  wave = pool.ask()
  with pytest.raises(ValueError, match="2 questions of the last wave"):
    pool.ask()
  with pytest.raises(ValueError, match="expected 0 to 60, the cap"):
    pool.tell(int(wave.questions[0]), 61)
  other = next(q for q in range(12) if q not in wave.questions)
  with pytest.raises(ValueError, match=f"question {other} was not asked"):
    pool.tell(other, 1)


def test_gains_compete_with_first_attempts():
  score = np.array([[0.9, 0.0], [0.5, 0.0], [0.1, 0.0]])
  cost = np.tile([[10.0, 20.0]], (3, 1))
  pool = routing.Pool(score, cost, [10, 20], [0, 0], amount=40, wave=1)
  assert pool.ask().questions.tolist() == [0]
  pool.tell(0, 10, np.array([0.0, 0.6]))
  assert pool.open(0) and pool.next_rung(0).gain == 0.6
  # Worth 0.03 a token: less than the second question's, more than the last's.
  asked = [pool.ask() for _ in range(1)]
  assert asked[0].questions.tolist() == [0] and asked[0].arms.tolist() == [1]
  pool.tell(0, 20)
  assert not pool.open(0)
  assert pool.ask().questions.tolist() == [1]
  pool.tell(1, 10, np.array([0.0, -0.2]))
  assert not pool.open(1) and pool.ask() is None
  np.testing.assert_array_equal(pool.attempts, [2, 1, 0])
  np.testing.assert_array_equal(pool.spent, [30, 10, 0])


def test_gains_must_be_of_the_arms():
  pool = routing.Pool(*_forecast(0), [60] * 5, [0] * 5, amount=1000, wave=2)
  first, second = pool.ask().questions
  with pytest.raises(ValueError, match="2 gains for 5 arms"):
    pool.tell(first, 1, np.ones(2))
  with pytest.raises(ValueError, match="finite gains and positive costs"):
    pool.tell(second, 1, np.full(5, np.inf))


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(amount=-1), "whole number >= 0, got -1"),
    (dict(amount=1.5), "whole number >= 0, got 1.5"),
    (dict(wave=0), "wave must be at least 1"),
    (dict(caps=[0, 1]), "positive costs and caps"),
    (dict(caps=[1]), "a cap an arm"),
    (dict(groups=[0]), "1 groups for 2 arms"),
    (dict(score=np.full((2, 2), np.nan)), "finite scores"),
    (dict(cost=np.zeros((2, 2))), "positive costs"),
    (dict(score=np.ones(2)), "scores and costs"),
    (dict(amount=budget_lib.Budget()), "the budget limits nothing"),
    (
      dict(amount=budget_lib.Budget(generated_tokens=9, flops=1.0)),
      "each of 2 limited fields",
    ),
  ],
)
def test_bad_input_is_refused(change, message):
  values = dict(
    score=np.ones((2, 2)),
    cost=np.ones((2, 2)),
    caps=[1, 1],
    groups=[0, 0],
    amount=5,
    wave=1,
  )
  values |= change
  score, cost, caps, groups = (
    values.pop(name) for name in ("score", "cost", "caps", "groups")
  )
  with pytest.raises(ValueError, match=message):
    routing.Pool(score, cost, caps, groups, **values)
