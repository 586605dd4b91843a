# SPDX-License-Identifier: Apache-2.0
"""What is left of a gain on kinds of questions that no router saw."""

import dataclasses
import json

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.studies import routing_domains, routing_study
from jaxttc.tasks.routing import question_kinds

# Kind, and the chances of three models on it: what suits one fails another.
_FORMS = (
  ("Write a function to add {}", (0.9, 0.1, 0.6)),
  ("who wrote the {} song", (0.1, 0.9, 0.6)),
  ("Which river is {} today?", (0.2, 0.2, 0.7)),
)


@pytest.fixture(scope="module", name="recipe")
def _recipe(tmp_path_factory):
  rng = np.random.default_rng(0)
  rows = []
  for number in range(240):
    text, chances = _FORMS[number % 3]
    words = " ".join(rng.choice(list("abcdefghij"), 8))
    scores = (rng.random(3) < chances).astype(float).tolist()
    named = zip(("x-7b", "y-8b", "z-70b"), scores, strict=True)
    rows.append({"question": text.format(words), "scores": dict(named)})
  path = tmp_path_factory.mktemp("domains") / "data.json"
  path.write_text(json.dumps(rows), encoding="utf-8")
  return routing_study.StudyRecipe(
    data=str(path),
    split="kinds",
    routers=(("knn", ("knn(k=15)",)), ("ridge", ("ridge",))),
    blended=("knn", "ridge"),
    shuffled=("ridge",),
    folds=3,
    inner_folds=2,
    threshold=0.9,
    rank=8,
    prices=32,
    resamples=20,
  )


@pytest.fixture(scope="module", name="found")
def _found(recipe, tmp_path_factory):
  return routing_domains.run(recipe, tmp_path_factory.mktemp("study"))


def test_no_router_saw_the_kind_that_it_is_tested_on(found):
  unknown = found["unknown"]
  kinds = np.array(question_kinds.kinds(unknown.table.prompts))
  assert [fold.label for fold in unknown.folds] == list(dict.fromkeys(kinds))
  for fold in unknown.folds:
    assert set(kinds[fold.test]) == {fold.label}
    assert fold.label not in kinds[fold.train]
  tested = np.concatenate([fold.test for fold in unknown.folds])
  np.testing.assert_array_equal(np.sort(tested), np.arange(240))


def test_the_gain_is_gone_where_kinds_say_nothing_of_each_other(
  recipe, found, tmp_path
):
  study = routing_domains.report(recipe, found)
  path, _ = simulation.write(study, tmp_path / "domains")
  claims = {claim.name: claim for claim in results.read(path).claims}
  known = claims["ridge_points_over_zero_router_known_kinds"]
  unknown = claims["ridge_points_over_zero_router_unknown_kinds"]
  assert known.value > 8 > 1 > unknown.value
  lost = claims["ridge_points_lost"]
  assert lost.value == pytest.approx(known.value - unknown.value)
  assert lost.low > 0
  # With another question's words it is no better than mixing blindly.
  assert claims["ridge_shuffled_points_over_zero_router"].value < 1.5
  kinds = {row["kind"]: row for row in study.data["kinds"]}
  assert sum(row["questions"] for row in kinds.values()) == 240
  for row in kinds.values():
    assert row["oracle"] >= max(row["chosen"].values()) - 1e-6


def test_settings_that_leave_nothing_out_are_refused(recipe, tmp_path):
  for change, message in (
    (dict(split="groups"), "leaves nothing out"),
    (dict(split="topics"), "expected one of groups, kinds, labels"),
    (dict(shuffled=("svr",)), "shuffled: expected some of knn, ridge"),
  ):
    with pytest.raises(ValueError, match=message):
      routing_domains.run(dataclasses.replace(recipe, **change), tmp_path)
