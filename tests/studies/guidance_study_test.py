# SPDX-License-Identifier: Apache-2.0
"""The study of thinking policies, small, with the models that ship."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import guidance, thinking_policies
from jaxttc.models import config as config_lib
from jaxttc.models import gamma_length
from jaxttc.predictors import length_predictor
from jaxttc.studies import (
  guidance_bench,
  guidance_checks,
  guidance_claims,
  guidance_menu,
  guidance_report,
  guidance_study,
  line_law,
)
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
def discrete():
  return length_predictor.load("thinking_length_bins")


@pytest.fixture(scope="module")
def bench(policy):
  return guidance_bench.Bench(policy, _RECIPE.limit, _RECIPE.min_p)


@pytest.fixture(scope="module")
def items():
  return guidance_study.questions(_RECIPE, _RECIPE.items, "small")


@pytest.fixture(scope="module")
def natural(bench, items):
  return guidance_study.natural_lengths(bench, items, _RECIPE.limit)


def _menu(policy, predictor, discrete):
  never = lambda hidden: hidden[:, 0, 0] * 0.0  # noqa: E731
  return guidance_menu.policies(policy, predictor, discrete, never)


def _sweep(bench, made, items, natural):
  return guidance_study.sweep(bench, made, items, natural, _RECIPE.fractions, 0)


def test_natural_lengths_are_what_the_task_says(natural):
  for digits, length in natural.items():
    assert length == pytest.approx(7 * digits + 1, rel=0.2)


def test_guidance_is_far_ahead_of_a_cut_and_spends_no_more(
  policy, predictor, discrete, bench, items, natural
):
  menu = _menu(policy, predictor, discrete)
  cut, _ = _sweep(bench, menu["hard cap"]["end"], items, natural)
  made = menu[guidance_menu.GUIDED]["strength 4"]
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


def test_the_setting_that_was_right_most_often_is_chosen(bench, items, natural):
  end = bench.policy.tokenizer.end_think_id
  menu = {
    "never": thinking_policies.no_thinking(),
    "cut": thinking_policies.hard_cap(end=end),
  }
  chosen, right = guidance_study.choose(bench, menu, items, natural, (0.3, 1.5))
  assert chosen[1] == "cut" and right[1] > 0.9 > right[0]


def test_what_is_filtered_cannot_be_favoured(policy, bench, items, natural):
  words = policy.tokenizer

  def close(hidden, candidates, remaining):
    del hidden, remaining
    assert candidates is None
    far = jnp.where(jnp.arange(words.vocab_size) == words.end_think_id, 0, -50)
    return jnp.broadcast_to(jnp.float32(far), (len(items), words.vocab_size))

  made = thinking_policies.guided(
    close, end=words.end_think_id, lines=guidance.line_tokens(words)
  )
  budgets = guidance_study.budgets(items, natural, 2.0)
  assert not bench.ask(items, made, budgets, 0).early.any()
  bare = guidance_bench.Bench(policy, _RECIPE.limit)
  assert bare.ask(items, made, budgets, 0).early.all()


def test_a_text_is_judged_as_it_reads():
  asked = digit_sums.problem([3, 4])
  texts = [
    "So 3\nStep 4 3 7\n</think>#### 7\n",
    "So 3\n</think>#### 7\n",
    "So 3\nStep 4</think>#### 3\n",
  ]
  found = guidance_bench.tally(
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
  policy, predictor, discrete, bench, items
):
  mix = length_prediction.TraceMix(questions=thinking.DigitSumMix())
  for law in (predictor, discrete):
    found = guidance_checks.calibration(law, policy, mix, rows=4)
    assert found.nats < found.constant_nats
    assert -1e-6 <= found.pit.min() and found.pit.max() <= 1 + 1e-6
  full = thinking_policies.full()
  traces = bench.think(items, full, np.full(40, 64), 1).texts(policy)
  weights, bias = guidance_checks.fit_confidence(
    policy, items, bench.prompts(items, full), traces
  )
  assert weights.shape == (policy.config.width,) and np.isfinite(bias)


@pytest.mark.parametrize("bins", [0, 16])
def test_overhead_is_a_share(bins):
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
    bins=bins,
  )
  found = guidance_checks.overhead(
    shape, sizes, batch=2, line_starts=0.2, top_k=8, steps=4, repeats=1
  )
  assert 0 <= found.share < 1 and found.parameters > 50 * 16


_NAMES = (
  *("hard cap", "budget forcing", "prompt hint", "early exit"),
  guidance_menu.GUIDED,
  guidance_menu.EVERY,
  guidance_menu.NO_CAP,
  guidance_menu.BINS,
  guidance_menu.PLAIN,
  guidance_menu.EVERY_PLAIN,
  guidance_menu.BINS_PLAIN,
  guidance_menu.BINS_EVERY_PLAIN,
  guidance_menu.UNFILTERED,
)


@pytest.fixture(scope="module")
def made_up():
  """A study in which cuts fail at the tight budget, and nothing else does."""
  rng = np.random.default_rng(0)
  asked = guidance_study.questions(_RECIPE, 8, "report")
  runs = {}
  for name, fraction in [
    ("full", 0.0),
    *((n, f) for n in _NAMES for f in _RECIPE.fractions),
  ]:
    right = np.full((1, 8), name not in _NAMES[:2] or fraction > 1)
    spent = rng.integers(5, 9, (1, 8)) * (2 if name == "full" else 1)
    lines = np.full((1, 8), 4)
    concise = lines - 1 if fraction < 1 else lines - 3
    tally = guidance_bench.Tally(right, spent, lines, concise, ~right, ~right)
    runs[name, fraction] = guidance_study.Run(
      name, fraction, "", float(right.mean()), np.full(8, 17), tally
    )
  digits = np.array([item.steps for item in asked])
  return guidance_study.Found(asked, {}, runs, 7.0 * digits, None, None, None)


def test_a_report_claims_and_draws_what_was_found(tmp_path, made_up):
  rng = np.random.default_rng(1)
  calibrated = guidance_checks.Calibration(rng.random(50), 0.05, 1.0, 2.0)
  spent = guidance_checks.Overhead(1, 0, 10, 5, 1.0, 0.1, 0.02)
  checks = guidance_claims.Checks(
    1e-9, calibrated, calibrated, calibrated, (spent,)
  )
  study = guidance_report.report(_RECIPE, made_up, checks)
  claims = {claim.name: claim for claim in study.claims}
  assert claims["points_over_hard_cap"].value == 100
  assert claims["points_over_hard_cap_least"].value == 0
  share = claims["tokens_fraction_at_full_accuracy"]
  spent = made_up.cell(guidance_menu.GUIDED, 0.6).spent.sum()
  assert share.value == pytest.approx(spent / made_up.full.spent.sum())
  assert share.low <= share.value <= share.high and share.holds
  assert claims["points_below_full_there"].value == 0
  assert claims["accuracy_guided_at_0.6"].value == 1
  assert claims["difficulty_spearman"].value == pytest.approx(1)
  assert claims["concise_share_spearman"].value == pytest.approx(-1)
  assert claims["overhead_100m"].holds
  study.draw(tmp_path / "study.png")
  assert (tmp_path / "study.png").stat().st_size > 10_000
  assert guidance_report.table(made_up).row_count == 1 + 2 * len(_NAMES)


@pytest.mark.parametrize(
  ("tuned", "right", "budget"),
  [
    ((1.0, 1.0), (True, True), 0.6),
    ((0.9, 1.0), (True, True), 1.5),  # the tuning questions tell
    ((1.0, 1.0), (False, True), 1.5),  # and these have to agree
    ((1.0, 1.0), (False, False), 1.0),
  ],
)
def test_the_budget_that_loses_nothing_is_told_beforehand(
  made_up, tuned, right, budget
):
  runs = dict(made_up.runs)
  for fraction, known, fine in zip(
    _RECIPE.fractions, tuned, right, strict=True
  ):
    run = runs[guidance_menu.GUIDED, fraction]
    tally = run.tally._replace(right=np.full((1, 8), fine))
    runs[guidance_menu.GUIDED, fraction] = run._replace(
      tuned=known, tally=tally
    )
  calibrated = guidance_checks.Calibration(np.ones(9), 0.05, 1.0, 2.0)
  spent = guidance_checks.Overhead(1, 0, 10, 5, 1.0, 0.1, 0.02)
  claims = {
    claim.name: claim.value
    for claim in guidance_claims.claims(
      _RECIPE,
      made_up._replace(runs=runs),
      guidance_claims.Checks(1e-9, *[calibrated] * 3, (spent,)),
    )
  }
  assert claims["budget_fraction_at_full_accuracy"] == budget
  lost = (claims["tokens_fraction_at_full_accuracy"] == 1.0) != any(right)
  assert lost


def test_exact_chances_lose_at_line_starts_only(made_up):
  starts, strong, every = guidance_claims.exact_chances(made_up, 0.6)
  fit = np.array([3 * item.steps + 1 <= 17 for item in made_up.items])
  assert every["accuracy"] == pytest.approx(fit.mean())
  assert starts["accuracy"] < strong["accuracy"] <= every["accuracy"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"items": 0}, "items must be at least 1"),
    ({"seeds": (1, 1)}, "expected different ones"),
    ({"band": (0.3,)}, "expected some of the fractions"),
    ({"fractions": (0.6,)}, "generous is 1.3"),
    ({"least_digits": 5}, "least_digits 5"),
    ({"min_p": 1.0}, "min_p is 1.0"),
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
