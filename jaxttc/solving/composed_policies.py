# SPDX-License-Identifier: Apache-2.0
"""Budget policies put together from named stages: route, plan, decode, verify.

    decode=best_of_n(n=4)@96 + guided(budget=14)@40; verify=doubt(sure=0.9)

A text has a part a stage, `name=value` with semicolons between; only `decode`
must be said, and not even that of a fitted route.

  route   first: every problem is asked the first arm (the default);
          fitted(policy='FILE'): the arm that a fitted policy forecasts best
  plan    whole (the default); uniform, or one of `decay_schedules.SCHEDULES`:
          how an arm `parts(...)` shares its cap over sub-questions
  decode  arms (`arm_text`) with " + " between, each `MODEL: call(...) @ CAP`;
          MODEL where there are several, CAP in generated tokens, by default
          the mean budget of a problem
  verify  one of `verify_stages.STAGES`; by default doubt, after a fitted
          route the cascade of the policy, if it has one

Nothing is forecast but by a fitted route: problems get an even share for their
first try, and what that leaves goes to the answers that `verify` doubts.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
from typing import Any

from jaxtyping import Float
import numpy as np

from jaxttc.allocators import decay_schedules, part_policies, policies
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base as decoders_base
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  arm_text,
  budget_policies,
  call_text,
  decoder_text,
  line_steps,
  solve_recipe,
  stage_text,
  verify_stages,
)
from jaxttc.tasks import problems as problems_lib

PLANS = ("whole", "uniform", *decay_schedules.SCHEDULES)
_TOKENS = "generated_tokens"
_CASCADE = "cascade"  # the verify stage of a fitted policy
_SHARES = 2.0  # of the mean budget of other fields, that a try may cost


@dataclasses.dataclass(frozen=True, eq=False)
class ComposedPolicy:
  """Arms and stages.

  Attributes:
    arms: in the order in which they are asked; those of one model and decoder
      side by side, by rising cap.
    each: the mean budget of a problem.
    style: how solutions are asked for, one of `tasks.problems.STYLES`.
    sampling: how tokens are drawn.
    ranks: of the arms; see `verify_stages.Arms`.
    shares: of the mean budget of other fields than tokens, that a try of each
      arm may cost.
    flops: of a token of each arm's model; infinite if that is not known.
    plan: one of `PLANS`.
    verify: text of the verify stage.
    fitted: whose forecasts route; None asks the first arm.

  Raises:
    ValueError: if there are no arms, one cannot be, or a stage is unknown.
  """

  arms: tuple[budget_policies.Arm, ...]
  each: budget_lib.Budget
  style: str
  sampling: solve_recipe.SamplingOptions
  ranks: tuple[int, ...]
  shares: tuple[float, ...]
  flops: tuple[float, ...]
  plan: str = "whole"
  verify: str = "doubt"
  fitted: budget_policies.BudgetPolicy | None = None

  def __post_init__(self) -> None:
    if not self.arms:
      raise ValueError("policy: expected at least one arm")
    held = set(zip(self.arms, self.shares, strict=True))
    if len(held) < len(self.arms):
      raise ValueError("policy: two arms are the same")
    kinds = set()
    for arm in self.arms:
      kinds.add(arm_text.check(arm.decoder))
      if arm.cap < 1:
        raise ValueError(f"policy: arm {arm.decoder!r} has the cap {arm.cap}")
    problems_lib.require_name(self.plan, PLANS, "plan")
    if self.plan != "whole" and not any(map(_in_parts, self.arms)):
      raise ValueError(
        f"policy: plan={self.plan} shares a cap over sub-questions, and no arm "
        "is carried out in parts; expected one such as parts(roll_over='next')"
      )
    if self.verify != _CASCADE:
      verify_stages.parse(self.verify)
    elif self.fitted is None or self.fitted.cascade is None:
      raise ValueError(
        "policy: verify=cascade needs a fitted route whose policy has one"
      )

  @property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two policies."""
    content = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ("fitted", "sampling", "each")
    }
    content |= {
      "each": self.each.as_dict(),
      "sampling": self.sampling.identity(),
      "fitted": self.fitted and self.fitted.fingerprint,
    }
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def check_fields(self, fields: Sequence[str]) -> None:
    """Refuses fields of which a problem has no share.

    Raises:
      ValueError: naming the field.
    """
    if self.fitted is not None:
      self.fitted.check_fields(fields)
    for name in fields:
      if name not in self.each.as_dict():
        raise ValueError(f"budget: the policy was made without {name}")

  def check_models(self, engines: Mapping[str, Any]) -> None:
    """Any models will do that have the arms' names, but of a fitted route.

    Raises:
      ValueError: if an arm's model is missing, or another than was fitted.
    """
    if self.fitted is not None:
      self.fitted.check_models(engines)
    for arm in self.arms:
      if arm.model not in engines:
        raise ValueError(
          f"policy: asks the model {arm.model!r}, got {sorted(engines)}"
        )

  def build(
    self, decoder: str
  ) -> tuple[decoders_base.Decoder, settings_lib.SearchSettings]:
    """A decoder of the policy, and how its tokens are drawn."""
    return decoder_text.cached(decoder), self.sampling.build_for(decoder)

  def limits(self, arm: int, fields: Sequence[str]) -> budget_lib.Budget:
    """What an attempt of an arm is held to."""
    if self.fitted is not None:
      return self.fitted.limits(self._place(arm), fields)
    held = {
      name: int(self.shares[arm] * each)
      if name in costs.COUNTS
      else self.shares[arm] * each
      for name, each in self.each.as_dict().items()
    }
    return budget_lib.Budget(**(held | {_TOKENS: self.arms[arm].cap}))

  def _place(self, arm: int) -> int:
    """Of an arm in the fitted policy."""
    assert self.fitted is not None
    return self.fitted.arms.index(self.arms[arm])

  def compose(
    self,
    problems: Sequence[problems_lib.Problem],
    fields: Sequence[str],
    decode: policies.Decode,
    engines: Mapping[str, Any] | None = None,
  ) -> tuple[budget_policies.Predicted, policies.Policy]:
    """What is expected of each arm, and the policy for `policies.Run`.

    Without a fitted route nothing is forecast: successes are NaN, and tokens
    what they are at most.

    Args:
      problems: those to be asked, at least one; the run's questions are their
        places.
      fields: that the budget limits.
      decode: carries a wave out; its results are `runtime.SearchResult`s.
      engines: models by name, for verify stages that ask some.
    """
    stage = self._stage(problems, engines or {})
    most = self._most(fields) + np.array(
      [float(getattr(stage.most, name)) for name in fields]
    )
    predicted, forecast, cascade = self._forecast(problems, fields, most)
    split = None
    if self.plan == "uniform":
      split = part_policies.uniform(line_steps.by_lines)
    elif self.plan != "whole":
      split = part_policies.plan(line_steps.by_lines, self.plan)
    composed = policies.compose(
      most,
      [arm.cap for arm in self.arms],
      budget_policies.search_groups(self.arms),
      route=lambda _: forecast,
      plan=policies.whole
      if split is None
      else lambda place, tokens: split(problems[place].text, tokens),
      decode=decode,
      verify=stage.verify if cascade is None else cascade,
    )
    return predicted, composed

  def _forecast(self, problems, fields, most):
    """Predictions, the router's forecast, and a fitted verify stage or None."""
    rows, count = len(problems), len(self.arms)
    if self.fitted is not None:
      predicted, whole = self.fitted.compose(problems, fields, lambda _: ())
      places = [self._place(arm) for arm in range(count)]
      forecast = whole.route(problems)
      cascade = None
      if self.verify == _CASCADE:
        cascade = _of_arms(whole.verify, places)
      return (
        budget_policies.Predicted(*(part[:, places] for part in predicted)),
        policies.Forecast(forecast.score[:, places], forecast.cost[:, places]),
        cascade,
      )
    caps = np.array([float(arm.cap) for arm in self.arms])
    expected = most.copy()
    if "flops" in fields:
      place = list(fields).index("flops")
      whole = np.array(self.flops) * self.sampling.max_tokens
      expected[:, place] = np.minimum(most[:, place], whole)
    # The first arm first, and any problem like any other.
    told = self._told(problems, {})
    first = [arm for arm, rank in enumerate(self.ranks) if not rank]
    score = np.tile(verify_stages.stand_ins(told, first, 0, 0.5), (rows, 1))
    return (
      budget_policies.Predicted(
        np.full((rows, count), np.nan), np.tile(caps, (rows, 1))
      ),
      policies.Forecast(score, np.tile(expected, (rows, 1, 1))),
      None,
    )

  def _most(self, fields: Sequence[str]) -> Float[np.ndarray, "K F"]:
    """What arms can cost on the limited fields."""
    limits = [self.limits(i, fields).as_dict() for i in range(len(self.arms))]
    return np.array([[float(held[n]) for n in fields] for held in limits])

  def _stage(self, problems, engines) -> verify_stages.Stage:
    if self.verify == _CASCADE:
      return verify_stages.Stage(policies.accept)  # replaced by the fitted one
    return verify_stages.make(self.verify, self._told(problems, engines))

  def _told(self, problems, engines) -> verify_stages.Arms:
    """What verify stages are told of the arms."""
    rewarded = [_rewarded(arm) for arm in self.arms]
    return verify_stages.Arms(
      ranks=self.ranks,
      caps=[arm.cap for arm in self.arms],
      repeats=[self._repeats(arm) for arm in self.arms],
      rewarded=rewarded,
      voting=[
        arm_text.kind(arm.decoder) == arm_text.SEARCH and not scored
        for arm, scored in zip(self.arms, rewarded, strict=True)
      ],
      engines=engines,
      models=[arm.model for arm in self.arms],
      problems=problems,
    )

  def _repeats(self, arm: budget_policies.Arm) -> bool:
    """Whether its answers are drawn, so that another try is another answer."""
    said = None
    if arm_text.kind(arm.decoder) == arm_text.SEARCH:
      said = decoder_text.parse(arm.decoder).temperature
    return bool(self.sampling.temperature if said is None else said)


