# SPDX-License-Identifier: Apache-2.0
"""No search ever spends more than its budget, on any field."""

import functools

import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import registry
from jaxttc.inference import scripted_engine
from jaxttc.runtime import audit, driver, search
from jaxttc.runtime import settings as settings_lib
from jaxttc.testing import tiny_models

SETTINGS = settings_lib.SearchSettings(
  step_tokens=8, max_tokens=24, hardware="a100-sxm-40gb"
)
DECODERS = {
  "self_consistency": {"n": 6, "wave": 2},
  "prm_beam": {"num_survivors": 2, "num_expansions": 2, "max_steps": 4},
  "particle_filter": {"particles": 3, "max_steps": 4},
}


@functools.lru_cache
def _models():
  return tiny_models.tiny_bundles(0)


@pytest.mark.parametrize("name", DECODERS)
def test_compiled_searches_keep_their_budgets(name):
  seen = audit.compiled_audit(
    *_models(), name, DECODERS[name], SETTINGS, draws=512, seed=0
  )
  assert seen.overspends == 0, seen
  assert seen.draws == 512
  assert set(seen.worst) == set(audit.AUDITED)
  # The draws were hard: most budgets bind, and some leave room to answer.
  assert seen.binding > 150 and 50 < seen.answered < 500


def test_driven_searches_keep_their_budgets():
  name = "prm_beam"
  seen = audit.driven_audit(
    *_models(), name, DECODERS[name], SETTINGS, draws=64, seed=1, slots=8
  )
  assert seen.overspends == 0, seen
  assert seen.binding > 15 and seen.answered > 5


@pytest.mark.parametrize("name", DECODERS)
def test_scripted_searches_keep_their_budgets(name):
  """Thousands of draws, as there is no model; a script writes rudely long."""

  def script(prefix, seed):
    rng = np.random.default_rng(seed)
    if rng.random() < 0.4:
      return f"so #### {rng.integers(3)}\n"
    return "so " * rng.integers(1, 30) + "\n"

  rng = np.random.default_rng(2)
  typical = costs.Cost(
    prompt_tokens=8, generated_tokens=60, verifier_tokens=60, verifier_calls=12
  )
  budgets = [
    audit.random_budget(rng, typical, costs.COUNTS) for _ in range(300)
  ]
  results = driver.drive(
    scripted_engine.ScriptedEngine(script, groups=32),
    scripted_engine.ScriptedVerifier(lambda text: 0.5, groups=32),
    registry.make(name, DECODERS[name]),
    ["Say so . " * (1 + i % 3) for i in range(300)],
    [str(i) for i in range(300)],
    budget=budgets,
    settings=settings_lib.SearchSettings(step_tokens=16, max_tokens=40),
  )
  seen = audit.examine(list(results), budgets)
  assert seen.draws == 300 and seen.overspends == 0, seen
  assert seen.binding > 50 and seen.answered > 20


def test_examine_sees_an_overspend():
  tree = search.TreeRecord(
    parent=np.array([-1]),
    reward=np.ones(1),
    status=np.ones(1),
    answer=-np.ones(1),
    expanded_at=-np.ones(1),
    weight=np.zeros(1),
    text=[""],
    chosen=-1,
  )
  result = search.SearchResult(
    problem=1,
    completion=None,
    cost=costs.Cost(generated_tokens=7, flops=1.0),
    stop="generated_tokens",
    rounds=1,
    tree=tree,
  )
  budgets = [
    budget_lib.Budget(),
    budget_lib.Budget(generated_tokens=5, flops=2.0),
  ]
  seen = audit.examine([result], budgets)
  assert (seen.draws, seen.limits, seen.overspends) == (1, 2, 1)
  assert seen.worst == {"generated_tokens": 2.0, "flops": -1.0}
  both = seen + audit.examine([], budgets)
  assert both == seen
