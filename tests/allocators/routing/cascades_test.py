# SPDX-License-Identifier: Apache-2.0
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators.routing import cascades, choice
from jaxttc.evaluation import routing_curves
from jaxttc.tasks import routing as tasks


def _logged(rows=60, models=3, seed=0):
  rng = np.random.default_rng(seed)
  return cascades.log(
    rng.integers(0, 2, (rows, models)),
    np.tile([1.0, 3.0, 10.0, 30.0][:models], (rows, 1)) * rng.random((rows, 1)),
    rng.random((rows, models)),
  )


def _by_hand(logged, thresholds, cap, policy):
  """The cascade as its description reads, one question at a time."""
  out = []
  for scores, costs, trust in zip(*map(np.asarray, logged), strict=True):
    spent, best, asked = 0.0, None, 0
    for k in range(len(scores)):
      if best is not None and spent + costs[k] > cap:
        break
      spent, asked = spent + costs[k], asked + 1
      if best is None or trust[k] > trust[best] or policy == "last":
        best = k
      if trust[k] >= thresholds[k]:
        break
    out.append((scores[best], spent, asked))
  return np.array(out).T


@pytest.mark.parametrize("policy", ["last", "best"])
@pytest.mark.parametrize("cap", [np.inf, 5.0, 0.0])
def test_a_run_is_what_its_description_says(policy, cap):
  logged = _logged()
  thresholds = np.array([0.7, 0.5, -np.inf], np.float32)
  found = cascades.run(logged, thresholds, cap=cap, policy=policy)
  expected = _by_hand(logged, thresholds, cap, policy)
  np.testing.assert_array_equal(found.score, expected[0])
  np.testing.assert_allclose(found.cost, expected[1], rtol=1e-5)
  np.testing.assert_array_equal(found.asked, expected[2])


@pytest.mark.parametrize("models", [2, 3])
def test_thresholds_are_the_best_of_all_on_the_grid(models):
  logged = _logged(models=models)
  price = 0.05
  found = cascades.best_thresholds(logged, price, grid=4)
  menus = [
    [-np.inf, *np.quantile(np.asarray(c), np.linspace(0, 1, 4)), np.inf]
    for c in logged.confidence.T[:-1]
  ]

  def worth(row):
    score, cost, _ = _by_hand(logged, row, np.inf, "last")
    return (score - price * cost).mean()

  best = max(worth((*row, -np.inf)) for row in itertools.product(*menus))
  np.testing.assert_allclose(worth(found), best, atol=1e-5)


def test_four_models_are_improved_one_by_one():
  logged = _logged(models=4)
  found = cascades.best_thresholds(logged, 0.02, grid=5)
  outcome = cascades.run(logged, found)
  first = cascades.run(logged, np.full(4, -np.inf, np.float32))

  def worth(o):
    return float((o.score - 0.02 * o.cost).mean())

  assert found.shape == (4,) and worth(outcome) >= worth(first)


def test_the_advantage_over_routing_shrinks_with_the_judges_error():
  # Models 1, 3 and 5 of the latent-skill world, as the world's Bayes router.
  world = tasks.LatentSkill(spread=0.5)
  table, chance = world.draw(8000, seed=0)
  kept = [0, 2, 4]
  scores, costs, chance = (
    a[:, kept] for a in (table.scores, table.costs, chance)
  )
  prices = routing_curves.prices(costs, 128)
  picked = choice.sweep(routing_curves.oracle(chance, costs), prices)
  curve = routing_curves.curve(picked, scores, costs, prices)
  front = routing_curves.hull(curve.cost, curve.score)
  ahead = []
  for number, error in enumerate((0.0, 0.1, 0.4)):
    key = jax.random.fold_in(jax.random.key(0), number)
    trust = cascades.noisy_judge(scores == 1, error, key)
    logged = cascades.log(scores, costs, trust)
    outcome = cascades.run(logged, np.array([0.5, 0.5, -np.inf], np.float32))
    ahead.append(
      float(outcome.score.mean()) - front.at(float(outcome.cost.mean()))
    )
  assert ahead[0] > 0.05 and ahead[0] > ahead[1] > ahead[2] and ahead[2] < 0


def test_models_are_asked_by_cost_or_as_told():
  scores = np.array([[1.0, 0.0]])
  costs = np.array([[9.0, 2.0]])
  assert cascades.log(scores, costs, scores).costs[0, 0] == 2
  assert cascades.log(scores, costs, scores, order=[0, 1]).costs[0, 0] == 9


def test_confidence_from_agreement_and_log_probabilities():
  answers = jnp.array([[[3, 3, 1, -1], [-1, -1, -1, -1]]])
  np.testing.assert_allclose(cascades.agreement(answers), [[0.5, 0.0]])
  logprobs = jnp.array([[[-1.0, -3.0], [-1.0, -1.0]]])
  present = jnp.array([[[True, False], [False, False]]])
  found = cascades.mean_logprob(logprobs, present)
  np.testing.assert_array_equal(found, [[-1.0, -np.inf]])


def test_bad_input_is_refused():
  ones = np.ones((3, 2))
  with pytest.raises(ValueError, match="one shape"):
    cascades.log(ones, ones, np.ones((3, 3)))
  with pytest.raises(ValueError, match="finite"):
    cascades.log(ones * np.nan, ones, ones)
  with pytest.raises(ValueError, match="twice"):
    cascades.log(ones, ones, ones, order=[1, 1])
  with pytest.raises(ValueError, match="price >= 0"):
    cascades.best_thresholds(_logged(), -1.0)
  with pytest.raises(ValueError, match="error in"):
    cascades.noisy_judge(ones == 1, 1.5, jax.random.key(0))


def test_the_best_cascade_leaves_out_a_model_that_does_not_pay():
  rng = np.random.default_rng(3)
  n = 200
  right = rng.random((n, 3)) < [0.5, 0.05, 0.95]
  costs = np.tile([1.0, 5.0, 10.0], (n, 1))
  trust = np.where(right, 0.6, 0.4) + rng.normal(0, 0.02, (n, 3))
  logged = cascades.log(right.astype(float), costs, trust)
  price = 0.03
  best = cascades.best_cascade(logged, price, grid=5)
  assert best.models == (0, 2)
  outcome = best.run(logged)
  worth = float(np.mean(outcome.score - price * outcome.cost))
  assert worth == pytest.approx(best.worth, abs=1e-6)
  # No list does better with any thresholds of the grid.
  quantiles = np.quantile(trust.astype(np.float32), np.linspace(0, 1, 5), 0)
  menus = [[-np.inf, *column, np.inf] for column in quantiles.T]
  for models in [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
    part = cascades.log(
      right[:, models].astype(float), costs[:, models], trust[:, models]
    )
    for limits in itertools.product(*(menus[m] for m in models[:-1])):
      found = cascades.run(part, np.array([*limits, -np.inf], np.float32))
      other = float(np.mean(found.score - price * found.cost))
      assert other <= best.worth + 1e-5
  dear = cascades.best_cascade(logged, 1.0, grid=5)
  assert dear.models == (0,)
  assert cascades.best_cascade(logged, 0.0, longest=1).models == (2,)
  with pytest.raises(ValueError, match="longest >= 1"):
    cascades.best_cascade(logged, 0.1, longest=0)
