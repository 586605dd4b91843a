# SPDX-License-Identifier: Apache-2.0
"""Ways to think written as calls, for flags and config files.

    thinking_text.build("guided(budget=120, strength=4)", model, limit=400)

  full()                 as long as the model likes
  no_thinking()          an empty span
  hard_cap(budget)       closed at the budget
  budget_forcing(budget, least_share, ignores, wait)
                         likewise, and made to go on where it ends early
  prompt_hint(budget, style, words)
                         asked to be short, closed at the budget
  no_wait(budget)        without words that begin a thought anew
  soft_close(budget, soft_ratio, slope, grace)
                         the closing token ever likelier, then a grace
  rejection(budget, tries)
                         drawn again until one fits
  early_exit(budget, threshold, trial_tokens)
                         closed when a trial answer is sure
  guided(budget, strength, every_token, top_k, capped, predictor)
                         bent by the chance to finish in time

A budget counts the tokens of the thinking span, its closing one included. With
adaptive='thinking_difficulty' (any estimator's file), it is the mean of a
question, and each question's own follows from how hard it looks.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxttc.cost import jaxpr_flops
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import (
  controllers,
  guidance,
  repeated_thoughts,
  suppression,
  thinking_policies,
  thinking_span,
  thoughts,
  trial_exit,
)
from jaxttc.inference import thinker as thinker_lib
from jaxttc.predictors import length_predictor, remaining_length
from jaxttc.solving import call_text
from jaxttc.tasks import problems as problems_lib

UNLIMITED = ("full", "no_thinking")
_EXAMPLE = "guided(budget=120)"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
  """A way to think, of one model.

  Attributes:
    name: as the text has it.
    budget: tokens of a span; None if the text does not say.
    think: thinks.
    thinks: whether the span is opened; else it is empty.
    style: how solutions are asked for (`tasks.problems.STYLES`).
    words: what is put behind the question, "{budget}" standing for the budget;
      "" for nothing.
    grace: most tokens by which a span may exceed its budget; None if there is
      no bound.
    guide_flops: FLOPs of bending one token.
    mark: fingerprint of the predictor; "" if there is none.
    adaptive: estimator of difficulty by which budgets are split
      (`predictors.thinking_difficulty`); "" for equal ones.
  """

  name: str
  budget: int | None
  think: thoughts.Think
  thinks: bool = True
  style: str = "free"
  words: str = ""
  grace: int | None = 0
  guide_flops: int = 0
  mark: str = ""
  adaptive: str = ""

  @property
  def limited(self) -> bool:
    """Whether it keeps a budget."""
    return self.name not in UNLIMITED


@dataclasses.dataclass(frozen=True)
class _Kit:
  """What ways are made from."""

  policy: bundle_lib.Bundle
  limit: int
  sampler: controllers.Sampler | None

  @property
  def end(self) -> int:
    return thinking_span.end_id(self.policy.tokenizer)

  @property
  def lines(self) -> tuple[int, ...]:
    return guidance.line_tokens(self.policy.tokenizer)

  def thinker(
    self, policy: thinking_policies.ThinkingPolicy
  ) -> thinker_lib.Thinker:
    return policy.thinker(self.policy, limit=self.limit, sampler=self.sampler)

  def way(self, policy: thinking_policies.ThinkingPolicy, **fields) -> Way:
    """A way of a single run."""
    return Way(
      name="",
      budget=None,
      think=self.thinker(policy),
      thinks=policy.thinks,
      style=policy.style,
      **fields,
    )


def parse(text: str) -> tuple[str, dict[str, Any], int | None]:
  """What a text says: the way's name, its arguments, and its budget, if any.

  Raises:
    ValueError: if the text is malformed, or the name or an argument is unknown
      or of another type.
  """
  name, said = call_text.parse(text, "thinking", _EXAMPLE)
  arguments = call_text.checked(
    name,
    said,
    _WAYS,
    "way of thinking",
    shared={} if name in UNLIMITED else {"budget": int, "adaptive": str},
  )
  return name, arguments, arguments.pop("budget", None)


def build(
  text: str,
  policy: bundle_lib.Bundle,
  *,
  limit: int,
  sampler: controllers.Sampler | None = None,
) -> Way:
  """The way to think that a text describes.

  Args:
    text: `name` or `name(key=literal, ...)`; see the module docstring.
    policy: a language model that thinks, on one device.
    limit: most tokens of a row, thinking and answer together.
    sampler: how tokens are drawn, by default from the model as it is.

  Raises:
    ValueError: in one line, if the text is malformed, the name or an argument
      is unknown (the nearest is named), a value is refused, the budget leaves
      no token for the answer, or the model does not think.
  """
  name, arguments, budget = parse(text)
  adaptive = arguments.pop("adaptive", "")
  if budget is not None:
    check_budget(budget, limit, f"thinking {text!r}: budget")
  made = _WAYS[name](_Kit(policy, limit, sampler), **arguments)
  return dataclasses.replace(made, name=name, budget=budget, adaptive=adaptive)


def check_budget(budget: int, limit: int, what: str = "budget") -> None:
  """Raises ValueError unless a budget leaves a token for the answer.

  Args:
    budget: tokens of the span.
    limit: most tokens of span and answer.
    what: what to call it.
  """
  if not 1 <= budget < limit:
    raise ValueError(
      f"{what} is {budget}; expected 1..{limit - 1}, since "
      f"thinking and answer together have {limit} tokens"
    )


def _full(kit: _Kit) -> Way:
  return kit.way(thinking_policies.full(), grace=None)


def _no_thinking(kit: _Kit) -> Way:
  return kit.way(thinking_policies.no_thinking())


def _hard_cap(kit: _Kit) -> Way:
  return kit.way(thinking_policies.hard_cap(end=kit.end))


def _budget_forcing(
  kit: _Kit,
  *,
  least_share: float = 0.5,
  ignores: int = 1,
  wait: str = "Wait",
) -> Way:
  return kit.way(
    thinking_policies.forced(
      end=kit.end,
      wait=kit.policy.tokenizer.encode(wait),
      least_share=least_share,
      ignores=ignores,
    )
  )


def _prompt_hint(kit: _Kit, *, style: str = "", words: str = "") -> Way:
  style = style or ("free" if words else "terse")
  problems_lib.require_name(style, problems_lib.STYLES, "style")
  return kit.way(
    thinking_policies.hinted(end=kit.end, style=style), words=words
  )


def _no_wait(kit: _Kit) -> Way:
  words = suppression.reflection_tokens(kit.policy.tokenizer)
  return kit.way(thinking_policies.no_wait(end=kit.end, words=words))


def _soft_close(
  kit: _Kit, *, soft_ratio: float = 0.75, slope: float = 1.0, grace: int = 0
) -> Way:
  made = thinking_policies.soft_close(
    end=kit.end,
    lines=kit.lines,
    soft_ratio=soft_ratio,
    slope=slope,
    grace=grace,
  )
  return kit.way(made, grace=grace)


def _rejection(kit: _Kit, *, tries: int = 8) -> Way:
  capped = kit.thinker(thinking_policies.hard_cap(end=kit.end))
  return Way(
    name="",
    budget=None,
    think=repeated_thoughts.RepeatedThinker(capped, tries=tries),
  )


def _early_exit(
  kit: _Kit, *, threshold: float = 0.95, trial_tokens: int = 20
) -> Way:
  made = trial_exit.TrialExit(
    kit.policy,
    threshold=threshold,
    limit=kit.limit,
    sampler=kit.sampler,
    trial_tokens=trial_tokens,
  )
  return Way(name="", budget=None, think=made)


def _guided(
  kit: _Kit,
  *,
  strength: float = 8.0,
  every_token: bool = False,
  top_k: int = 16,
  capped: bool = True,
  predictor: str = "thinking_length",
) -> Way:
  found = length_predictor.load(predictor)
  # Inside lines all candidates are believed; see docs/budget_guidance.md.
  trust = None if every_token else remaining_length.TRUST
  chance = found.chance(kit.policy, trust=trust)
  made = thinking_policies.guided(
    chance,
    end=kit.end,
    lines=kit.lines,
    every_token=every_token,
    strength=strength,
    top_k=top_k,
    capped=capped,
  )
  guidance.likeliest(jnp.zeros((1, kit.policy.config.vocab_size)), top_k)
  config = kit.policy.config
  flops = jaxpr_flops.count_flops(
    chance,
    jax.ShapeDtypeStruct(
      (1, config.layers + 1, config.width), kit.policy.dtype
    ),
    jax.ShapeDtypeStruct((1, min(top_k, config.vocab_size)), jnp.int32),
    jax.ShapeDtypeStruct((1,), jnp.int32),
  )
  return kit.way(
    made,
    grace=0 if capped else None,
    guide_flops=flops,
    mark=found.weights_fingerprint,
  )


_WAYS: dict[str, Callable[..., Way]] = {
  "full": _full,
  "no_thinking": _no_thinking,
  "hard_cap": _hard_cap,
  "budget_forcing": _budget_forcing,
  "prompt_hint": _prompt_hint,
  "no_wait": _no_wait,
  "soft_close": _soft_close,
  "rejection": _rejection,
  "early_exit": _early_exit,
  "guided": _guided,
}

NAMES = tuple(_WAYS)
