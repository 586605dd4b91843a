# SPDX-License-Identifier: Apache-2.0
"""What a study of budget policies claims, and against which baselines.

All baselines get the policy's budget, as a mean over the problems. The *single
decoder* may run under any mixture of its caps, drawn at random, and may leave
problems out; *random arms* may mix caps of all decoders. Both come twice:
chosen in hindsight, on the very problems that are judged, which no method
could do; and chosen beforehand, on the folds that the policy was fitted on.
Intervals resample groups of near-duplicates and seeds, the same for both sides.
"""

from typing import Any

from jaxtyping import Float
import numpy as np

from jaxttc import results
from jaxttc.allocators.routing import rungs
from jaxttc.cost import budget as budget_lib
from jaxttc.evaluation import routing_curves, statistics
from jaxttc.simulation import study as study_lib
from jaxttc.solving import policy_cascades
from jaxttc.studies import policy_picture, policy_study

SINGLE, ARM, ANY = "single decoder", "single arm", "random arms"
_GAIN = "points_over_best_single_decoder"
_TOKENS = "generated_tokens"


def baseline(
  found: policy_study.Found,
  kind: str,
  budget: float | int,
  *,
  hindsight: bool,
  field: str = _TOKENS,
) -> Float[np.ndarray, "S N"]:
  """Expected scores of a baseline, f64[S, N].

  Args:
    found: the study.
    kind: SINGLE, ARM or ANY.
    budget: mean tokens, or of another field.
    hindsight: chosen on all problems, else on each fold's training side.
    field: of the cost.
  """
  table, spent = found.table, found.table.spent(field)
  everyone = np.arange(len(table.questions))
  sides = [(everyone, everyone)] if hindsight else found.folds
  scores = np.zeros(table.right.shape[:2])
  for train, test in sides:
    right = table.right[:, train].mean((0, 1))
    tokens = np.maximum(spent[:, train].mean((0, 1)), 1e-9)
    odds = max(
      _candidates(kind, right, tokens, table.groups, budget),
      key=lambda one: float(one @ right),
    )
    scores[:, test] = table.right[:, test] @ odds
  return scores


def _candidates(kind, right, tokens, groups, budget) -> list[np.ndarray]:
  if kind == ARM:
    fits = [k for k in range(len(right)) if tokens[k] <= budget]
    return [np.eye(len(right))[k] for k in fits] or [np.zeros(len(right))]
  if kind == ANY:
    masks = [np.ones(len(right), bool)]
  else:
    masks = [groups == group for group in np.unique(groups)]
  return [rungs.mixture(right, tokens, mask, budget) for mask in masks]


def report(
  recipe: policy_study.StudyRecipe, found: policy_study.Found
) -> study_lib.Study:
  """All figures and claims of a study."""
  boot = _Bootstrap(recipe, found)
  scores = _scores(recipe, found)
  data = {
    "budgets": list(recipe.budgets),
    "problems": len(found.families),
    "groups": int(found.groups.max()) + 1,
    "methods": {
      name: [boot.interval(values)._asdict() for values in scores[name]]
      for name in scores
    },
    "mean_tokens": found.replays[policy_study.POLICY].spent.mean((1, 2)),
    "arms": _points(found),
    "shares_by_cap": _shares(found),
    "tokens_by_family": _by_family(found),
    "tries": found.replays[policy_study.POLICY].tries.mean((1, 2)),
    "heads": found.heads,
    "cascades": found.candidates,
    "limited": {
      text: {
        "accuracy": float(replay.right.mean()),
        "tokens": float(replay.spent.mean()),
        "tries": float(replay.tries.mean()),
        "largest_share_spent": replay.overspent,
      }
      for text, replay in found.limited.items()
    },
    "shipped": {
      "arms": [list(arm) for arm in found.policy.arms],
      "origin": found.policy.origin,
      "cascade": found.policy.cascade is not None
      and policy_cascades.pack(found.policy.cascade)[0],
      "fingerprint": found.policy.fingerprint,
    },
    "fresh": _fresh_data(found),
  }
  claims = _claims(recipe, found, scores, boot)
  return study_lib.Study(
    found.table.seeds,
    data,
    claims,
    lambda path: policy_picture.draw(data, path),
  )


class _Bootstrap:
  """Intervals that all draw the same problems and seeds."""

  def __init__(self, recipe, found):
    rng = np.random.default_rng(recipe.seed)
    seeds = len(found.table.seeds)
    self._seeds = statistics.resample_counts(seeds, recipe.resamples, rng)
    self._problems = routing_curves.group_weights(
      found.groups, recipe.resamples, rng
    )

  def interval(self, values: np.ndarray) -> statistics.Interval:
    """Of the mean of f64[S, N]."""
    total = ((self._seeds @ values) * self._problems).sum(1)
    # Groups differ in size, resamples in the number of problems.
    draws = total / (self._seeds.sum(1) * self._problems.sum(1))
    return statistics.percentile_interval(float(values.mean()), draws)


def _scores(recipe, found) -> dict[str, np.ndarray]:
  """f64[B, S, N] of all methods."""
  scores = {name: replay.right for name, replay in found.replays.items()}
  for kind in (SINGLE, ARM, ANY):
    for hindsight, words in ((True, "in hindsight"), (False, "beforehand")):
      scores[f"{kind}, {words}"] = np.stack(
        [
          baseline(found, kind, budget, hindsight=hindsight)
          for budget in recipe.budgets
        ]
      )
  return scores