def _of_arms(verify: policies.Verify, places: Sequence[int]) -> policies.Verify:
  """A verify stage of many arms, for some of them."""

  def decide(place, attempt, outcome, before):
    def known(one):
      return one._replace(arm=places[one.arm])

    told = [one._replace(attempt=known(one.attempt)) for one in before]
    said = verify(place, known(attempt), outcome, told)
    return said._replace(
      gains=None if said.gains is None else said.gains[list(places)],
      cost=None if said.cost is None else said.cost[list(places)],
    )

  return decide


def _rewarded(arm: budget_policies.Arm) -> bool:
  if arm_text.kind(arm.decoder) != arm_text.SEARCH:
    return False
  return decoder_text.cached(arm.decoder).needs_reward


def _in_parts(arm: budget_policies.Arm) -> bool:
  return call_text.parse(arm.decoder, "arm", "parts()")[0] == "parts"


def ranks_of(arms: Sequence[budget_policies.Arm]) -> tuple[int, ...]:
  """One rank a run of arms of one model and decoder."""
  found, rank = [], -1
  for place, arm in enumerate(arms):
    rank += not place or arm.search != arms[place - 1].search
    found.append(rank)
  return tuple(found)


def parse(
  text: str,
  engines: Sequence[str],
  each: budget_lib.Budget,
  *,
  style: str,
  sampling: solve_recipe.SamplingOptions,
) -> ComposedPolicy:
  """The policy that a text describes; see the module docstring.

  Args:
    text: what it is made of.
    engines: names of the models.
    each: the mean budget of a problem.
    style: how solutions are asked for.
    sampling: how tokens are drawn.

  Raises:
    ValueError: in one line, if the text is malformed, a stage, an arm, a model
      or an argument is unknown (the nearest is named), or a value is refused.
  """
  said = stage_text.parts(text)
  fitted = _fitted(said.get("route", "first"))
  arms = tuple(
    _arm(one, engines, each, sampling)
    for one in stage_text.arms(said.get("decode", ""))
  )
  if fitted is not None:
    for arm in arms:
      if arm not in fitted.arms:
        raise ValueError(
          f"policy: the fitted route knows no arm {arm.label!r}; expected some "
          f"of {', '.join(one.label for one in fitted.arms)}"
        )
    arms = arms or fitted.arms
    style, sampling = fitted.style, fitted.sampling
  elif not arms:
    raise ValueError(
      f"policy {text!r} says no arms; expected a part such as "
      "decode=best_of_n(n=4) + guided(budget=14)"
    )
  cascade = fitted is not None and fitted.cascade is not None
  return ComposedPolicy(
    arms,
    each,
    style,
    sampling,
    ranks_of(arms),
    (_SHARES,) * len(arms),
    (np.inf,) * len(arms),
    said.get("plan", "whole"),
    said.get("verify", _CASCADE if cascade else "doubt"),
    fitted,
  )


def _fitted(text: str) -> budget_policies.BudgetPolicy | None:
  name, said = call_text.parse(text, "route", "fitted(policy='mine.npz')")

  def first() -> None:
    return None

  def fitted(*, policy: str) -> budget_policies.BudgetPolicy:
    return budget_policies.load(policy)

  known = {"first": first, "fitted": fitted}
  arguments = call_text.checked(name, said, known, "route")
  return known[name](**arguments)


def _arm(said, engines, each, sampling) -> budget_policies.Arm:
  text, cap, model = said
  if not model and "" not in engines:
    raise ValueError(
      f"policy: arm {text!r} says no model; expected one of "
      f"{', '.join(engines)}, as in '{next(iter(engines))}: {text}'"
    )
  if model not in engines:
    problems_lib.require_name(model, list(engines), "model of the policy")
  if cap is None:
    cap = each.generated_tokens or sampling.max_tokens
    if arm_text.check(text) == arm_text.THOUGHT:
      cap = sampling.max_tokens
  return budget_policies.Arm(text, cap, model)
