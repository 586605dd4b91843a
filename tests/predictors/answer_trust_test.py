# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.predictors import answer_trust


def _world(seed=0, questions=400, seeds=3):
  """Questions of known hardness, two arms, a reward that tells a little."""
  rng = np.random.default_rng(seed)
  hard = rng.random(questions)
  chance = np.stack([1 - hard, 1 - hard**2], 1)
  right = (rng.random((seeds, questions, 2)) < chance).astype(float)
  answered = rng.random(right.shape) < 0.9
  right *= answered
  logit = 2.0 * (2 * right - 1) + rng.normal(0, 2, right.shape)
  seen = np.stack(
    [
      answered / (1 + np.exp(-logit)),
      answered * 1.0,
      answered * 1.0,
      answered * 1.0,
    ],
    -1,
  )
  taken = np.clip(
    0.3 + 0.5 * hard[:, None] + rng.normal(0, 0.05, right.shape), 0, 1
  )
  forecast = np.clip(chance + rng.normal(0, 0.1, chance.shape), 0.02, 0.98)
  share = np.full(chance.shape, 0.55)
  return right, taken, seen, forecast, share


@pytest.fixture(scope="module", name="model")
def _model():
  return answer_trust.fit(*_world())


def _tries(world, seed, arm):
  right, taken, seen, forecast, _ = world
  return right[seed, :, arm], answer_trust.Tries(
    forecast[:, arm], seen[seed, :, arm], taken[seed, :, arm]
  )


def test_trust_is_calibrated_on_other_questions(model):
  right, tries = _tries(_world(1, questions=2000), 0, 0)
  trust = answer_trust.trust(model, tries)
  assert (trust[tries.seen[:, 3] == 0] == 0).all()
  for low, high in ((0, 0.2), (0.2, 0.8), (0.8, 1.01)):
    part = (trust >= low) & (trust < high)
    assert part.sum() > 30
    assert right[part].mean() == pytest.approx(trust[part].mean(), abs=0.06)


def test_gains_are_what_a_further_try_adds(model):
  """Mean forecast of the gain against what the most trusted answer gains."""
  world = _world(2)
  first, tries = _tries(world, 0, 0)
  known = answer_trust.after(model, [tries])
  gains = answer_trust.gains(model, known, world[3])[:, 1]
  second, again = _tries(world, 1, 1)
  better = answer_trust.trust(model, again) > known.trust
  added = np.where(better, second, first) - first
  for part in (known.trust < 0.3, known.trust > 0.7):
    assert gains[part].mean() == pytest.approx(added[part].mean(), abs=0.07)
  # A failure that was not expected says that the question is hard.
  unsure = known.trust < 0.3
  assert gains[unsure].mean() < world[3][unsure, 1].mean()


def test_more_failures_leave_less_to_hope_for(model):
  _, one = _tries(_world(3), 0, 0)
  _, two = _tries(_world(3), 1, 0)
  forecast = np.full((400, 1), 0.5)
  once = answer_trust.after(model, [one])
  twice = answer_trust.after(model, [one, two])
  lost = (once.trust < 0.1) & (twice.trust < 0.1)
  less = answer_trust.gains(model, twice, forecast)[lost].mean()
  assert less < answer_trust.gains(model, once, forecast)[lost].mean()


def test_expected_shares_are_shares(model):
  world = _world(4)
  _, tries = _tries(world, 0, 0)
  known = answer_trust.after(model, [tries])
  found = answer_trust.shares(model, known, world[4])
  assert (found > 0).all() and (found <= 1).all()
  # What took long once takes long again.
  assert np.corrcoef(found[:, 1], world[1][1, :, 1])[0, 1] > 0.5


def test_packed_models_are_the_same(model):
  again = answer_trust.unpack(answer_trust.pack(model))
  for ours, theirs in zip(model, again, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  with pytest.raises(KeyError):
    answer_trust.unpack({})


def test_what_cannot_be_learnt_from_is_refused():
  right, taken, seen, forecast, share = _world()
  with pytest.raises(ValueError, match="at least 2 seeds"):
    answer_trust.fit(right[:1], taken[:1], seen[:1], forecast, share)
  with pytest.raises(ValueError, match="right and wrong"):
    answer_trust.fit(np.zeros_like(right), taken, seen, forecast, share)
