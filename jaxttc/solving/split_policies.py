# SPDX-License-Identifier: Apache-2.0
"""A budget policy that splits FLOPs between solutions and checks of them.

    engine = loading.load_models("arithmetic_lm", "arithmetic_verifier")
    rows = policy_solving.solve(
      problems, engine, cost.Budget(flops=5e9), policy="solve_or_verify"
    )

An arm draws S solutions, then has each verified V times by a generative
verifier and keeps the best or the best-weighted answer; V = 0 is a vote. Which
S and V a budget is best split into was measured on pilot problems
(`measured_splits`), and `allocators.solve_or_verify.allocate` picks them: for
the mean budget, and for less and more of it. All problems are alike to it, so
the pool gives most of them the arm of the mean budget, the last ones what is
left.

A search is held to what its split is expected to cost and one solution more:
a solution is only begun when the longest there can be, with the longest checks,
is paid for.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from jaxttc.allocators import policies, solve_or_verify
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import verification_tariff
from jaxttc.decoders import base as decoders_base
from jaxttc.evaluation import verification_curves
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import local_prices
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  budget_policies,
  decoder_text,
  measured_splits,
  served_models,
)
from jaxttc.tasks import problems as problems_lib

NAME = "solve_or_verify"
_SHARES = (0.25, 0.5, 1.0, 2.0)  # of the mean budget; the last ones come late
_DECODERS = {
  "best_of_n": "best_of_n(n={}, verifications={})",
  "weighted_sc": "weighted_best_of_n(n={}, verifications={})",
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SplitPolicy:
  """Arms of S solutions and V verifications; see the module.

  Attributes:
    measured: what splits are worth.
    arms: one a split.
    splits: of each arm.
    success: of each arm, as measured on the pilot problems.
    expected: mean FLOPs of each arm's search.
    most: FLOPs that it is held to.
  """

  measured: measured_splits.MeasuredSplits
  arms: tuple[budget_policies.Arm, ...]
  splits: tuple[solve_or_verify.Split, ...]
  success: tuple[float, ...]
  expected: tuple[float, ...]
  most: tuple[float, ...]

  @property
  def style(self) -> str:
    """How solutions are asked for, one of `tasks.problems.STYLES`."""
    return self.measured.style

  @property
  def fingerprint(self) -> str:
    """Sixteen hex digits that tell apart any two policies."""
    content = [self.measured.described(), self.arms, self.most]
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(f"{NAME} {text}".encode()).hexdigest()[:16]

  def check_fields(self, fields: Sequence[str]) -> None:
    """Refuses budgets but of FLOPs.

    Raises:
      ValueError: naming the field.
    """
    if tuple(fields) != ("flops",):
      raise ValueError(
        f"budget: {NAME} splits FLOPs, the one price that a solution and a "
        f"check share; expected flops alone, got {', '.join(fields)}"
      )

  def check_models(
    self,
    engines: Mapping[
      str, tuple[bundle_lib.Bundle | None, bundle_lib.Bundle | None]
    ],
  ) -> None:
    """Refuses models other than those measured; `make` has looked already."""
    _check_models(self.measured, engines)

  def build(
    self, decoder: str
  ) -> tuple[decoders_base.Decoder, settings_lib.SearchSettings]:
    """A decoder of the policy, and how its tokens are drawn."""
    sampling = self.measured.sampling
    return decoder_text.cached(decoder), sampling.build_for(decoder)

  def limits(self, arm: int, fields: Sequence[str]) -> budget_lib.Budget:
    """What a search of an arm is held to."""
    del fields
    return budget_lib.Budget(flops=self.most[arm])

  def compose(
    self,
    problems: Sequence[problems_lib.Problem],
    fields: Sequence[str],
    decode: policies.Decode,
    engines: Mapping[str, Any] | None = None,
  ) -> tuple[budget_policies.Predicted, policies.Policy]:
    """What is expected of each arm, and the policy for `policies.Run`.

    Args:
      problems: those to be asked, at least one.
      fields: that the budget limits: FLOPs.
      decode: carries a wave out; its results are `runtime.SearchResult`s.
      engines: not read.
    """
    del engines
    self.check_fields(fields)
    rows = len(problems)
    score = np.tile(np.array(self.success), (rows, 1))
    cost = np.tile(np.array(self.expected)[:, None], (rows, 1, 1))
    written = [
      split.solutions * self.measured.solution_tokens for split in self.splits
    ]
    composed = policies.compose(
      np.array(self.most)[:, None],
      np.array([arm.cap for arm in self.arms]),
      budget_policies.search_groups(self.arms),
      route=lambda _: policies.Forecast(score, cost),
      decode=decode,
    )
    tokens = np.tile(np.array(written), (rows, 1))
    return budget_policies.Predicted(score, tokens), composed


def is_one(name: str) -> bool:
  """Whether a policy's name or file is of a policy of this kind."""
  return name == NAME or pathlib.Path(name).suffix == ".json"


