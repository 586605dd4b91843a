# SPDX-License-Identifier: Apache-2.0
"""Tests that searches on 8 simulated devices are those of one device."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import timing
from jaxttc import mesh as mesh_lib
from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import registry
from jaxttc.inference import controllers
from jaxttc.models import int8_weights
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

_SETTINGS = settings_lib.SearchSettings(
  sampler=controllers.Sampler(temperature=1.0),
  step_tokens=8,
  last_tokens=8,
  max_tokens=24,
  prompt_tokens=16,
  slots=68,  # an arena that grows would be compiled again
)
_DECODERS = {
  "sample": registry.make("sample"),
  "best_of_n": registry.make("best_of_n", {"n": 3}),
  "prm_beam": registry.make(
    "prm_beam", {"num_survivors": 2, "num_expansions": 2, "max_steps": 3}
  ),
  "astar": registry.make("astar", {"children": 2, "nodes": 24}),
}
_PROBLEMS = 11  # more than a batch, so that slots are refilled
_KV_HEADS, _BATCH = 4, 8


@pytest.fixture(scope="module")
def bundles():
  return tiny_models.tiny_bundles(1, kv_heads=_KV_HEADS)


def _search(bundles, decoder, mesh, seed=4):
  return search_lib.solve(
    [f"Solve {i} + {i % 3 + 2} .\n" for i in range(_PROBLEMS)],
    [f"p{i}" for i in range(_PROBLEMS)],
    *bundles,
    decoder,
    budget=budget_lib.Budget(generated_tokens=60),
    settings=_SETTINGS,
    seed=seed,
    batch=_BATCH,
    mesh=mesh,
  )


def _mesh(data, tensor):
  return mesh_lib.make_mesh(
    data, tensor, devices=jax.devices()[: data * tensor]
  )


@pytest.fixture(scope="module")
def alone(bundles):
  """Results on one device, by decoder; each is searched once."""
  found = {}

  def results(name):
    if name not in found:
      found[name] = list(_search(bundles, _DECODERS[name], None))
    return found[name]

  return results


def _same(got, expected):
  """Equal tokens, trees, costs and answers; rewards up to the last bits."""
  for ours, theirs in zip(got, expected, strict=True):
    assert ours.problem == theirs.problem
    assert ours.tree.text == theirs.tree.text
    assert ours.completion == theirs.completion
    assert ours.cost == theirs.cost
    assert (ours.stop, ours.rounds) == (theirs.stop, theirs.rounds)
    for name in ("parent", "status", "answer", "expanded_at"):
      np.testing.assert_array_equal(
        getattr(ours.tree, name), getattr(theirs.tree, name)
      )
    np.testing.assert_allclose(ours.tree.reward, theirs.tree.reward, atol=2e-5)


@pytest.mark.slow
def test_int8_searches_are_split_like_others(bundles):
  int8 = []
  for bundle in bundles:
    params = int8_weights.quantised(bundle.params, np.float32)
    params = jax.tree.map(jnp.asarray, params)
    int8.append(dataclasses.replace(bundle, params=params))
  decoder = _DECODERS["best_of_n"]
  alone = _search(int8, decoder, None)
  _same(_search(int8, decoder, _mesh(2, 2)), alone)


@pytest.mark.parametrize(
  ("name", "data", "tensor"),
  [
    ("sample", 8, 1),
    ("sample", 1, 2),
    ("best_of_n", 2, 4),
    ("astar", 2, 4),
  ],
)
def test_devices_together_search_as_one_alone(
  bundles, alone, name, data, tensor
):
  got = list(_search(bundles, _DECODERS[name], _mesh(data, tensor)))
  _same(got, alone(name))
  assert len({tuple(result.tree.text) for result in got}) > _PROBLEMS // 2


def test_caches_stay_split_and_nothing_is_compiled_twice(bundles, alone):
  decoder, mesh = _DECODERS["prm_beam"], _mesh(4, 2)
  list(_search(bundles, decoder, mesh))
  before = {id(array) for array in jax.live_arrays()}
  with timing.counting_compilations() as compiled:
    searching = _search(bundles, decoder, mesh)
    got = [next(searching)]  # slots were begun, searched, and refilled
    caches = [
      {shard.data.shape[:2] for shard in array.addressable_shards}
      for array in jax.live_arrays()
      if id(array) not in before
      and not array.is_deleted()
      and array.shape[:2] == (_BATCH, _KV_HEADS)
    ]
    got += searching
  assert compiled.count == 0
  # Keys and values of the policy's layer and of the verifier's two.
  assert caches == [{(_BATCH // 4, _KV_HEADS // 2)}] * (2 * (1 + 2))
  _same(got, alone("prm_beam"))


def test_refuses_what_the_mesh_cannot_hold(bundles):
  decoder = _DECODERS["sample"]
  with pytest.raises(ValueError, match="batch=8 cannot be split over data=3"):
    next(_search(bundles, decoder, _mesh(3, 1)))
  with pytest.raises(ValueError, match="model.kv_heads=4 .* tensor=8"):
    next(_search(bundles, decoder, _mesh(1, 8)))
