# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.allocators.routing import rungs
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  comparing,
  policy_fitting,
  policy_replay,
  problem_sets,
  solve_recipe,
)
from jaxttc.studies import policy_claims, policy_folds, policy_study

_KINDS = ("Add the numbers {} and {}.", "Which opera, {} or {}, is longer?")
_ARMS = tuple(
  budget_policies.Arm(text, cap)
  for text in ("astar(children=2)", "best_of_n(n=4)", "greedy")
  for cap in (50, 100)
)
# Chances and mean tokens of the arms, by kind of question: additions are
# quick for the first decoder, operas are hopeless with it.
_CHANCE = np.array(
  [[0.8, 0.9, 0.5, 0.6, 0.4, 0.4], [0.0, 0.0, 0.3, 0.6, 0.1, 0.1]]
)
_MEAN = np.array([[30, 40, 45, 90, 20, 20], [50, 100, 45, 90, 20, 20]])


@pytest.fixture(scope="module", name="table")
def _table():
  rng = np.random.default_rng(0)
  kind = np.arange(80) % 2
  numbers = rng.integers(100, 10_000, (80, 2))
  chance, mean = _CHANCE[kind], _MEAN[kind]
  right = rng.random((2, 80, 6)) < chance
  tokens = np.minimum(
    rng.integers(mean - 9, mean + 10, (2, 80, 6)), [a.cap for a in _ARMS]
  )
  return arm_tables.ArmTable(
    _ARMS,
    tuple(
      _KINDS[k].format(*pair) for k, pair in zip(kind, numbers, strict=True)
    ),
    right.astype(float),
    tokens.astype(float),
    (0, 1),
    np.stack([tokens // 10, tokens, tokens * 1e6], -1).astype(float),
  )


def _options(**changes):
  values = {
    "heads": ("means", "knn(k=10)"),
    "budgets": (20.0, 50.0),
    "folds": 3,
    "bits": 6,
    "rank": 4,
  }
  return policy_fitting.FitOptions(**{**values, **changes})


@pytest.fixture(scope="module", name="found")
def _found(table):
  """A study of the table, as `policy_study.run` puts it together."""
  groups = arm_tables.question_groups(table.questions)
  splits = list(policy_study.tasks.folds(groups, 4, 0))
  replays, limited, heads = {}, {}, []
  for name, options in (
    (policy_study.POLICY, _options()),
    (policy_study.ROUTER, _options()),
    (policy_study.BLIND, _options(heads=("means",))),
  ):
    crossed = policy_folds.cross_fitted(table, groups, splits, options)
    replays[name] = policy_replay.replay(
      crossed.predicted, table, (20.0, 50.0), 8, cascades=crossed.cascades
    )
    heads = heads or crossed.heads
    if name == policy_study.POLICY:
      limited = {
        "verifier_calls=3": policy_replay.replay(
          crossed.predicted,
          table,
          [{"verifier_calls": 3}],
          8,
          laws=policy_fitting.fitted_laws(table),
        )
      }
  known = budget_policies.Predicted(table.right.mean(0), table.tokens.mean(0))
  replays[policy_study.ORACLE] = policy_replay.replay(
    known, table, (20.0, 50.0), 8
  )
  fitted = policy_fitting.fit(table, groups, _options())
  policy = budget_policies.BudgetPolicy(
    arms=tuple(table.arms[a] for a in fitted.arms),
    embed=fitted.embed,
    success=fitted.success,
    share=fitted.share,
    style="free",
    sampling=solve_recipe.SamplingOptions(),
    models={"": ("", "")},
  )
  return policy_study.Found(
    table=table,
    families=("sums", "operas") * 40,
    groups=groups,
    folds=splits,
    heads=heads,
    candidates=[],
    replays=replays,
    limited=limited,
    policy=policy,
    fresh=[],
  )


def test_near_duplicates_share_a_group_and_other_numbers_do_not():
  groups = arm_tables.question_groups(
    [
      "Start at 31, add 20, add 23, take 7.",
      "Start at 31, add 20, add 23, take 8.",
      "Start at 11, add 62, add 45, take 9.",
    ]
  )
  np.testing.assert_array_equal(groups, [0, 0, 1])


def test_the_fit_finds_who_is_good_at_what(table):
  groups = np.arange(80)
  fitted = policy_fitting.fit(table, groups, _options())
  assert fitted.head == "knn(k=10)"
  decoders = {table.arms[arm].decoder for arm in fitted.arms}
  assert "astar(children=2)" in decoders
  assert "best_of_n(n=4)" in decoders
  # Greedy is the same under both caps: the second is no arm of its own.
  only = policy_fitting.fit(table, groups, _options(decoders=1))
  assert len({table.arms[arm].decoder for arm in only.arms}) == 1
  assert fitted.score > only.score
  new = [
    "Add the numbers 612 and 7734.",
    "Which opera, 581 or 6622, is longer?",
  ]
  found = fitted.predict(new, table.caps)
  places = {table.arms[arm]: i for i, arm in enumerate(fitted.arms)}
  astar = places[budget_policies.Arm("astar(children=2)", 100)]
  assert found.success[0, astar] > 0.7 > 0.2 > found.success[1, astar]
  assert found.tokens[0, astar] < 60 < found.tokens[1, astar]


def test_two_arms_that_did_the_same_are_one(table):
  tokens, right = table.tokens.copy(), table.right.copy()
  tokens[:, :, 5], right[:, :, 5] = tokens[:, :, 4], right[:, :, 4]
  same = table._replace(tokens=tokens, right=right)._replace(
    arms=table.arms[:6]
  )
  fitted = policy_fitting.fit(
    same, np.arange(80), _options(decoders=3, enough=0.0)
  )
  assert 5 not in fitted.arms


def test_replays_never_overspend_and_say_what_the_cells_say(found, table):
  for replay in found.replays.values():
    for place, budget in enumerate((20.0, 50.0)):
      assert (replay.spent[place].sum(1) <= 80 * budget).all()
  replay = found.replays[policy_study.POLICY]
  place, seed, row = np.argwhere(replay.arms >= 0)[0]
  arm = replay.arms[place, seed, row]
  assert replay.right[place, seed, row] == table.right[seed, row, arm]
  assert replay.spent[place, seed, row] == table.tokens[seed, row, arm]
  assert (replay.right[replay.arms < 0] == 0).all()


def test_a_problem_is_never_in_its_own_fit(table):
  """Scores that only the text of each question tells apart are not learnt."""
  groups = np.arange(80)
  rng = np.random.default_rng(1)
  noise = table._replace(
    right=np.tile((rng.random((1, 80, 1)) < 0.5), (2, 1, 6)).astype(float)
  )
  splits = list(policy_study.tasks.folds(groups, 4, 0))
  crossed = policy_folds.cross_fitted(
    noise, groups, splits, _options(heads=("knn(k=1)",))
  )
  usable = crossed.predicted.success.max(1)
  told = np.corrcoef(usable, noise.right[0, :, 0])[0, 1]
  assert abs(told) < 0.3


def test_the_policy_is_between_the_single_decoder_and_the_oracle(found):
  ours = found.replays[policy_study.POLICY].right
  best = found.replays[policy_study.ORACLE].right
  for place, budget in enumerate((20.0, 50.0)):
    single = policy_claims.baseline(
      found, policy_claims.SINGLE, budget, hindsight=True
    )
    assert single.mean() < ours[place].mean() < best[place].mean()


def test_hindsight_is_no_worse_than_choosing_beforehand(found):
  # What is chosen beforehand may cost a little more on the other side.
  for kind in (policy_claims.SINGLE, policy_claims.ARM, policy_claims.ANY):
    after, before = (
      policy_claims.baseline(found, kind, 50.0, hindsight=h).mean()
      for h in (True, False)
    )
    assert after >= before - 0.01


def test_a_mixture_spends_its_budget_and_is_the_best_of_a_grid():
  right, tokens = np.array([0.3, 0.6, 0.5]), np.array([20.0, 80.0, 70.0])
  odds = rungs.mixture(right, tokens, np.ones(3, bool), 50.0)
  assert odds.min() >= 0 and odds.sum() <= 1 + 1e-9
  np.testing.assert_allclose(odds @ tokens, 50.0)
  best = max(
    np.array([a, b, c]) @ right
    for a in np.linspace(0, 1, 41)
    for b in np.linspace(0, 1 - a, 41)
    for c in np.linspace(0, 1 - a - b, 5)
    if np.array([a, b, c]) @ tokens <= 50.0
  )
  assert odds @ right >= best - 1e-9
  alone = rungs.mixture(right, tokens, np.array([True, False, False]), 5)
  np.testing.assert_allclose(alone, [0.25, 0, 0])


def test_the_report_holds_together(found, tmp_path):
  recipe = policy_study.StudyRecipe(
    fit=_options(), budgets=(20.0, 50.0), resamples=50
  )
  study = policy_claims.report(recipe, found)
  simulation.write(study, str(tmp_path / "policy"))
  claims = {
    claim.name: claim for claim in results.read(tmp_path / "policy.json").claims
  }
  assert claims["points_over_best_single_decoder"].holds
  assert claims["never_overspent"].holds
  each = [
    claims[f"points_over_best_single_decoder_at_{budget}"].value
    for budget in (20, 50)
  ]
  mean = claims["points_over_best_single_decoder"].value
  np.testing.assert_allclose(mean, np.mean(each))
  assert claims["points_of_the_cascade"].value == 0  # nothing was looked at
  assert "points_over_best_single_decoder_at_3_verifier_calls" in claims
  assert found.limited["verifier_calls=3"].overspent <= 1
  assert (tmp_path / "policy.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(budgets=()), "budgets=\\(\\) must be"),
    (dict(budgets=(-1.0,)), "must be >= 1"),
    (dict(folds=1), "folds >= 2"),
    (dict(wave=0), "wave >= 1"),
    (dict(limits=("",)), "limits: expected fields"),
    (dict(limits=("verifier_cals=3",)), "did you mean 'verifier_calls'"),
    (dict(fit=_options(heads=("nearest",))), "unknown head 'nearest'"),
    (dict(fit=_options(heads=())), "heads: expected at least one"),
    (dict(fit=_options(decoders=0)), "decoders >= 1"),
    (dict(fit=_options(budgets=(0.0,))), "must be positive"),
  ],
)
def test_a_recipe_that_cannot_be_run_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    policy_study.StudyRecipe(**change).check()


def test_a_whole_study_on_tiny_models(models, tmp_path):
  """From no cells to a policy that solves fresh problems."""
  source = problem_sets.ProblemSource(
    count=8, family="modular", steps=(2,), style="terse"
  )
  compare = comparing.CompareRecipe(
    problems=source,
    methods=(
      comparing.MethodSpec(label="best_of_n", decoder="best_of_n(n=2)"),
    ),
    budgets=(20, 60),
    policy=str(models / "policy.safetensors"),
    verifier=str(models / "verifier.safetensors"),
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    batch=4,
  )
  recipe = policy_study.StudyRecipe(
    fit=_options(heads=("knn(k=1)",), folds=2),
    budgets=(15.0,),
    folds=2,
    resamples=20,
    fresh=dataclasses.replace(source, count=3, seed=1),
    fresh_budget=30,
    batch=4,
  )
  found = policy_study.run(recipe, compare, tmp_path, progress=False)
  assert found.policy.style == "terse"
  assert len(found.fresh) == 3
  spent = sum(row["cost"]["generated_tokens"] for row in found.fresh)
  assert spent <= 90
  claims = {c.name: c for c in policy_claims.report(recipe, found).claims}
  assert claims["fresh_tokens_over_budget"].holds
  budget_policies.save(found.policy, tmp_path / "mine.npz")
  again = budget_policies.load(tmp_path / "mine.npz")
  assert again.models == found.policy.models
  with pytest.raises(ValueError, match="must be >= 1"):
    dataclasses.replace(recipe, fresh_budget=0).check()
