# SPDX-License-Identifier: Apache-2.0
import contextlib

import pytest

from jaxttc.solving import (
  model_names,
  problem_sets,
  routed_models,
  served_models,
  solve_recipe,
)


def test_names_of_models_with_widths(models):
  assert model_names.split("nested_lm@0.5") == ("nested_lm", 0.5)
  assert model_names.split("a/b.safetensors") == ("a/b.safetensors", 1.0)
  with pytest.raises(ValueError, match="has the width 'half'"):
    model_names.split("nested_lm@half")
  with pytest.raises(ValueError, match="at least two"):
    routed_models.load(["nested_lm"])
  with pytest.raises(ValueError, match="different"):
    routed_models.load(["nested_lm", "nested_lm"])
  nested = str(models / "nested.safetensors")
  found = routed_models.load(
    [f"{nested}@0.5", nested], str(models / "verifier.safetensors")
  )
  (small, reward), (large, same) = found.values()
  assert small.config.mlp_width < large.config.mlp_width and reward is same
  assert not isinstance(found[nested], served_models.Served)


def test_what_a_router_cannot_choose_among_is_refused():
  source = problem_sets.ProblemSource(count=1)
  served = solve_recipe.SolveRecipe(
    problems=source, policy="http://localhost:1/v1", width=0.5
  )
  with contextlib.ExitStack() as stack:
    with pytest.raises(ValueError, match="neither spread over a mesh nor"):
      routed_models.engines(served, (), None, stack)
    with pytest.raises(ValueError, match="among models of this process"):
      routed_models.engines(served, ("a", "b"), None, stack)
    with pytest.raises(ValueError, match="no model named|nowhere"):
      routed_models.engines(
        solve_recipe.SolveRecipe(problems=source), ("nowhere", "b"), None, stack
      )
