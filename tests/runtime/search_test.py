# SPDX-License-Identifier: Apache-2.0
"""Tests of searches from texts to results."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import registry
from jaxttc.decoders import tree as tree_lib
from jaxttc.inference import controllers
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

_SETTINGS = settings_lib.SearchSettings(
  sampler=controllers.Sampler(temperature=1.0), step_tokens=12, max_tokens=24
)
_BEST = registry.make("best_of_n", {"n": 3})
_PROMPTS = [
  "Solve 3 + 4 .\n",
  "Solve 5 + 1 - 2 .\n",
  "Solve 7 .\n",
  "Solve 2 * 3 .\n",
  "Solve 9 - 8 .\n",
]
_NAMES = ["a", "b", "c", "d", "e"]
_PLENTY = budget_lib.Budget(generated_tokens=1000)
_BUDGETS = [
  _PLENTY,
  budget_lib.Budget(generated_tokens=0),
  budget_lib.Budget(prompt_tokens=3),
  budget_lib.Budget(verifier_calls=1),
  budget_lib.Budget(flops=10),
]


def _solve(bundles, order, budgets, decoder=_BEST, **options):
  return list(
    search_lib.solve(
      [_PROMPTS[i] for i in order],
      [_NAMES[i] for i in order],
      *bundles,
      decoder,
      budget=budgets,
      **{"settings": _SETTINGS, "batch": 2, "seed": 4} | options,
    )
  )


@pytest.fixture(scope="module")
def bundles():
  return tiny_models.tiny_bundles(1)


@pytest.fixture(scope="module")
def results(bundles):
  """Five problems in batches of two, the last one padded."""
  return _solve(bundles, range(5), _BUDGETS)


def test_results_come_in_order_with_why_they_stopped(results):
  assert [result.problem for result in results] == [0, 1, 2, 3, 4]
  assert [result.stop for result in results] == [
    "done",
    "generated_tokens",
    "prompt_tokens",
    "verifier_calls",
    "flops",
  ]
  for result in results[1:3] + results[4:]:
    assert result.completion is None and result.tree.chosen == -1


def test_what_was_not_afforded_was_not_spent(results):
  for result, budget in zip(results, _BUDGETS, strict=True):
    assert result.cost.fits_within(budget)
  assert results[2].cost == costs.Cost() == results[4].cost
  assert results[1].cost.prompt_tokens > 3
  assert results[1].cost.verifier_calls == 0


def test_the_tree_tells_the_completion(bundles, results):
  tree = results[0].tree
  assert len(tree.finished()) >= 2 and results[0].completion
  assert results[0].completion == tree.completion(tree.chosen)
  answered = [n for n in tree.finished() if tree.answer[n] >= 0]
  best = max(answered, key=lambda n: tree.reward[n])
  assert tree.reward[tree.chosen] == tree.reward[best]
  for node in tree.finished():
    assert tree.path(node) == [node]
    assert tree.status[node] == tree_lib.Status.FINISHED
  assert len(tree.text) == len(tree.parent) and tree.text[0] == ""


def test_names_decide_what_is_sampled_not_places(bundles, results):
  order = [4, 2, 0, 1, 3]
  moved = _solve(bundles, order, _PLENTY)
  by_name = {_NAMES[i]: r for i, r in zip(order, moved, strict=True)}
  # Problem 0 had the same budget in both runs, but other neighbours.
  assert by_name["a"].tree.text == results[0].tree.text
  assert by_name["a"].cost == results[0].cost
  texts = {tuple(result.tree.text) for result in moved}
  assert len(texts) == 5


def test_keys_depend_on_seed_and_name():
  data = lambda *args: tuple(  # noqa: E731
    jax.random.key_data(search_lib.problem_key(*args)).tolist()
  )
  assert data(0, "a") == data(0, "a")
  assert len({data(0, "a"), data(1, "a"), data(0, "b")}) == 3


def test_bfloat16_models_run_on_bfloat16_caches(bundles):
  """One sample a problem; needs no verifier, and is done when it is done."""
  policy, _ = bundles
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), policy.params)
  policy = dataclasses.replace(policy, params=half)
  results = _solve(
    (policy, None), [0, 1], _PLENTY, registry.make("sample"), batch=2
  )
  assert {result.stop for result in results} == {"done"}
  assert all(result.cost.generated_tokens > 0 for result in results)


def test_room_for_prompts_changes_no_result(bundles, results):
  roomy = dataclasses.replace(_SETTINGS, prompt_tokens=40)
  again = _solve(bundles, range(5), _BUDGETS, settings=roomy)
  assert [r.completion for r in again] == [r.completion for r in results]
  assert [r.cost for r in again] == [r.cost for r in results]


def test_paths_run_from_the_first_step_down():
  tree = search_lib.TreeRecord(
    parent=np.asarray([-1, 0, 0, 1, 3]),
    reward=np.ones(5),
    status=np.asarray([2, 2, 1, 2, 3]),
    answer=np.full(5, -1),
    expanded_at=np.zeros(5),
    weight=np.zeros(5),
    text=["", "a", "b", "c", "d"],
    chosen=4,
  )
  assert tree.path(4) == [1, 3, 4] and tree.completion(4) == "acd"
  assert tree.path(0) == [] == tree.path(-1)
  assert tree.finished() == [4]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"prompts": ["Solve", " \n"]}, "problem 1: the prompt is empty"),
    ({"prompts": ["Solve", "1 " * 250]}, "problem 1: its prompt has .* 256"),
    ({"prompts": [], "names": []}, "no prompts"),
    ({"names": ["a"]}, "1 names for 2 prompts"),
    ({"names": ["a", "a"]}, "'a' occurs 2 times"),
    ({"budget": budget_lib.Budget(seconds=1.0)}, "cannot watch the clock"),
    ({"budget": [_PLENTY]}, "1 budgets for 2 problems"),
    ({"budget": budget_lib.Budget(flops=-1)}, "flops"),
    ({"batch": 0}, "batch must be at least 1"),
    (
      {
        "prompts": ["Solve", "1 " * 20],
        "settings": dataclasses.replace(_SETTINGS, prompt_tokens=9),
      },
      "problem 1: its prompt has .* room for 9",
    ),
    (
      {"settings": settings_lib.SearchSettings(hardware="abacus")},
      "abacus",
    ),
  ],
)
def test_refuses_bad_input_in_one_line(bundles, change, message):
  arguments = {
    "prompts": ["Solve", "Solve"],
    "names": ["a", "b"],
    "budget": _PLENTY,
    "settings": _SETTINGS,
  } | change
  with pytest.raises(ValueError, match=message) as caught:
    next(
      search_lib.solve(
        policy=bundles[0],
        verifier=bundles[1],
        decoder=_BEST,
        **arguments,
      )
    )
  assert "\n" not in str(caught.value)
