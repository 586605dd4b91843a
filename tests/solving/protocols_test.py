# SPDX-License-Identifier: Apache-2.0
"""The quoted benchmarks run whole, on tiny models of the same families."""

import json
import pathlib
import shutil

import pytest

from jaxttc.decoders import base
from jaxttc.solving import decoder_text, protocols, search_solving

pytest.importorskip("tokenizers")
_ROOT = pathlib.Path(__file__).parents[2]
_HF = _ROOT / "tests" / "data" / "hf"
_QUESTIONS = [
  ("A pen costs 3 coins and a book 5. What do two of each cost?", "16"),
  ("Ann has 4 cups. She breaks one. How many are left?", "3"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A policy, a reward model, and problems in GSM8K's layout."""
  path = tmp_path_factory.mktemp("published")
  for name, template in (("llama3", "llama3"), ("reward_mlp", "qwen")):
    model = path / name
    shutil.copytree(_HF / name, model)
    shutil.copytree(_HF / "tokenizer", model, dirs_exist_ok=True)
    shutil.copy(
      _HF / "templates" / f"{template}.jinja", model / "chat_template.jinja"
    )
    config = json.loads((model / "config.json").read_text("utf-8"))
    config["max_position_embeddings"] = 1024
    (model / "config.json").write_text(json.dumps(config), "utf-8")
  lines = [
    json.dumps({"question": q, "answer": f"So it is.\n#### {a}"})
    for q, a in _QUESTIONS
  ]
  (path / "problems.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
  return path


def _recipe(folder, method):
  """The real recipe, shortened."""
  recipe = protocols.recipe("gsm8k", method)
  recipe.problems.path = str(folder / "problems.jsonl")
  recipe.problems.chat = recipe.policy = str(folder / "llama3")
  recipe.verifier = str(folder / "reward_mlp")
  recipe.sampling.step_tokens, recipe.sampling.max_tokens = 8, 24
  recipe.batch = 2
  return recipe


@pytest.mark.parametrize("task", list(protocols.TASKS))
@pytest.mark.parametrize("method", list(protocols.METHODS))
def test_recipes_can_be_built(task, method):
  recipe = protocols.recipe(task, method)
  decoder = decoder_text.build(recipe.decoder)
  assert recipe.sampling.build().max_tokens == protocols.TASKS[task].max_tokens
  if base.Until.STEP in decoder.until:
    assert "max_steps=40" in recipe.decoder


def test_unknown_names_are_refused_with_the_nearest():
  with pytest.raises(ValueError, match="math500"):
    protocols.recipe("math50")
  with pytest.raises(ValueError, match="particle_filter"):
    protocols.recipe("aime", "particle_filer")


def test_the_prompt_is_the_models_own_template(folder):
  recipe = _recipe(folder, "greedy")
  problems = recipe.problems.load()
  prompt, _ = recipe.problems.prompts(problems)
  content = f"{recipe.problems.instruction}\n\n{_QUESTIONS[0][0]}"
  assert content in prompt and not prompt.endswith(content)
  recipe.problems.chat = str(folder)
  with pytest.raises(ValueError, match="tokenizer.json"):
    recipe.problems.prompts(problems)


@pytest.mark.parametrize(
  ("decoder", "calls"),
  [
    ("self_consistency(n=2)", 0),  # votes: answers are read from the text
    ("best_of_n(n=2)", 2),
    ("prm_beam(num_survivors=1, num_expansions=2, max_steps=2)", 2),
  ],
)
def test_published_models_are_searched_and_resumed(
  folder, tmp_path, decoder, calls
):
  recipe = _recipe(folder, "astar")
  recipe.decoder, recipe.budget = decoder, "generated_tokens=60"
  out = tmp_path / "answers.jsonl"
  rows = search_solving.solve_to_file(recipe, out, progress=False)
  assert sorted(row["id"] for row in rows) == sorted(
    problem.id for problem in recipe.problems.load()
  )
  for row in rows:
    assert 0 < row["cost"]["generated_tokens"] <= 60
    assert row["cost"]["verifier_calls"] <= calls * 2
  lines = out.read_text("utf-8").splitlines(keepends=True)
  out.write_text("".join(lines[:-1]), "utf-8")
  again = search_solving.solve_to_file(recipe, out, progress=False)
  clean = lambda found: [  # noqa: E731
    row | {"cost": row["cost"] | {"seconds": 0}} for row in found
  ]
  key = lambda row: row["id"]  # noqa: E731
  assert sorted(clean(again), key=key) == sorted(clean(rows), key=key)


def test_the_reward_model_is_asked_by_its_own_template(folder):
  recipe = _recipe(folder, "best_of_n")
  recipe.decoder = "best_of_n(n=2)"
  job = search_solving.prepare(recipe)
  shown = job.served.verifier._shown(job.prompts[0])
  assert _QUESTIONS[0][0] in shown and recipe.problems.instruction not in shown
  assert shown != job.prompts[0] and "assistant" in shown
