# SPDX-License-Identifier: Apache-2.0
"""Tests of two processes that work as one: searches, training, agreement."""

import json
import pathlib
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.solving import problem_sets, search_solving, solve_recipe
from jaxttc.testing import processes, tiny_models
from jaxttc.training import loop, metrics

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PROGRAM = """
  import json, sys

  root, folder, flag = sys.argv[1:]
  sys.path.insert(0, root)
  import jax
  import numpy as np
  from jaxttc import mesh as mesh_lib
  from tests import mesh_processes_test as test

  mesh_lib.join(flag.partition("=")[2])
  found = {"devices": jax.device_count(), "index": jax.process_index()}

  mesh = mesh_lib.parse("data=2,tensor=2")
  out = f"{folder}/answers-{jax.process_index()}.jsonl"
  recipe = test.recipe(folder)
  found["rows"] = test.search_solving.solve_to_file(
    recipe, out, progress=False, mesh=mesh
  )
  again = test.search_solving.solve_to_file(
    recipe, out, progress=False, mesh=mesh
  )
  found["again"] = again == found["rows"]

  params = test.train(f"{folder}/run", mesh_lib.parse(""))
  found["trained"] = np.asarray(params["w"]).tolist()

  def refuse():
    raise ValueError("only the first can know")

  try:
    mesh_lib.from_first(refuse)
  except ValueError as error:
    found["refused"] = str(error)
  print("FOUND", json.dumps(found))
"""


def recipe(folder):
  """A search of more problems than one batch, whose model is split in two."""
  return solve_recipe.SolveRecipe(
    problems=problem_sets.ProblemSource(count=6, family="modular", steps=(2,)),
    policy=f"{folder}/policy.safetensors",
    decoder="sample",
    budget="generated_tokens=40",
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
    batch=4,
  )


def loss(params, batch, key):
  """Least squares; each row weighs the same, whoever holds it."""
  del key
  error = (batch["x"] @ params["w"])[:, 0] - batch["y"]
  value = (error**2).mean()
  return value, {"loss": value}


def batches(step):
  """Eight rows that differ from step to step."""
  rng = np.random.default_rng(step)
  x = rng.normal(size=(8, 2)).astype(np.float32)
  return {"x": x, "y": x @ np.float32([2.0, -1.0])}


def train(workdir, mesh):
  """Parameters after three steps."""
  config = loop.TrainConfig(
    steps=3, batch_size=8, warmup_steps=0, log_every=1, weight_decay=0.0
  )
  start = lambda key: {"w": jnp.ones((2, 1))}  # noqa: E731
  return loop.fit(config, loss, start, batches, workdir, mesh=mesh).params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("processes")
  policy, _ = tiny_models.tiny_bundles(0, kv_heads=2)
  bundle_lib.save(str(path / "policy.safetensors"), policy)
  return path


@pytest.fixture(scope="module")
def found(folder):
  """What each of two processes, with two devices each, said."""
  program = ["-c", textwrap.dedent(_PROGRAM), str(_ROOT), str(folder)]
  said = []
  for process in processes.run(program):
    assert process.returncode == 0, process.stderr[-3000:]
    line = process.stdout[process.stdout.index("FOUND") :].splitlines()[0]
    said.append(json.loads(line.removeprefix("FOUND")))
  return said


def test_processes_know_each_other(found):
  assert [(one["index"], one["devices"]) for one in found] == [(0, 4), (1, 4)]


def test_both_have_the_answers_of_one_process(found, folder, tmp_path):
  path = tmp_path / "alone.jsonl"
  alone = search_solving.solve_to_file(recipe(folder), path, progress=False)
  assert found[0]["rows"] == found[1]["rows"] == alone
  assert len({row["completion"] for row in alone}) > 1
  written = (folder / "answers-0.jsonl").read_bytes()
  assert written == path.read_bytes()


def test_only_the_first_writes_answers_and_both_resume(found, folder):
  assert not (folder / "answers-1.jsonl").exists()
  assert all(one["again"] for one in found)


def test_training_is_that_of_one_process_and_is_recorded_once(
  found, folder, tmp_path
):
  params = train(str(tmp_path / "run"), None)
  assert found[0]["trained"] == found[1]["trained"]
  np.testing.assert_allclose(
    found[0]["trained"], params["w"], rtol=1e-5, atol=1e-6
  )
  records = metrics.read(str(folder / "run"))
  assert [record["step"] for record in records] == [1, 2, 3]
  alone = metrics.read(str(tmp_path / "run"))
  np.testing.assert_allclose(
    [record["loss"] for record in records],
    [record["loss"] for record in alone],
    rtol=1e-5,
  )


def test_what_the_first_refuses_all_refuse(found):
  assert {one["refused"] for one in found} == {"only the first can know"}


def test_one_process_asks_itself():
  assert mesh_lib.from_first(lambda: [1, "a"]) == [1, "a"]
  assert mesh_lib.is_first()


@pytest.mark.parametrize(
  "text", ["yes", "localhost", "localhost:1,2", "localhost:1,2,x", "host,2,0"]
)
def test_join_refuses_what_names_no_process(text):
  with pytest.raises(ValueError, match="expected 'auto', or HOST:PORT"):
    mesh_lib.join(text)


def test_join_refuses_an_index_beyond_the_count():
  with pytest.raises(ValueError, match="index 2 is not below the count 2"):
    mesh_lib.join("localhost:1,2,2")


def test_solve_says_in_one_line_what_is_wrong_with_a_mesh():
  script = _ROOT / "scripts" / "solve.py"
  told = subprocess.run(
    [sys.executable, str(script), "--mesh=data=2,model=2"],
    capture_output=True,
    text=True,
  )
  assert told.returncode == 1
  assert told.stderr.strip().splitlines()[-1] == (
    "solve.py: mesh 'data=2,model=2': 'model=2' is no axis; expected data=N, "
    "tensor=N, or both with a comma between"
  )
