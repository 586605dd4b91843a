# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from jaxttc.cost import costs
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.solving import problem_sets, search_solving, solve_recipe
from jaxttc.tasks import tokenizer as tokenizer_lib
from jaxttc.testing import tiny_models
from jaxttc.verifiers import written_checks

_SETTINGS = written_checks.CheckSettings(samples=2, max_tokens=8)


@pytest.fixture(scope="module", name="policy")
def _policy():
  return tiny_models.tiny_bundles()[0]


@pytest.fixture(scope="module", name="judge")
def _judge(policy):
  return bundle_lib.as_verifier(policy)


@pytest.fixture(scope="module", name="folder")
def _folder(models, judge):
  """The tiny models, and the policy as a verifier beside it."""
  bundle_lib.save(str(models / "judge.safetensors"), judge)
  return models


def _recipe(folder, **changes):
  values = {
    "problems": problem_sets.ProblemSource(
      count=3, family="modular", steps=(2,)
    ),
    "policy": str(folder / "policy.safetensors"),
    "verifier": str(folder / "judge.safetensors"),
    "decoder": "best_of_n(n=4, verifications=2)",
    "budget": "",
    "sampling": solve_recipe.SamplingOptions(
      step_tokens=8,
      max_tokens=16,
      checks=solve_recipe.CheckOptions(samples=3, max_tokens=8),
    ),
    "batch": 3,
  }
  return solve_recipe.SolveRecipe(**{**values, **changes})


@pytest.fixture(scope="module", name="job")
def _job(folder):
  """Of the recipe, so that it is compiled once."""
  return search_solving.prepare(_recipe(folder))


def _solve(recipe, job, path):
  job = dataclasses.replace(
    job, budget=solve_recipe.parsed_budget(recipe.budget)
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(search_solving, "prepare", lambda *args: job)
    return search_solving.solve_to_file(recipe, path, progress=False)


@pytest.fixture(scope="module", name="free")
def _free(folder, job, tmp_path_factory):
  path = tmp_path_factory.mktemp("free") / "answers.jsonl"
  return _solve(_recipe(folder), job, path)


def test_a_command_takes_it_like_any_other_verifier(free):
  for row in free:
    finished = row["tree"]["finished"]
    assert 0 < row["cost"]["verifier_calls"] <= 2 * finished
    assert row["cost"]["verifier_calls"] % 2 == 0  # the text's two, not three
    assert row["cost"]["verifier_tokens"] > row["cost"]["verifier_calls"]
    # Its FLOPs are in the sum: solutions alone are a part of it.
    assert row["cost"]["flops"] > 0


def test_budgets_are_kept_on_what_it_writes(folder, job, free, tmp_path):
  most = {
    field: max(row["cost"][field] for row in free)
    for field in ("verifier_tokens", "flops")
  }
  limits = {"verifier_tokens": 0.6, "flops": 0.7}
  limits = {field: int(share * most[field]) for field, share in limits.items()}
  text = ",".join(f"{name}={limit}" for name, limit in limits.items())
  path = tmp_path / "answers.jsonl"
  rows = _solve(_recipe(folder, budget=text), job, path)
  assert any(row["stop"] in limits for row in rows)
  assert any(row["cost"]["verifier_calls"] for row in rows)
  for row in rows:
    for field, limit in limits.items():
      assert row["cost"][field] <= limit


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"decoder": "astar(children=2)"}, "astar.*judges whole ones"),
    ({"decoder": "best_of_n(n=2, verifications=0)"}, "whole number >= 1"),
    ({"verifier": "policy"}, "expected process_reward, or a generative"),
    (
      {"sampling": solve_recipe.SamplingOptions(max_tokens=128)},
      "exceed the verifier's 256",
    ),
    (
      {
        "sampling": solve_recipe.SamplingOptions(
          checks=solve_recipe.CheckOptions(template="{problem}")
        )
      },
      "must hold {problem} and {solution} once each",
    ),
    (
      {
        "decoder": "best_of_n(n=2)",
        "sampling": solve_recipe.SamplingOptions(
          checks=solve_recipe.CheckOptions(temperature=0.0)
        ),
      },
      "equal verifications say no more",
    ),
  ],
)
def test_what_cannot_be_is_refused_at_once(folder, changes, message):
  if changes.get("verifier"):
    changes = {"verifier": str(folder / "policy.safetensors")}
  with pytest.raises(ValueError, match=message):
    search_solving.prepare(_recipe(folder, **changes))


def test_any_language_model_is_asked_by_a_template(folder, policy):
  template = "Problem: {problem}Solution: {solution}Right?"
  sampling = solve_recipe.SamplingOptions(
    step_tokens=8,
    max_tokens=16,
    checks=solve_recipe.CheckOptions(
      samples=1, max_tokens=8, template=template
    ),
  )
  recipe = _recipe(
    folder,
    verifier=str(folder / "policy.safetensors"),
    decoder="best_of_n(n=2)",
    sampling=sampling,
  )
  job = search_solving.prepare(recipe)
  verifier = job.served.verifier
  # What it reads is its own affair, so its tokens are not bounded.
  assert "verifier_tokens" not in verifier.metered
  asked = verifier._ask(job.prompts[0], "1+1=2 {problem}\n")
  assert asked == (
    f"Problem: {job.problems[0].text}Solution: 1+1=2 {{problem}}\nRight?"
  )
  with pytest.raises(ValueError, match="budget.flops cannot be kept"):
    list(
      job.served.solve(
        job.decoder,
        job.prompts,
        [p.id for p in job.problems],
        dataclasses.replace(job.budget, flops=1e9),
        job.settings,
        0,
      )
    )


def test_a_solution_that_reads_longer_than_it_was_written_is_not_verified(
  job,
):
  verifier = job.served.verifier
  words = tokenizer_lib.WordTokenizer()
  prompt = "1+1\n"
  tokens = tuple(words.encode_prompt(prompt))
  verifier.open({0: engine_lib.Prompt(text=prompt, tokens=tokens)})
  text = "1+1=2\n#### 2\n"
  written = tuple(words.encode(text))
  spans = [
    engine_lib.Span(
      group=0, ticket=ticket, parent=0, text=text, tokens=own, finished=True
    )
    for ticket, own in enumerate((written, written[:2]))
  ]
  honest, short = (verifier.score([span])[0] for span in spans)
  assert honest.bill.spent.verifier_calls == 2
  bound = verifier.tariff.price(len(written), len(tokens))
  assert honest.bill.spent.fits_within(bound)
  assert short.bill.spent == costs.Cost() and short.reward == 0
  verifier.close(0)


def test_only_models_that_judge(policy, judge):
  with pytest.raises(ValueError, match="expected a generative verifier"):
    written_checks.verifier(policy, policy, _SETTINGS)
  bad = dataclasses.replace(_SETTINGS, style="loud")
  with pytest.raises(ValueError, match="verification style 'loud'"):
    written_checks.verifier(judge, policy, bad)
