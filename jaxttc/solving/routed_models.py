# SPDX-License-Identifier: Apache-2.0
"""Models to choose from, by name: files, widths of a file, and servers.

engines = routed_models.load(
  ["nested_lm@0.25", "nested_lm@0.5", "nested_lm"], "arithmetic_prm"
)
rows = policy_solving.solve(problems, engines, budget, policy="plain")
"""

from collections.abc import Sequence
import contextlib
from typing import Any

import jax

from jaxttc.solving import (
  decoder_text,
  loading,
  model_names,
  router_files,
  served_models,
  solve_recipe,
)


def load(
  names: Sequence[str],
  verifier: str = "",
  *,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = "float32",
  attention: str = "auto",
  template: str = "",
) -> dict[str, served_models.Engine]:
  """Reads language models that share a reward model.

  Args:
    names: model files or names of models that ship, each with "@width" behind
      it for a width that it was trained at; the cheapest first.
    verifier: the reward model; "" for none.
    mesh: devices to spread them over; None for one device.
    dtype: one of `models.precision.NAMES`.
    attention: one of `models.attention_backend.NAMES`.
    template: of the verifier, as `loading.load_models` takes it.

  Returns:
    (language model, reward model) by name, in their order.

  Raises:
    ValueError: if there are fewer than two names, one comes twice or has a
      width that is no number, or as `loading.load_models`.
  """
  parsed = [model_names.split(name) for name in names]  # all before any is read
  if len(names) < 2 or len(set(parsed)) < len(parsed):
    raise ValueError(
      f"router: expected different models, at least two, got {list(names)}"
    )
  found, reward = {}, None
  for name, (file, width) in zip(names, parsed, strict=True):
    language, reward_of_this = loading.load_models(
      file, verifier, mesh, dtype, attention, width=width, template=template
    )
    reward = reward or reward_of_this  # one, so that it is compiled once
    found[name] = language, reward
  return found


def engines(
  recipe: solve_recipe.SolveRecipe,
  router: Sequence[str],
  mesh: jax.sharding.Mesh | None,
  stack: contextlib.ExitStack,
) -> dict[str, Any]:
  """The models of a recipe, or those of a router in their place.

  Args:
    recipe: of `policy_solving.solve_to_file`.
    router: names for `load`; none for the recipe's own models, called "".
    mesh: devices to spread them over.
    stack: hangs up when it is closed.

  Raises:
    ValueError: as `load`, `loading.load_models` or `served_models.connect`.
  """
  names = (recipe.policy, recipe.verifier, *router)
  served = [name for name in names if served_models.is_url(name)]
  if router_files.is_router(recipe.policy):
    raise ValueError(
      f"{recipe.policy}: a router picks one model of its own for each problem; "
      "leave the policy out, or name the models it should choose among"
    )
  if router:
    if served:
      raise ValueError(
        f"{served[0]}: a router chooses among models of this process; give "
        "served ones to solving.policy_solving.solve"
      )
    return dict(
      load(
        router,
        recipe.verifier,
        mesh=mesh,
        dtype=recipe.dtype,
        attention=recipe.attention,
        template=recipe.sampling.checks.template,
      )
    )
  if served:
    return {"": _connected(recipe, mesh, stack)}
  return {
    "": loading.load_models(
      recipe.policy,
      recipe.verifier,
      mesh,
      recipe.dtype,
      recipe.attention,
      width=recipe.width,
      template=recipe.sampling.checks.template,
    )
  }


def _connected(recipe, mesh, stack) -> served_models.Served:
  if mesh is not None or recipe.width != 1:
    raise ValueError(
      "a served model is neither spread over a mesh nor narrowed; leave mesh "
      "and width out"
    )
  # The verifier must be served, too: one of this process reads token ids.
  decoder = "best_of_n(n=1)"
  if not served_models.is_url(recipe.verifier):
    decoder = "adaptive_sc(n=2)"
  served = served_models.connect(
    recipe.policy,
    recipe.verifier,
    decoder_text.cached(decoder),
    recipe.sampling.build(),
    recipe.endpoint,
    model=recipe.model,
    verifier_model=recipe.verifier_model,
    slots=recipe.batch,
    dtype=recipe.dtype,
    attention=recipe.attention,
  )
  stack.callback(served.close)
  return served
