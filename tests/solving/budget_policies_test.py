# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.predictors import answer_trust, routing
from jaxttc.solving import (
  budget_policies,
  cost_laws,
  loading,
  policy_cascades,
  solve_recipe,
)
from jaxttc.testing import tiny_models

_QUESTIONS = ("Add 1 and 2.", "Add 3, 4, 5 and 6.", "Who was that?")
_ARMS = (
  budget_policies.Arm("best_of_n(n=2)", 20),
  budget_policies.Arm("best_of_n(n=2)", 60),
  budget_policies.Arm("greedy", 30),
)


def policy(**changes):
  embed = routing.hashed_ngrams.fit(_QUESTIONS, bits=5, rank=2)
  x = embed(_QUESTIONS)
  key = jax.random.key(0)
  values = {
    "arms": _ARMS,
    "embed": embed,
    "success": routing.head("knn(k=1)")(x, np.eye(3), key),
    "share": routing.head("ridge")(x, np.full((3, 3), 0.5), key),
    "style": "terse",
    "sampling": solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    "models": {"": ("", "")},
    "origin": "three questions",
  }
  return budget_policies.BudgetPolicy(**{**values, **changes})


def test_a_policy_comes_back_from_its_file(tmp_path):
  made, path = policy(), tmp_path / "mine.npz"
  budget_policies.save(made, path)
  again = budget_policies.load(path)
  assert again.arms == made.arms
  assert again.sampling == made.sampling
  assert (again.style, again.origin) == (made.style, made.origin)
  for ours, theirs in zip(
    made.predict(_QUESTIONS), again.predict(_QUESTIONS), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  budget_policies.save(again, tmp_path / "twice.npz")
  assert (tmp_path / "twice.npz").read_bytes() == path.read_bytes()
  assert again.fingerprint == budget_policies.load(path).fingerprint
  other = dataclasses.replace(again, style="verbose")
  assert other.fingerprint != again.fingerprint


def _trust():
  return answer_trust.Trust(
    right=np.array([0.0, 1.0, 0.5, 0.0, 0.1]),
    rescue=np.linspace(-1, 1, 7),
    cost=np.array([0.1, 0.8, 0.0, 0.0]),
    spoil=np.array(0.02),
  )


def _more():
  """What older policies do not have."""
  return {
    "laws": cost_laws.CostLaws(
      ("verifier_calls", "flops"),
      np.zeros((3, 2)),
      np.ones((3, 2)),
      np.array([[3.0, 1e6], [9.0, 2e6], [1.0, 5e5]]),
    ),
    "cascade": policy_cascades.Cascade(
      _trust(), np.array([True, True, False]), 3, 0.1
    ),
  }


def test_laws_and_cascade_come_back_too(tmp_path):
  made, path = policy(**_more()), tmp_path / "mine.npz"
  budget_policies.save(made, path)
  again = budget_policies.load(path)
  assert again.fingerprint == made.fingerprint != policy().fingerprint
  assert again.laws.fields == made.laws.fields
  assert (again.cascade.tries, again.cascade.discount) == (3, 0.1)
  np.testing.assert_array_equal(again.cascade.looked, [True, True, False])
  for ours, theirs in zip(_trust(), again.cascade.model, strict=True):
    np.testing.assert_array_equal(ours, theirs)
  # Files of before say nothing of either.
  budget_policies.save(policy(), path)
  plain = budget_policies.load(path)
  assert plain.laws is None and plain.cascade is None


def test_an_arm_is_held_to_what_the_budget_limits():
  made = policy(**_more())
  assert made.limits(1, ("generated_tokens", "verifier_calls")).as_dict() == {
    "generated_tokens": 60,
    "verifier_calls": 9,
  }
  assert made.limits(2, ("flops",)).as_dict() == {
    "generated_tokens": 30,
    "flops": 5e5,
  }
  with pytest.raises(ValueError, match="knows nothing of flops"):
    policy().limits(0, ("flops",))


@pytest.mark.parametrize("part", ["laws", "cascade"])
def test_parts_of_other_arms_are_refused(part):
  with pytest.raises(ValueError, match=f"its {part} know 3 arms of 2"):
    policy(arms=_ARMS[:2], **{part: _more()[part]})


def test_forecasts_are_possible():
  huge = routing.Constant(jnp.array([7.0, -3.0, 0.5]))
  found = policy(success=huge, share=huge).predict(_QUESTIONS)
  np.testing.assert_array_equal(found.success[0], [1, 0, 0.5])
  np.testing.assert_array_equal(found.tokens[0], [20, 1, 15])


def test_arms_of_a_decoder_share_a_group():
  np.testing.assert_array_equal(policy().groups, [0, 0, 1])
  np.testing.assert_array_equal(policy().caps, [20, 60, 30])
  assert policy().arms[0].search == policy().arms[1].search
  assert policy().arms[1].label == "best_of_n, 60"


def test_the_one_that_ships_knows_the_models_that_ship():
  shipped = budget_policies.load("auto")
  shipped.check_models(
    {"": loading.load_models("arithmetic_lm", "arithmetic_prm")}
  )
  found = shipped.predict(
    [
      "Modulo 13: start at 9, times 6, add 5, add 2, minus 10.",
      "Use 7 2 12 3 9 4 11 6 8 5 2 in order with + - * to reach 90.",
    ]
  )
  assert found.success[0].max() > 0.7 > 0.4 > found.success[1].max()


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(arms=()), "at least one arm"),
    (dict(arms=_ARMS[:1] * 2), "two arms are the same"),
    (dict(arms=(budget_policies.Arm("greedy", 0),)), "has the cap 0"),
    (dict(arms=(budget_policies.Arm("gredy", 9),)), "did you mean 'greedy'"),
    (dict(success=None), "no predictor"),
  ],
)
def test_a_policy_that_cannot_be_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    policy(**change)


def test_unknown_and_damaged_files_are_named(tmp_path):
  with pytest.raises(ValueError, match="no policy named 'best' ships; .*auto"):
    budget_policies.load("best")
  with pytest.raises(ValueError, match="none.npz: no such file"):
    budget_policies.load(tmp_path / "none.npz")
  for name, content in (("text.npz", b"hello"), ("zip.npz", b"PK\x03\x04no")):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: is no policy"):
      budget_policies.load(tmp_path / name)
  np.savez(tmp_path / "other.npz", weights=np.zeros(3))
  with pytest.raises(ValueError, match="other.npz: is no policy") as caught:
    budget_policies.load(tmp_path / "other.npz")
  assert "\n" not in str(caught.value)
  (tmp_path / "file").write_text("")
  with pytest.raises(ValueError, match="cannot be written"):
    budget_policies.save(policy(), tmp_path / "file" / "mine.npz")


def test_other_models_are_refused():
  language, reward = tiny_models.tiny_bundles()
  marks = tuple(map(loading.weights_fingerprint, (language, reward)))
  fitted = policy(models={"": marks})
  fitted.check_models({"": (language, reward)})
  with pytest.raises(ValueError, match="fitted for the reward model .* none"):
    fitted.check_models({"": (language, None)})
  shipped = bundle_lib.load("arithmetic_lm")
  with pytest.raises(ValueError, match="fitted for the language model"):
    fitted.check_models({"": (shipped, reward)})
