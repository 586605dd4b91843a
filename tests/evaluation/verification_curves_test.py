# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import verification_curves as curves
from jaxttc.evaluation import verification_estimators as solved
from jaxttc.evaluation import verification_pools as pools

_COSTS = solve_or_verify.SplitCosts.of_ratio(1.0)


def _world(problems=20, n=16, most=4, good=0.9, seed=0):
  rng = np.random.default_rng(seed)
  p = rng.uniform(0.2, 0.7, (problems, 1))
  right = rng.random((problems, n)) < p
  answers = np.where(right, 0, rng.integers(1, 4, (problems, n)))
  accept = np.where(right, good, 1 - good)[..., None]
  scores = (rng.random((problems, n, most)) < accept).astype(float)
  ids = tuple(map(str, range(problems)))
  pool = pools.SolutionPool(
    ids=ids, answers=answers, correct=right, tokens=np.ones((problems, n), int)
  )
  verified = pools.VerificationPool(
    ids=ids, scores=scores, tokens=np.ones(scores.shape, int)
  )
  return pool, verified


def test_a_surface_averages_blocks_of_verifications():
  pool, verified = _world()
  found = curves.sr_surface(pool, verified, [1, 4, 16], [1, 2, 4])
  single = pool.correct.mean(1)
  np.testing.assert_allclose(found.values[:, 0], np.stack([single] * 3, 1))
  by_block = [
    solved.best_of_n(pool, verified.scores[..., v : v + 2].mean(-1), 4)
    for v in (0, 2)
  ]
  np.testing.assert_allclose(
    found.values[:, 1, 1], np.mean([b.by_problem for b in by_block], 0)
  )
  whole = solved.best_of_n(pool, verified.scores.mean(-1), 16)
  np.testing.assert_allclose(found.values[:, 2, 2], whole.by_problem)


def test_a_weighted_surface_of_constant_scores_is_the_vote():
  pool, verified = _world()
  alike = pools.VerificationPool(
    ids=pool.ids,
    scores=np.ones_like(verified.scores),
    tokens=verified.tokens,
  )
  found = curves.sr_surface(pool, alike, [1, 4], [1], method="weighted_sc")
  for a, k in enumerate((1, 4)):
    exact = solved.self_consistency(pool, k).value
    assert found.values[:, a, 0].mean() == pytest.approx(exact, abs=0.03)


def test_curves_are_matched_in_compute_and_chosen_elsewhere():
  pool, verified = _world(problems=40)
  voted = curves.votes(pool, [1, 2, 4, 8, 16])
  surface = curves.sr_surface(pool, verified, [1, 2, 4, 8], [1, 2, 4])
  choose, told = np.arange(20), np.arange(20, 40)
  points = curves.compute_matched_curves(
    [1, 4, 16], _COSTS, voted, surface, choose, told
  )
  for point in points:
    s, v = point.split
    assert _COSTS.solutions_worth(s, v) <= point.budget
    vote = voted.values[told][:, [1, 2, 4, 8, 16].index(int(point.budget))]
    np.testing.assert_allclose(point.vote, vote)
  assert points[0].split == (1, 0)
  np.testing.assert_allclose(points[0].verified, pool.correct[told].mean(1))
  # Exhaustive search over the grid, on the choosing half.
  best = max(
    surface.values[choose][:, a, b].mean()
    for a, b in surface.affordable(16, _COSTS)
  )
  s, v = points[2].split
  a, b = [1, 2, 4, 8].index(s), [1, 2, 4].index(v)
  assert surface.values[choose][:, a, b].mean() == best


def test_a_random_verifier_is_worth_a_single_solution():
  pool, verified = _world(problems=400, n=12, good=0.5)
  surface = curves.sr_surface(pool, verified, [1, 4, 12], [1, 4])
  single = pool.correct.mean()
  assert np.abs(surface.values.mean(0) - single).max() < 0.03