def _claims(recipe, found, scores, boot) -> list[results.Claim]:
  ours, oracle = scores[policy_study.POLICY], scores[policy_study.ORACLE]
  single = scores[f"{SINGLE}, in hindsight"]

  def points(name: str, gap: np.ndarray, **bar: Any) -> results.Claim:
    return results.Claim(name, *boot.interval(100 * gap), **bar)

  made = [points(_GAIN, (ours - single).mean(0), bar=0, comparison=">")]
  made += [
    points(f"{_GAIN}_at_{budget:g}", gap)
    for budget, gap in zip(recipe.budgets, ours - single, strict=True)
  ]
  for name, other in (
    ("points_over_single_decoder_chosen_beforehand", f"{SINGLE}, beforehand"),
    ("points_over_best_single_arm", f"{ARM}, in hindsight"),
    ("points_over_random_arms", f"{ANY}, in hindsight"),
  ):
    made.append(points(name, (ours - scores[other]).mean(0)))
  for name, other in (
    (f"{_GAIN}_by_the_router_alone", policy_study.ROUTER),
    (f"{_GAIN}_by_a_cascade_alone", policy_study.CASCADE),
    (f"{_GAIN}_without_the_question", policy_study.BLIND),
    (f"{_GAIN}_unseen_family", policy_study.UNSEEN),
    (f"{_GAIN}_unseen_family_mean_forecasts", policy_study.UNSEEN_MEANS),
    (f"oracle_{_GAIN}", policy_study.ORACLE),
  ):
    if other in scores:
      made.append(points(name, (scores[other] - single).mean(0)))
  for name, less in (
    ("points_of_the_cascade", policy_study.ROUTER),
    ("points_lost_on_an_unseen_family", policy_study.UNSEEN),
  ):
    if less in scores:
      gap = ours - scores[less]
      made.append(points(name, gap.mean(0)))
      if less == policy_study.ROUTER:
        made += [
          points(f"{name}_at_{budget:g}", one)
          for budget, one in zip(recipe.budgets, gap, strict=True)
        ]
  made += _limited_claims(found, points)
  room = float((oracle - single).mean())
  if room > 0:
    share = float((ours - single).mean()) / room
    made.append(results.Claim("share_of_oracle_gain", share))
  made.append(_overspent(recipe, found))
  expected = found.replays[policy_study.POLICY].expected
  made.append(
    points("points_predicted_over_measured", (expected - ours).mean(0))
  )
  return made + _fresh_claims(recipe, found)


def _limited_claims(found, points) -> list[results.Claim]:
  """The policy under budgets on one other field, at equal means of it."""
  made = []
  for text, replay in found.limited.items():
    limits = budget_lib.Budget.parse(text).as_dict()
    if len(limits) > 1:
      continue
    ((field, budget),) = limits.items()
    single = baseline(found, SINGLE, budget, hindsight=True, field=field)
    name = f"{_GAIN}_at_{budget:g}_{field}"
    made.append(points(name, replay.right[0] - single))
  return made


def _overspent(recipe, found) -> results.Claim:
  """The largest share of a budget that any run spent, on any field."""
  replays = (*found.replays.values(), *found.limited.values())
  shares = [replay.overspent for replay in replays]
  if found.fresh:
    shares.append(_mean(found.fresh, _spent) / recipe.fresh_budget)
  return results.Claim(
    "never_overspent", float(max(shares)), bar=1, comparison="<="
  )


def _spent(row) -> int:
  return row["cost"][_TOKENS]


def _mean(rows, value) -> float:
  return float(np.mean([value(row) for row in rows]))


def _fresh_claims(recipe, found) -> list[results.Claim]:
  if not found.fresh:
    return []
  right = np.array([bool(row["correct"]) for row in found.fresh])
  measured = statistics.wilson_interval(int(right.sum()), len(right))
  return [
    results.Claim("fresh_accuracy", *measured),
    results.Claim(
      "fresh_accuracy_predicted",
      _mean(found.fresh, lambda row: row["predicted"]["success"]),
    ),
    results.Claim(
      "fresh_tokens_over_budget",
      _mean(found.fresh, _spent) / recipe.fresh_budget,
      bar=1,
      comparison="<=",
    ),
  ]


def _fresh_data(found) -> list[dict[str, Any]]:
  return [
    {
      "id": row["id"],
      "arm": row["arm"],
      "correct": row["correct"],
      "predicted": row["predicted"],
      "stages": row["stages"],
      "tries": row["tries"],
      "next": row["next"],
    }
    for row in found.fresh
  ]


def _points(found) -> list[dict[str, Any]]:
  table = found.table
  return [
    {
      "decoder": arm.decoder,
      "cap": arm.cap,
      "tokens": float(table.tokens[:, :, k].mean()),
      "accuracy": float(table.right[:, :, k].mean()),
    }
    for k, arm in enumerate(table.arms)
  ]


def _shares(found) -> dict[str, list[float]]:
  """Share of the problems by the cap of their arm, at each budget."""
  arms = found.replays[policy_study.POLICY].arms
  caps = np.where(arms < 0, 0, found.table.caps[arms])
  return {
    str(cap): (caps == cap).mean((1, 2)).tolist()
    for cap in (0, *sorted(set(found.table.caps.tolist())))
  }


def _by_family(found) -> dict[str, list[float]]:
  """Mean tokens of a family's problems, at each budget."""
  spent = found.replays[policy_study.POLICY].spent
  families = np.array(found.families)
  return {
    name: spent[:, :, families == name].mean((1, 2)).tolist()
    for name in sorted(set(found.families))
  }
