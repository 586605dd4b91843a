# SPDX-License-Identifier: Apache-2.0
"""The study of thinking policies, small, with the models that ship."""

import dataclasses

import numpy as np
import pytest

from jaxttc.evaluation import (
  guidance_checks,
  guidance_report,
  guidance_study,
  line_law,
)
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import thinking_policies
from jaxttc.models import config as config_lib
from jaxttc.models import gamma_length
from jaxttc.predictors import length_predictor
from jaxttc.tasks import digit_sums
from jaxttc.training import length_prediction, thinking

_RECIPE = guidance_study.GuidanceStudyRecipe(
  items=40,
  tuning=40,
  seeds=(0,),
  fractions=(0.6, 1.5),
  band=(0.6,),
  resamples=20,
)


@pytest.fixture(scope="module")
def policy():
  return bundle_lib.load("thinking_lm")


@pytest.fixture(scope="module")
def predictor():
  return length_predictor.load("thinking_length")


@pytest.fixture(scope="module")
def bench(policy):
  return guidance_study.Bench(policy, _RECIPE.limit)


@pytest.fixture(scope="module")
def items():
  return guidance_study.questions(_RECIPE, _RECIPE.items, "small")


@pytest.fixture(scope="module")
def natural(bench, items):
  return guidance_study.natural_lengths(bench, items, _RECIPE.limit)


def _menu(policy, predictor):
  never = lambda hidden: hidden[:, 0, 0] * 0.0  # noqa: E731
  return guidance_study.policies(policy, predictor, never)


def _sweep(bench, made, items, natural):
  return guidance_study.sweep(bench, made, items, natural, _RECIPE.fractions, 0)


def test_natural_lengths_are_what_the_task_says(natural):
  for digits, length in natural.items():
    assert length == pytest.approx(7 * digits + 1, rel=0.2)


def test_guidance_is_far_ahead_of_a_cut_and_spends_no_more(
  policy, predictor, bench, items, natural
):
  menu = _menu(policy, predictor)
  cut, _ = _sweep(bench, menu["hard cap"]["end"], items, natural)
  made = menu[guidance_study.GUIDED]["strength 4"]
  guided, generous = _sweep(bench, made, items, natural)
  given = guidance_study.budgets(items, natural, 0.6)
  assert guided.right.mean() > cut.right.mean() + 0.3
  assert generous.right.mean() > 0.9
  for found in (cut, guided):
    assert (found.spent <= given).all()
  # This is how: lines get shorter.
  concise = lambda t: t.concise.sum() / t.lines.sum()  # noqa: E731
  assert concise(guided) > 2 * concise(generous)
  assert guided.cut.mean() < cut.cut.mean()


def test_a_text_is_judged_as_it_reads():
  asked = digit_sums.problem([3, 4])
  texts = [
    "So 3\nStep 4 3 7\n</think>#### 7\n",
    "So 3\n</think>#### 7\n",
    "So 3\nStep 4</think>#### 3\n",
  ]
  found = guidance_study.tally(
    [asked] * 3,
    texts,
    np.array([9, 4, 6]),
    np.array([20, 20, 6]),
    thinking_policies.full(),
  )
  np.testing.assert_array_equal(found.right, [True, True, False])
  np.testing.assert_array_equal(found.lines, [2, 1, 1])
  np.testing.assert_array_equal(found.concise, [1, 1, 1])
  np.testing.assert_array_equal(found.early, [False, True, False])
  np.testing.assert_array_equal(found.cut, [False, False, True])


def test_calibration_and_probe_are_better_than_nothing(
  policy, predictor, bench, items
):
  mix = length_prediction.TraceMix(questions=thinking.DigitSumMix())
  found = guidance_checks.calibration(predictor, policy, mix, rows=4)
  assert found.nats < found.constant_nats
  assert 0 <= found.pit.min() and found.pit.max() <= 1
  full = thinking_policies.full()
  traces = bench.think(items, full, np.full(40, 64), 1).texts(policy)
  weights, bias = guidance_checks.fit_confidence(
    policy, items, bench.prompts(items, full), traces
  )
  assert weights.shape == (policy.config.width,) and np.isfinite(bias)


def test_overhead_is_a_share():
  shape = config_lib.TransformerConfig(
    vocab_size=50,
    width=16,
    layers=1,
    heads=2,
    kv_heads=2,
    head_dim=8,
    mlp_width=32,
    max_length=128,
  )
  sizes = gamma_length.LengthPredictorConfig(
    vocab_size=50,
    hidden_width=16,
    hidden_states=2,
    width=8,
    heads=1,
    head="embedding",
  )
  found = guidance_checks.overhead(
    shape, sizes, batch=2, line_starts=0.2, top_k=8, steps=4, repeats=1
  )
  assert 0 <= found.share < 1 and found.parameters > 50 * 16


def test_a_report_claims_and_draws_what_was_found(tmp_path):
  rng = np.random.default_rng(0)
  asked = guidance_study.questions(_RECIPE, 8, "report")
  names = [
    *("hard cap", "budget forcing", "prompt hint", "early exit"),
    *(guidance_study.GUIDED, guidance_study.EVERY, guidance_study.PLAIN),
  ]
  runs = {}
  for name, fraction in [
    ("full", 0.0),
    *((n, f) for n in names for f in _RECIPE.fractions),
  ]:
    right = np.full((1, 8), name not in names[:2] or fraction > 1)
    spent = rng.integers(5, 9, (1, 8)) * (2 if name == "full" else 1)
    tally = guidance_study.Tally(
      right, spent, spent // 3, spent // 6, ~right, ~right
    )
    runs[name, fraction] = guidance_study.Run(
      name, fraction, "", np.full(8, 9), tally
    )
  digits = np.array([item.steps for item in asked])
  found = guidance_study.Found(asked, {}, runs, 7.0 * digits, None, None)
  calibrated = guidance_checks.Calibration(rng.random(50), 0.05, 1.0, 2.0)
  spent = guidance_checks.Overhead(1, 10, 5, 1.0, 0.1, 0.02)
  checks = guidance_report.Checks(1e-9, calibrated, calibrated, (spent,))
  study = guidance_report.report(_RECIPE, found, checks)
  claims = {claim.name: claim for claim in study.claims}
  assert claims["points_over_hard_cap"].value == 100
  assert claims["points_over_hard_cap_least"].value == 0
  assert claims["tokens_fraction_at_full_accuracy"].value < 0.63
  assert claims["difficulty_spearman"].value == pytest.approx(1)
  assert claims["overhead_100m"].holds
  study.draw(tmp_path / "study.png")
  assert (tmp_path / "study.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"items": 0}, "items must be at least 1"),
    ({"seeds": (1, 1)}, "expected different ones"),
    ({"band": (0.3,)}, "expected some of the fractions"),
    ({"fractions": (0.6,)}, "generous is 1.3"),
    ({"least_digits": 5}, "least_digits 5"),
  ],
)
def test_recipes_that_cannot_be_run(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(_RECIPE, **changes).check()


def test_unknown_lengths_are_refused():
  asked = [digit_sums.problem([1, 2, 3])]
  with pytest.raises(ValueError, match="no natural length of \\[3\\] digits"):
    guidance_study.budgets(asked, {2: 15.0}, 0.5)
  assert line_law.LineLaw().mean == pytest.approx(7)