def test_the_ratio_of_two_curves():
  x = np.array([1.0, 2, 4, 8, 16, 32])
  vote = np.array([0.3, 0.3, 0.4, 0.5, 0.55, 0.55])
  verified = np.array([0.3, 0.3, 0.3, 0.4, 0.56, 0.7])
  found = curves.match_ratio(x, vote, verified)
  assert found.smallest == 1.0  # at 32 the vote gains nothing more
  assert found.largest == 2.0
  assert found.at_best_vote == 1.0  # it has 0.55 at 16 already
  assert found.crossover == 16
  assert "ahead from 16" in found.text
  late = curves.match_ratio(x, vote, np.array([0.3, 0.3, 0.3, 0.4, 0.4, 0.55]))
  assert late.at_best_vote == 2.0
  assert (late.smallest, late.largest) == (2.0, 4.0)
  assert late.crossover is None
  assert "2 times its compute, never ahead" in late.text
  never = curves.match_ratio(x, vote, np.full(6, 0.3))
  assert never == (None, None, None, None)
  assert never.text == "verifying never matches the best vote"


def test_a_crossing_that_does_not_last_is_none():
  x = np.array([1.0, 2, 4])
  found = curves.match_ratio(
    x, np.array([0.3, 0.4, 0.6]), np.array([0.3, 0.5, 0.5])
  )
  assert found.crossover is None


def test_advice_follows_the_verifier():
  for good, choice in ((0.98, "verify"), (0.5, "solve")):
    pool, verified = _world(problems=60, good=good)
    voted = curves.votes(pool, [1, 2, 4, 8, 16])
    surface = curves.sr_surface(pool, verified, [1, 2, 4, 8, 16], [1, 2, 4])
    found = curves.advise(16, _COSTS, voted, surface)
    assert found.choice == choice
    assert (found.split.verifications > 0) == (choice == "verify")
    assert found.gain.low <= found.gain.value <= found.gain.high
    model = curves.measured_model(_COSTS, voted, surface)
    split = solve_or_verify.allocate(16, model)
    assert (split.verifications > 0) == (choice == "verify")


def test_the_measured_model_agrees_with_the_grid():
  pool, verified = _world()
  voted = curves.votes(pool, [1, 2, 4, 8])
  surface = curves.sr_surface(pool, verified, [1, 2, 4, 8], [1, 2, 4])
  model = curves.measured_model(_COSTS, voted, surface)
  s, v = np.meshgrid([1, 2, 4, 8], [1, 2, 4], indexing="ij")
  np.testing.assert_allclose(
    model.success(s.ravel(), v.ravel()), surface.values.mean(0).ravel()
  )
  np.testing.assert_allclose(
    model.success(np.array([1, 8]), np.array([0, 0])),
    voted.values.mean(0)[[0, 3]],
  )


def test_bad_grids_and_pools_are_refused():
  pool, verified = _world()
  with pytest.raises(ValueError, match="rising numbers from 1"):
    curves.sr_surface(pool, verified, [2, 1], [1])
  with pytest.raises(ValueError, match=r"k must lie in \[1, 16\]"):
    curves.sr_surface(pool, verified, [1, 32], [1])
  with pytest.raises(ValueError, match=r"V must lie in \[1, 4\]"):
    curves.sr_surface(pool, verified, [1], [8])
  with pytest.raises(ValueError, match="method 'beam'"):
    curves.sr_surface(pool, verified, [1], [1], method="beam")
  other, _ = _world(problems=10)
  with pytest.raises(ValueError, match="mixed pools"):
    curves.sr_surface(other, verified, [1], [1])
  voted = curves.votes(pool, [1, 2])
  surface = curves.sr_surface(pool, verified, [1], [1])
  everyone = np.arange(20)
  with pytest.raises(ValueError, match="does not pay for one"):
    curves.compute_matched_curves(
      [0.5], _COSTS, voted, surface, everyone, everyone
    )
  with pytest.raises(ValueError, match="0 problems to choose on"):
    curves.compute_matched_curves(
      [1], _COSTS, voted, surface, everyone[:0], everyone
    )
  with pytest.raises(ValueError, match="three arrays of one length"):
    curves.match_ratio(np.ones(2), np.ones(3), np.ones(2))
  with pytest.raises(ValueError, match="rising"):
    curves.match_ratio(np.ones(2), np.ones(2), np.ones(2))
