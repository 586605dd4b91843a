# SPDX-License-Identifier: Apache-2.0
"""From requests to work, and what cannot be served at all."""

import dataclasses
import json
import pathlib
import queue

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc import serving, tasks
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import bundle as bundle_lib
from jaxttc.serving import errors, prompts
from jaxttc.serving import service as service_lib
from jaxttc.solving import solve_recipe


def _service(models, verifier=True, **changes):
  recipe = serving.ServeRecipe(
    policy="tiny",
    slots=1,
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=24),
    **changes,
  )
  return serving.Service(recipe, models[0], models[1] if verifier else None)


def _read(service, chat=False, **fields):
  what = {"prompt": "Solve 3 .\n"}
  if chat:
    what = {"messages": [{"role": "user", "content": "Solve 3 ."}]}
  body = {"model": service.name} | what | fields
  return service.read(json.dumps(body).encode(), chat=chat)


@pytest.fixture(scope="module")
def service(models):
  return _service(models)


def test_orders_are_distinct_choices_of_one_seed(service):
  work = _read(service, n=3, seed=4, max_tokens=5, temperature=0.5, stop="x")
  assert len({order.seed for order in work.orders}) == 3
  assert work.orders == _read(service, **_FIELDS).orders
  assert work.orders[0] == _read(service, **(_FIELDS | {"n": 1})).orders[0]
  for order in work.orders:
    assert (order.limit, order.stop) == (5, ("x",))
    assert order.sampler.temperature == 0.5
    assert not (order.stream or order.scored)
  assert work.search is None
  assert work.prompt_tokens == len(work.orders[0].prompt.tokens)


_FIELDS = {
  "n": 3,
  "seed": 4,
  "max_tokens": 5,
  "temperature": 0.5,
  "stop": "x",
}


def test_an_order_without_a_seed_gets_one_of_its_own(service):
  seeds = {_read(service).orders[0].seed for _ in range(5)}
  assert len(seeds) == 5


def test_a_context_below_the_models_is_kept(models):
  service = _service(models, limits=serving.Limits(context=20))
  length = _read(service, max_tokens=1).prompt_tokens
  assert _read(service, max_tokens=20 - length).orders
  with pytest.raises(errors.ApiError, match="exceed the context of 20"):
    _read(service, max_tokens=21 - length)
  assert _read(service).orders[0].limit == 20 - length
  with pytest.raises(errors.ApiError, match="exceed the context of 20"):
    _read(service, prompt="7 " * 20)


def test_without_a_verifier_only_decoders_that_need_none(models):
  service = _service(models, verifier=False)
  for fields in ({"budget": {}}, {"decoder": "astar(children=4)"}):
    with pytest.raises(errors.ApiError, match="has no verifier") as caught:
      _read(service, **fields)
    assert caught.value.param == "decoder"
  assert _read(service, decoder="self_consistency(n=4)").search is not None
  assert _read(service).orders


def test_a_generative_verifier_serves_whole_solutions(models):
  pair = models[0], bundle_lib.as_verifier(models[0])
  with pytest.raises(ValueError, match="astar.*judges whole ones"):
    _service(pair, decoder="astar(children=2)")
  service = _service(
    pair, decoder="best_of_n(n=2)", limits=serving.Limits(children=8)
  )
  text = "best_of_n(n=2, verifications=3)"
  order = _read(service, decoder=text).search
  engines = service.searches._ready(order)
  assert engines.verifier.samples == 3
  for text, message in (
    ("astar(children=2, nodes=8)", "judges whole ones"),
    ("best_of_n(n=2, verifications=9)", "wants 9 verifications"),
  ):
    with pytest.raises(errors.ApiError, match=message):
      _read(service, decoder=text)


def test_greedy_searches_are_greedy(service):
  assert _read(service, decoder="greedy").search.sampler.temperature == 0
  asked = _read(service, decoder="best_of_n(n=2)", temperature=0.3).search
  assert asked.sampler.temperature == 0.3
  assert (
    asked.decoder is _read(service, decoder="best_of_n(n=2)").search.decoder
  )


def test_budgets_are_the_least_of_all_that_limits(models):
  service = _service(models, budget="generated_tokens=100,verifier_calls=50")
  budget = _read(
    service,
    budget={"verifier_calls": 9, "flops": 1e9},
    max_thinking_tokens=80,
    max_tokens=60,
  ).search.budget
  assert budget.as_dict() == {
    "generated_tokens": 60,
    "verifier_calls": 9,
    "flops": 1e9,
  }
  low = _read(service, reasoning_effort="low").search.budget
  assert low.as_dict() == {"generated_tokens": 20, "verifier_calls": 10}


