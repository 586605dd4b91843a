# SPDX-License-Identifier: Apache-2.0
"""The two models of a recipe, read and checked: together, and with prompts."""

from collections.abc import Callable, Sequence
import dataclasses

import jax

from jaxttc.cost import budget as budget_lib
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import problem_sets
from jaxttc.tasks import problems as problems_lib


def load_models(
  policy: str,
  verifier: str,
  mesh: jax.sharding.Mesh | None = None,
  dtype: str = "float32",
  attention: str = "auto",
  width: int | float = 1.0,
  template: str = "",
) -> tuple[bundle_lib.Bundle, bundle_lib.Bundle | None]:
  """Reads the two models; the verifier is None if its name is "".

  Args:
    policy: a model file, or the name of one that ships.
    verifier: likewise, or "".
    mesh: devices to spread them over; None for one device.
    dtype: one of `models.precision.NAMES`.
    attention: one of `models.attention_backend.NAMES`.
    width: of the policy, as `inference.narrowed` takes it.
    template: makes a generative verifier of a language model that was not
      trained to be one; see `solve_recipe.CheckOptions`.

  Raises:
    ValueError: if a file is missing or damaged, the dtype or the attention is
      unknown, the policy has no such width, or the two do not fit each other
      or the mesh.
  """

  def load(name, mesh=mesh):
    return bundle_lib.load(name, dtype, mesh, attention=attention)

  if width == 1:
    ours = load(policy)
  else:  # cut first: what is cut away may be what a device would hold
    ours = bundle_lib.narrowed(load(policy, None), width)
    ours = ours if mesh is None else bundle_lib.shard(ours, mesh)
  theirs = load(verifier) if verifier else None
  if theirs is not None and template:
    theirs = bundle_lib.as_verifier(theirs)
  bundle_lib.check_pair(ours, theirs)
  return ours, theirs


def weights_fingerprint(bundle: bundle_lib.Bundle | None) -> str:
  """`Bundle.weights_fingerprint`; "" for None."""
  return "" if bundle is None else bundle.weights_fingerprint


def fit_slots(
  settings: settings_lib.SearchSettings,
  decoder: base.Decoder,
  tokens: int | None,
) -> settings_lib.SearchSettings:
  """Makes the arena no larger than a budget of generated tokens can fill.

  Every token reads the whole arena, so room that stays empty costs time, and
  an arena that grows is compiled again: it starts small only if it can double
  within the budget. One step more than the budget keeps the budget, not the
  arena, in charge.

  Args:
    settings: the settings; `slots` that are set are let be.
    decoder: the strategy.
    tokens: most tokens that a problem may generate; None if unlimited.
  """
  if tokens is None or settings.slots is not None:
    return settings
  enough = tokens + settings.step_tokens
  if enough >= 2 * settings.arena_slots(decoder.shape):
    return settings
  return dataclasses.replace(settings, slots=enough)


def shown_prompts(
  verifier: bundle_lib.Bundle | None,
  problems: Sequence[problems_lib.Problem],
  prompts: Sequence[str],
) -> Callable[[str], str] | None:
  """From a prompt to what a published verifier is shown of it.

  A reward model with a chat template is asked the problem as a user would ask
  it; the template of a generative one shows the problem's own text.
  """
  if verifier is None:
    return None
  if verifier.writes_verdicts:
    own = dict(zip(prompts, (p.text for p in problems), strict=True))
    return own.__getitem__
  if verifier.step_format is None or not verifier.chats:
    return None
  texts = problem_sets.chats(verifier.tokenizer, [p.text for p in problems])
  return dict(zip(prompts, texts, strict=True)).__getitem__


def check_prompts(
  problems: list[problems_lib.Problem],
  prompts: list[str],
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  budget: budget_lib.Budget,
  settings: settings_lib.SearchSettings,
) -> None:
  """Refuses budgets that some prompt alone exceeds, and verifiers too short.

  Raises:
    ValueError: naming the problem, its length and the field; or as
      `runtime.search.encode`.
  """
  # A generative verifier reads nothing before there is a solution.
  writes = verifier is not None and verifier.writes_verdicts
  prices = settings_lib.prices(policy, None if writes else verifier, settings)
  room = policy.config.max_length
  if writes:
    room = verifier.config.max_length - settings.checks.max_tokens
    room -= settings.max_tokens
  meter = budget_lib.Meter.start(budget)
  encoded = search_lib.encode(policy, prompts, settings)
  for problem, ids in zip(problems, encoded, strict=True):
    if len(ids) > room:
      raise ValueError(
        f"problem {problem.id!r}: its prompt of {len(ids)} tokens, a solution "
        f"of {settings.max_tokens} and a verification of "
        f"{settings.checks.max_tokens} exceed the verifier's "
        f"{verifier.config.max_length if verifier else 0}"
      )
    field = meter.exhausted_by(prices.root(len(ids)))
    if field is not None:
      raise ValueError(
        f"problem {problem.id!r}: reading its prompt of {len(ids)} tokens "
        f"exceeds the budget of {field}={getattr(budget, field)}"
      )
