# SPDX-License-Identifier: Apache-2.0
"""A router's file stands for its models: fitted, saved, and asked for real."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators.routing import bandits, decision_log
from jaxttc.predictors import step_failure
from jaxttc.solving import (
  model_names,
  policy_solving,
  problem_sets,
  router_files,
  router_fitting,
  search_solving,
  solve_recipe,
)
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import routing as tasks

_SOURCE = problem_sets.ProblemSource(
  count=6, family="modular", steps=(2, 6), style="terse"
)


@pytest.fixture(scope="module", name="bundles")
def _bundles(models):
  nested = str(models / "nested.safetensors")
  return {name: model_names.read(name) for name in (f"{nested}@0.5", nested)}


@pytest.fixture(scope="module", name="table")
def _table(bundles):
  """The wide model is right where the text is long, the narrow one never."""
  prompts = tuple(
    "Modulo 7: start at 1" + f", add {n % 7}" * (1 + n % 6) + f".\nQ{n}\n"
    for n in range(60)
  )
  hard = np.array([n % 6 > 2 for n in range(60)], float)
  return tasks.RoutingTable(
    prompts=prompts,
    models=tuple(bundles),
    scores=np.stack([0 * hard, hard], 1),
    costs=np.stack([np.full(60, 1.0), 3 + np.arange(60) % 2], 1),
    unit="FLOPs",
  )


def _fingerprints(bundles):
  return {n: bundle.weights_fingerprint for n, bundle in bundles.items()}


@pytest.fixture(scope="module", name="file")
def _file(table, bundles):
  return router_files.fit(table, _fingerprints(bundles), "ridge", rank=4)


@pytest.fixture(scope="module", name="path")
def _path(file, tmp_path_factory):
  path = tmp_path_factory.mktemp("routers") / "auto.npz"
  router_files.save(file, path)
  return path


def _recipe(path, **changes):
  return dataclasses.replace(
    solve_recipe.SolveRecipe(
      problems=_SOURCE,
      policy=str(path),
      decoder="self_consistency(n=2)",
      budget="generated_tokens=40,flops=1G",
      sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
      batch=4,
    ),
    **changes,
  )


def test_a_router_comes_back_from_its_file(file, path, table):
  again = router_files.load(path)
  assert again.fingerprint == file.fingerprint and again.origin == file.origin
  assert dict(again.models) == dict(file.models)
  for one in (again, file):
    found = one.router.forecast(jnp.asarray(one.embed(table.prompts)))
    # The long questions go to the wide model.
    picked = np.asarray(found.quality[:, 1] > 0.5)
    assert (picked == (table.scores[:, 1] > 0.5)).mean() > 0.9
    np.testing.assert_allclose(found.cost[:, 1], 3.5, atol=0.6)
  np.testing.assert_allclose(again.sample.quality, file.sample.quality)
  assert again.sample.cost.shape == (60, 2)


def test_real_models_are_asked_and_what_they_did_teaches_a_bandit(
  path, tmp_path
):
  log = tmp_path / "decisions.jsonl"
  routing = router_files.RouterOptions(explore=1.0, log=str(log))
  recipe = _recipe(path, routing=routing)
  out = tmp_path / "answers.jsonl"
  rows = search_solving.solve_to_file(recipe, out, progress=False)
  problems = recipe.problems.load()
  assert {row["id"] for row in rows} == {problem.id for problem in problems}
  names = router_files.load(path).router.models
  assert {row["model"] for row in rows} == set(names)
  for row in rows:
    assert 0 < row["cost"]["generated_tokens"] <= 40
  # The log knows what each problem cost, and who was asked.
  by_id = {row["id"]: row for row in rows}
  texts = {problems_lib.prompt(p, "terse"): by_id[p.id] for p in problems}
  logged = {row.question: row for row in decision_log.read(log)}
  for text, row in texts.items():
    decision = logged[decision_log.digest(text)]
    assert decision.choice == row["model"]
    assert decision.spent["flops"] == pytest.approx(row["cost"]["flops"])
  # It resumes, and the log is no part of what it is.
  moved = dataclasses.replace(routing, log=str(tmp_path / "other.jsonl"))
  again = dataclasses.replace(recipe, routing=moved)
  assert search_solving.solve_to_file(again, out, progress=False) == rows
  header = json.loads(out.read_text().splitlines()[0])
  assert header["policy"] == router_files.load(path).fingerprint
  other = dataclasses.replace(routing, price=1.0)
  with pytest.raises(ValueError, match="another recipe|other"):
    search_solving.solve_to_file(
      dataclasses.replace(recipe, routing=other), out, progress=False
    )
  # Joined with scores, the log is data to learn from.
  scores = {text: float(bool(row["answer"])) for text, row in texts.items()}
  found = decision_log.logged(
    decision_log.read(log), scores, router_files.load(path).embed
  )
  assert found.x.shape[0] == 6 and set(found.propensities) == {0.5}
  learner = bandits.linucb(2, found.x.shape[1])
  state = bandits.learn(learner, found.x, found.choices, found.rewards)
  assert float(jnp.abs(state.total).sum()) > 0 or not any(scores.values())


def test_states_of_the_first_model_are_features_too(table, bundles, tmp_path):
  first, _ = bundles.values()
  file = router_files.fit(
    table,
    _fingerprints(bundles),
    "mlp(epochs=1)",
    states=step_failure.StateReader(first),
  )
  router_files.save(file, tmp_path / "states.npz")
  again = router_files.load(tmp_path / "states.npz")
  assert again.embed is None and again.router.width == first.config.width
  dispatcher = again.dispatcher(first, router_files.RouterOptions(budget=2.0))
  found = dispatcher.decide(table.prompts[:3])
  assert dispatcher.reading.token.flops > 0
  assert all(d.router == file.fingerprint for d in found)
  with pytest.raises(ValueError, match="not in this process"):
    again.dispatcher(None, router_files.RouterOptions())


def test_a_router_of_other_models_is_refused(
  file, path, models, table, tmp_path
):
  others = {name: "0" * 16 for name in file.models}
  other = dataclasses.replace(file, models=others)
  router_files.save(other, tmp_path / "other.npz")
  with pytest.raises(
    ValueError, match="fitted for the weights 0000000000000000"
  ):
    search_solving.prepare(_recipe(tmp_path / "other.npz"))
  with pytest.raises(ValueError, match="fitted for the models .* got none"):
    file.check_models({})
  with pytest.raises(ValueError, match="router: is one of"):
    dataclasses.replace(file, models={"a": "", "b": ""})
  with pytest.raises(ValueError, match="leave both out"):
    search_solving.prepare(_recipe(path, width=0.5))
  with pytest.raises(ValueError, match="one of this process beside a router"):
    search_solving.prepare(
      _recipe(path, decoder="prm_beam", verifier="http://localhost:1/v1")
    )
  with pytest.raises(ValueError, match="picks one model of its own"):
    policy_solving.solve_to_file(
      _recipe(path), tmp_path / "out.jsonl", policy="plain"
    )


def test_files_that_are_no_routers_are_refused(path, file, tmp_path):
  with pytest.raises(ValueError, match="no such file; expected a router"):
    router_files.load(tmp_path / "nowhere.npz")
  (tmp_path / "torn.npz").write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match="torn.npz: is no router"):
    router_files.load(tmp_path / "torn.npz")
  np.savez(tmp_path / "else.npz", about="{}")
  with pytest.raises(ValueError, match="is no router that can be read"):
    router_files.load(tmp_path / "else.npz")
  with pytest.raises(ValueError, match="ends in .npz"):
    router_files.save(file, tmp_path / "router.zip")
  (tmp_path / "full").write_text("")
  with pytest.raises(ValueError, match="cannot be written"):
    router_files.save(file, tmp_path / "full" / "router.npz")


def _answers(path, name, problems, policy, width, solved):
  """A file of answers, as a run of that model would have left it."""
  recipe = dataclasses.replace(
    solve_recipe.SolveRecipe(problems=_SOURCE), policy=policy, width=width
  )
  header = {
    "recipe": solve_recipe.described(recipe),
    "policy": name,
    "verifier": "",
  }
  rows = [
    {"id": p.id, "correct": right, "cost": {"flops": 5.0 * width}}
    for p, right in zip(problems, solved, strict=True)
  ]
  lines = [header, *rows]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


def test_a_router_is_fitted_to_files_of_answers(tmp_path):
  problems = _SOURCE.load()
  paths = [
    _answers(tmp_path / "a", "f1", problems, "lm", 0.5, [False] * 5 + [None]),
    _answers(tmp_path / "b", "f2", problems, "lm", 1.0, [True] * 6),
  ]
  table, models = router_fitting.table_of_answers(paths)
  assert models == {"lm@0.5": "f1", "lm": "f2"}
  assert table.prompts == tuple(_SOURCE.prompts(problems))
  np.testing.assert_array_equal(
    table.scores, [[0.0, 1.0]] * 5 + [[np.nan, 1.0]]
  )
  assert set(table.costs[:, 0]) == {2.5} and table.unit == "flops"
  file = router_fitting.fit_to_file(paths, tmp_path / "r.npz", head="means")
  assert router_files.load(tmp_path / "r.npz").fingerprint == file.fingerprint
  other = dataclasses.replace(_SOURCE, seed=1)
  text = paths[1].read_text().replace('"seed": 0', '"seed": 1', 1)
  (tmp_path / "c").write_text(text)
  assert other != _SOURCE
  for given, message in (
    (paths[:1], "two models at least"),
    ([paths[0], paths[0]], "two files are of one model"),
    ([paths[0], tmp_path / "c"], "is of other problems"),
    ([paths[0], tmp_path / "none"], "none: is no file of answers"),
  ):
    with pytest.raises(ValueError, match=message):
      router_fitting.table_of_answers(given)
  with pytest.raises(ValueError, match="no field 'flop'; did you mean 'flops'"):
    router_fitting.table_of_answers(paths, "flop")
