# SPDX-License-Identifier: Apache-2.0
"""A server of several models, and a name that picks among them."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import openai
import pytest

from jaxttc import serving
from jaxttc.allocators.routing import decision_log
from jaxttc.inference import bundle as bundle_lib
from jaxttc.predictors import routing
from jaxttc.serving import errors, routed_service
from jaxttc.serving import server as server_lib
from jaxttc.solving import router_files, solve_recipe

_EASY, _HARD = "Solve 3 + 4 .\n", "Solve 3 + 4 + 5 + 6 + 7 + 1 .\n"


@pytest.fixture(scope="module", name="bundles")
def _bundles(models):
  whole = dataclasses.replace(models[0], recipe={"widths": [0.5, 1.0]})
  return {"tiny@0.5": bundle_lib.narrowed(whole, 0.5), "tiny": whole}


@pytest.fixture(scope="module", name="file")
def _file(bundles):
  """Long questions are for the whole model."""
  embed = routing.hashed_ngrams.fit([_EASY, _HARD], bits=4, rank=1)
  easy, hard = embed([_EASY, _HARD])
  slope = (hard - easy) / ((hard - easy) @ (hard - easy))
  weights = np.stack([0 * slope, slope], 1)
  bias = jnp.array([0.5, float(-easy @ slope)])
  return router_files.RouterFile(
    router=routing.Router(
      quality=routing.linear.Linear(jnp.asarray(weights), bias),
      cost=routing.Constant(jnp.array([1.0, 2.0])),
      models=tuple(bundles),
      width=len(easy),
      unit="FLOPs",
    ),
    models=dict.fromkeys(bundles, ""),
    embed=embed,
  )


@pytest.fixture(scope="module", name="service")
def _service(file, bundles, models, tmp_path_factory):
  log = tmp_path_factory.mktemp("logs") / "decisions.jsonl"
  recipe = serving.ServeRecipe(
    policy="runs/auto.npz",
    decoder="best_of_n(n=1)",
    budget="generated_tokens=200",
    routing=router_files.RouterOptions(log=str(log)),
    sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=24),
    slots=2,
    steps=4,
    searches=2,
    warm_tokens=0,
  )
  return routed_service.RoutedService(recipe, file, bundles, models[1])


def _body(**fields):
  return json.dumps({"model": "auto", "prompt": _EASY} | fields).encode()


def test_requests_reach_the_model_that_suits_them(service):
  for prompt, name in ((_EASY, "tiny@0.5"), (_HARD, "tiny")):
    work = service.read(_body(prompt=prompt), chat=False)
    assert work.service.name == name and work.orders
  chat = {"prompt": None, "messages": [{"role": "user", "content": _HARD}]}
  assert service.read(_body(**chat), chat=True).service.name == "tiny"
  # By its own name each can still be asked.
  named = service.read(_body(model="tiny"), chat=False)
  assert named.service.name == "tiny"
  rows = decision_log.read(service._log)
  assert [row.choice for row in rows] == ["tiny@0.5", "tiny", "tiny"]


@pytest.mark.parametrize(
  "fields, status, message",
  [
    (
      dict(model="tiny_lm"),
      404,
      "this server serves 'auto', 'tiny@0.5', 'tiny'",
    ),
    (dict(prompt=[_EASY, _HARD]), 400, "2 prompts; expected one"),
    (dict(prompt="3 " * 400), 400, "exceed the context"),
    (dict(prompt="\ud800"), 400, "half a surrogate pair"),
    (dict(decoder="bets_of_n"), 400, "best_of_n"),
  ],
)
def test_what_cannot_be_is_refused_before_it_is_routed(
  service, fields, status, message
):
  rows = len(decision_log.read(service._log))
  with pytest.raises(errors.ApiError, match=message) as caught:
    service.read(_body(**fields), chat=False)
  assert caught.value.status == status
  assert len(decision_log.read(service._log)) == rows


def test_names_must_differ(service, file, bundles, models):
  recipe = dataclasses.replace(service.parts[0]._recipe, name="tiny")
  with pytest.raises(ValueError, match="called the same"):
    routed_service.RoutedService(recipe, file, bundles, models[1])


def test_a_client_is_told_who_answered(service):
  with server_lib.running(service) as url:
    client = openai.OpenAI(
      base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=120
    )
    assert {m.id for m in client.models.list().data} == {
      "auto",
      "tiny",
      "tiny@0.5",
    }
    assert client.models.retrieve("auto").max_model_len == 256
    for prompt, name in ((_EASY, "tiny@0.5"), (_HARD, "tiny")):
      routed, named = (
        client.completions.create(model=m, prompt=prompt, seed=1, max_tokens=9)
        for m in ("auto", name)
      )
      assert routed.model == named.model == name
      assert routed.choices[0].text == named.choices[0].text
    search = client.completions.create(
      model="auto", prompt=_HARD, seed=1, extra_body={"decoder": "greedy"}
    )
    assert search.model == "tiny" and search.search["decoder"] == "greedy"