def make(
  measured: measured_splits.MeasuredSplits,
  engines: Mapping[str, served_models.Engine],
  each: budget_lib.Budget,
) -> SplitPolicy:
  """The policy of two models under a budget.

  Args:
    measured: what their splits are worth.
    engines: the solver and its verifier, under the name "".
    each: the mean budget of a problem, in FLOPs.

  Raises:
    ValueError: if the models are others, or not in this process; if the budget
      limits anything but FLOPs, or does not pay for one solution.
  """
  bundles = {
    name: (None, None) if isinstance(engine, served_models.Served) else engine
    for name, engine in engines.items()
  }
  policy, judge = _check_models(measured, bundles)
  limits = each.validate().as_dict()
  settings = measured.sampling.build()
  solver, _ = local_prices.local_tariff(policy, settings.hardware, "policy")
  verifier, _ = local_prices.local_tariff(judge, settings.hardware, "verifier")
  reader, _ = local_prices.local_tariff(policy, settings.hardware, "prompt")
  costs = measured.costs(solver, verifier)
  # Beside its solutions a search reads its prompt.
  prompt = round(measured.read_tokens - measured.solution_tokens)
  read = reader.prompt(max(prompt, 1)).flops
  unit = float(costs.flops(1, 0))
  mean = limits.get("flops", np.inf)
  if set(limits) != {"flops"} or not np.isfinite(mean):
    raise ValueError(
      f"budget: {NAME} splits FLOPs, the one price that a solution and a check "
      f"share; expected flops alone, got {', '.join(limits) or 'no limit'}"
    )
  if mean < read + unit:
    raise ValueError(
      f"budget: flops={mean:g} does not pay for one solution, which takes "
      f"{read + unit:.3g} with its prompt"
    )
  kept: dict[str, tuple[solve_or_verify.Split, float]] = {}
  for share in _SHARES:
    units = (share * mean - read) / unit
    if units >= 1:
      text, split, success = _best(measured, costs, units)
      kept.setdefault(text, (split, success))
  splits = tuple(split for split, _ in kept.values())
  expected = tuple(read + float(costs.flops(*split)) for split in splits)
  worst = tuple(
    solver.price(settings.max_tokens, prompt).flops
    + _longest_checks(verifier, settings, prompt, split.verifications)
    for split in splits
  )
  return SplitPolicy(
    measured=measured,
    arms=tuple(
      budget_policies.Arm(text, split.solutions * settings.max_tokens)
      for text, split in zip(kept, splits, strict=True)
    ),
    splits=splits,
    success=tuple(success for _, success in kept.values()),
    expected=expected,
    most=tuple(map(float, np.add(expected, worst))),
  )


def _best(
  measured: measured_splits.MeasuredSplits,
  costs: solve_or_verify.SplitCosts,
  units: float,
) -> tuple[str, solve_or_verify.Split, float]:
  """The best decoder and split of a budget, in units of one solution."""
  found = []
  for method, surface in measured.surfaces.items():
    model = verification_curves.measured_model(costs, measured.voted, surface)
    split = solve_or_verify.allocate(units, model)
    success = model.success(*(np.array([number]) for number in split))
    text = _DECODERS[method].format(*split)
    if not split.verifications:
      text = f"self_consistency(n={split.solutions})"
    found.append((text, split, float(success[0])))
  return max(found, key=lambda one: one[2])


def _longest_checks(verifier, settings, prompt: int, samples: int) -> float:
  """FLOPs of checking the longest solution in the longest way."""
  if not samples:
    return 0.0
  tariff = verification_tariff.VerificationTariff(
    model=verifier,
    samples=samples,
    limit=settings.checks.max_tokens,
    beside=8,  # the request, and the line end before it
  )
  return float(tariff.price(settings.max_tokens, prompt).flops)


def _check_models(
  measured, engines
) -> tuple[bundle_lib.Bundle, bundle_lib.Bundle]:
  if set(engines) != {""}:
    raise ValueError(
      f"policy: {NAME} asks one model, got {sorted(engines)}; leave the router "
      "out"
    )
  pair = engines[""]
  if None in pair:
    raise ValueError(
      f"policy: {NAME} needs a language model and a generative verifier, both "
      "in this process"
    )
  for what, bundle, known in zip(
    ("language model", "generative verifier"),
    pair,
    measured.models,
    strict=True,
  ):
    if bundle.weights_fingerprint != known:
      raise ValueError(
        f"policy: {NAME} was measured with the {what} {known}, got "
        f"{bundle.weights_fingerprint}; measure yours "
        "(solving.measured_splits), or give the one that ships "
        "(--reward=arithmetic_verifier)"
      )
  return pair