@hypothesis.given(
  st.dictionaries(
    st.sampled_from(costs.FIELDS), st.integers(0, 10**6), max_size=5
  ),
  st.floats(0, 1),
)
def test_a_share_of_a_budget_is_within_it(limits, share):
  whole = budget_lib.Budget.from_dict(limits)
  part = service_lib.scaled(whole, share).validate().as_dict()
  assert part.keys() == limits.keys()
  for name, limit in limits.items():
    assert 0 <= part[name] <= limit
    if name in costs.COUNTS and limit:
      assert part[name] >= 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"decoder": "asta"}, "did you mean 'astar'"),
    ({"budget": "tokens=3"}, "has no field 'tokens'"),
    ({"budget": "dollars=3"}, "recipe.budget.dollars cannot be kept"),
    ({"warm_tokens": -1}, "warm_tokens must be at least 0, got -1"),
    ({"limits": serving.Limits(requests=0)}, "limits.requests must be at"),
    ({"limits": serving.Limits(drain_s=float("nan"))}, "limits.drain_s"),
  ],
)
def test_recipes_that_cannot_be_are_refused(models, changes, message):
  with pytest.raises(ValueError, match=message) as caught:
    _service(models, **changes)
  assert not isinstance(caught.value, errors.ApiError)


def test_models_that_do_not_fit_are_refused(models):
  with pytest.raises(ValueError, match="the policy is a process_reward"):
    _service(models[::-1])


_TEMPLATE = """
{%- if messages[0].role != "system" -%}
  {{ raise_exception("this template wants a system message") }}
{%- endif -%}
{%- for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor -%}
"""


def _templated(model):
  """The same model, with a tokenizer that brings a chat template."""
  folder = pathlib.Path(__file__).parents[1] / "data" / "hf" / "tokenizer"
  files = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
  tokenizer = tasks.PretrainedTokenizer(
    files | {"chat_template.jinja": _TEMPLATE}, [0]
  )
  return dataclasses.replace(model, tokenizer=tokenizer)


def test_a_template_is_used_where_there_is_one(models):
  system = {"role": "system", "content": "s"}
  user = {"role": "user", "content": "u"}
  model = _templated(models[0])
  assert prompts.prompt_of(model, [system, user]) == "<system>s<user>u"
  with pytest.raises(errors.ApiError, match="template wants a system message"):
    prompts.prompt_of(model, [user])
  assert prompts.prompt_of(models[0], [system, user]) == "u\n"
  for last in ({"role": "assistant", "content": "a"}, system):
    with pytest.raises(errors.ApiError, match="last message must be the user"):
      prompts.prompt_of(models[0], [user, last])


def test_a_chat_and_its_prompt_are_one_order(service):
  chat = _read(service, chat=True, seed=1, max_tokens=9)
  assert chat.orders == _read(service, seed=1, max_tokens=9).orders


def test_warming_up_leaves_nothing_to_compile(models):
  service = _service(models, warm_tokens=16, decoder="greedy")
  service.start()
  try:
    engine, traced = service.scheduler._engine, service.scheduler.compilations
    for length in (2, 9, 14):
      assert _served(service, "7 " * length)[-1].tokens <= 3
    assert service.scheduler.compilations == traced
    assert service.scheduler._engine is engine
  finally:
    service.close()


def _served(service, prompt):
  """What is delivered for one short completion of a prompt."""
  events = queue.Queue()
  work = _read(service, prompt=prompt, max_tokens=3, seed=1)
  service.scheduler.submit(work.orders, lambda index, event: events.put(event))
  found = [events.get()]
  while not isinstance(found[-1], service_lib.scheduler.Ended):
    found.append(events.get())
  return found


def test_models_are_kept_as_the_recipe_says(tmp_path, models):
  for name, bundle in zip(("policy", "verifier"), models, strict=True):
    bundle_lib.save(str(tmp_path / f"{name}.safetensors"), bundle)
  recipe = serving.ServeRecipe(
    policy=str(tmp_path / "policy.safetensors"),
    verifier=str(tmp_path / "verifier.safetensors"),
    dtype="int8",
    attention="plain",
    slots=1,
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=24),
  )
  service = serving.Service.load(recipe)
  for bundle in (service.policy, service.verifier):
    assert bundle.stored_dtype == "int8" and bundle.attention == "plain"
  with pytest.raises(ValueError, match="dtype is 'int3'; expected one of"):
    serving.Service.load(dataclasses.replace(recipe, dtype="int3"))
