# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.studies import routing_report, routing_study

_TOPICS = (
  ("Add the numbers {} and {} now", (0.9, 0.2, 0.9)),
  ("Who wrote the opera number {} of composer {}", (0.2, 0.9, 0.9)),
  ("Sort the list {} then reverse it {} times", (0.1, 0.1, 0.7)),
)


@pytest.fixture(scope="module", name="recipe")
def _recipe(tmp_path_factory):
  """Ninety questions of three kinds and three models."""
  rng = np.random.default_rng(0)
  rows = []
  for number in range(90):
    text, chances = _TOPICS[number % 3]
    words = " ".join(rng.choice(list("abcdefghij"), 12))
    scores = (rng.random(3) < chances).astype(float).tolist()
    question = f"{text.format(number, number + 1)} {words}"
    named = zip(("x-7b", "y-8b", "z-70b"), scores, strict=True)
    rows.append({"question": question, "scores": dict(named)})
  path = tmp_path_factory.mktemp("routing") / "data.json"
  path.write_text(json.dumps(rows), encoding="utf-8")
  return routing_study.StudyRecipe(
    data=str(path),
    routers=(
      ("elo", ("elo",)),
      ("knn", ("knn(k=5)", "knn(k=9)")),
      ("ridge", ("ridge",)),
    ),
    blended=("knn", "ridge"),
    folds=3,
    inner_folds=2,
    threshold=0.9,
    rank=8,
    prices=32,
    resamples=20,
  )


@pytest.fixture(scope="module", name="workdir")
def _workdir(tmp_path_factory):
  return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module", name="found")
def _found(recipe, workdir):
  return routing_study.run(recipe, workdir)


def test_each_question_is_tested_once_by_routers_that_never_saw_it(found):
  tested = np.concatenate([fold.test for fold in found.folds])
  np.testing.assert_array_equal(np.sort(tested), np.arange(90))
  for fold in found.folds:
    assert not set(fold.train) & set(fold.test)
    assert not set(found.groups[fold.train]) & set(found.groups[fold.test])
    assert list(fold.routers) == ["elo", "knn", "ridge", "blend"]
    for part in fold.routers.values():
      assert part.test.shape == (len(fold.test), 3)
      assert part.out_of_fold.shape == (len(fold.train), 3)


def test_a_second_run_reads_what_the_first_one_wrote(
  recipe, workdir, found, monkeypatch
):
  kept = {p.name: p.stat().st_mtime_ns for p in workdir.glob("fold_*.npz")}
  assert len(kept) == 9
  (workdir / "fold_1_ridge.npz").unlink()
  again = routing_study.run(recipe, workdir)
  for name, written in kept.items():
    if name != "fold_1_ridge.npz":
      assert (workdir / name).stat().st_mtime_ns == written
  for first, second in zip(found.folds, again.folds, strict=True):
    for name in first.routers:
      np.testing.assert_allclose(
        first.routers[name].test, second.routers[name].test, atol=1e-6
      )


def test_the_predictions_of_another_recipe_are_refused(recipe, workdir, found):
  del found
  with pytest.raises(ValueError, match="another recipe"):
    routing_study.run(dataclasses.replace(recipe, rank=4), workdir)


def test_a_damaged_file_is_named(recipe, tmp_path, workdir, found):
  del found
  (tmp_path / "recipe.txt").write_text((workdir / "recipe.txt").read_text())
  (tmp_path / "fold_0_elo.npz").write_bytes(b"PK\x03\x04nothing")
  with pytest.raises(ValueError, match="fold_0_elo.npz: cannot be read"):
    routing_study.run(recipe, tmp_path)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(routers=()), "different names"),
    (dict(routers=(("knn", ()),), blended=("knn",)), "at least one head"),
    (dict(routers=(("a", ("nearest",)),)), "unknown head 'nearest'"),
    (dict(blended=("svr",)), "blended: expected some of"),
    (dict(folds=1), "at least 2 folds"),
    (dict(data="nowhere.json"), "nowhere.json: cannot be read"),
  ],
)
def test_a_recipe_that_cannot_be_run_is_refused(
  recipe, tmp_path, change, message
):
  with pytest.raises(ValueError, match=message):
    routing_study.run(dataclasses.replace(recipe, **change), tmp_path)


def test_the_report_holds_together(recipe, found, tmp_path):
  study = routing_report.report(recipe, found)
  json_path, _ = simulation.write(study, tmp_path / "routing")
  claims = {c.name: c for c in results.read(json_path).claims}
  oracle = claims["oracle_cost_over_best_single_at_equal_score"]
  chosen = claims["cost_over_best_single_at_equal_score"]
  assert oracle.value <= chosen.value <= 1
  assert chosen.bar == 0.65 and chosen.comparison == "<="
  assert claims["apgr_random"].value == pytest.approx(0.5)
  assert claims["apgr_oracle"].value > claims["apgr_ridge"].value > 0.5
  rows = {row["router"]: row for row in study.data["routers"]}
  # The best single model may be mixed in, so no router costs more than it.
  assert all(row["cost_ratio"]["value"] <= 1 + 1e-6 for row in rows.values())
  assert rows["oracle"]["share_of_oracle_gain"]["value"] == pytest.approx(1)
  assert rows["oracle"]["regret"] == pytest.approx([0, 0, 0], abs=1e-6)
  assert rows["elo"]["points_at_equal_cost"]["value"] < 8
  # What the inner folds chose is one of the routers, in each fold.
  for number, fold in enumerate(found.folds):
    name = routing_report.chosen(fold)
    assert rows["chosen"]["heads"][number] == fold.routers[name].text


def test_the_picture_is_drawn(recipe, found, tmp_path):
  pytest.importorskip("matplotlib", reason="extra `plot` not installed")
  study = routing_report.report(recipe, found)
  study.draw(tmp_path / "routing.png")
  assert (tmp_path / "routing.png").stat().st_size > 20_000


def test_unknown_models_of_the_pair_are_refused(recipe, found):
  with pytest.raises(ValueError, match="unknown model 'q'"):
    routing_report.report(dataclasses.replace(recipe, strong="q"), found)
